"""What is known of a backbone whose weights are published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ltjax.models.backbones.weights import Layout

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Architecture(NamedTuple):
  """A backbone, its weights and the pictures that these were trained on.

  Attributes:
    module: `(size, dtype, tune, width) -> flax module`, whose call maps
      normalised fp32 `[B, size, size, 3]` and `train` to fp32 features
      `[B, D]`; `tune` and `width` are those of `models.create`, for families
      that add parameters for them.
    feature_dim: D.
    size: pixels of the square input.
    stride: pixels that the input must have at least.
    normalization: mean and standard deviation a channel, on the scale [0, 1].
    resample: how pictures are brought to the size, `bilinear` or `bicubic`.
    layouts: `size -> layouts` of its weights.
    last_block: pattern of what `tune=last_block` trains, by paths such as
      `blocks_3/conv/kernel`.
    tunes: values of `tune` beyond those that any backbone has.
    whole: whether the size must be a multiple of the stride, as of a ViT.
    package: the Python package whose data the weights are, or empty.
  """

  module: Callable[[int, Any, str, int], Any]
  feature_dim: int
  size: int
  stride: int
  normalization: tuple[Sequence[float], Sequence[float]]
  resample: str
  layouts: Callable[[int], tuple[Layout, ...]]
  last_block: str
  tunes: tuple[str, ...] = ()
  whole: bool = False
  package: str = ""
