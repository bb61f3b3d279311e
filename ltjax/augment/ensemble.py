"""Test-time ensembling: an image seen in several ways, and the mean of logits.

`flip` sees the image and its mirror. `crops` sees five windows of 224/248 of
the image's sides, in the middle and in the corners, each brought to the
network's size: of a picture brought to 248 pixels the windows of 224.

Source: Shi et al. (2024), "Long-tail learning with foundation model: heavy
  fine-tuning hurts" (LIFT), Section 5, for the five windows of a picture
  enlarged by 24 pixels, and the mean of their logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax import require
from ltjax.augment import crop_flip, transforms

NAMES = ("plain", "flip", "crops")
_SHARE = 224 / 248


class Views(NamedTuple):
  """How images are seen in testing.

  Attributes:
    name: one of `NAMES`.
    count: views beside the plain image.
    apply: `(view [] int32, uint8 [B, H, W, C]) -> float`, what the network
      takes.
    with_plain: whether the plain image is one of those averaged.
  """

  name: str
  count: int
  apply: Callable[[jax.Array, jax.Array], jax.Array]
  with_plain: bool = True

  @property
  def averaged(self) -> tuple[int | None, ...]:
    """The views to average, None for the plain image."""
    return (*((None,) if self.with_plain else ()), *range(self.count))


PLAIN = Views("plain", 0, lambda view, images: images)


def make(
  name: str,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  dtype: Any = jnp.float32,
  crop_size: int = 0,
  resized: bool = True,
) -> Views:
  """Returns the views of a name.

  Args:
    name: one of `NAMES`.
    mean, std, dtype, crop_size: as of `transforms.make`.
    resized: whether windows are brought to the network's size here, bilinear
      and antialiased; else the network does so.

  Raises:
    ValueError: if the name is unknown.
  """
  require.choice("eval.views", name, NAMES)
  normalize = functools.partial(
    crop_flip.normalize, mean=mean, std=std, dtype=dtype
  )
  _, test_transform = transforms.make(
    mean=mean, std=std, dtype=dtype, crop_size=crop_size
  )

  def flip(view: jax.Array, images: jax.Array) -> jax.Array:
    del view
    return test_transform(images[:, :, ::-1])

  def crop(view: jax.Array, images: jax.Array) -> jax.Array:
    part = window(view, images)
    if resized:
      size = (crop_size, crop_size) if crop_size else images.shape[1:3]
      shape = (len(part), *size, part.shape[3])
      part = jax.image.resize(part.astype(jnp.float32), shape, "linear")
      part = jnp.clip(jnp.round(part), 0, 255).astype(images.dtype)
    return normalize(part)

  return {
    "plain": PLAIN,
    "flip": Views("flip", 1, flip),
    "crops": Views("crops", 5, crop, with_plain=False),
  }[name]


def window(view: jax.Array, images: jax.Array) -> jax.Array:
  """Returns a window of each image, `[B, h, w, C]`.

  Args:
    view: `[]` int32: 0 for the middle, 1 to 4 for the corners.
    images: `[B, H, W, C]`; h and w are the nearest to 224/248 of H and W.
  """
  sides = images.shape[1:3]
  shape = tuple(max(1, round(n * _SHARE)) for n in sides)
  spare = [n - m for n, m in zip(sides, shape)]
  tops = jnp.array([spare[0] // 2, 0, 0, spare[0], spare[0]], jnp.int32)
  lefts = jnp.array([spare[1] // 2, 0, spare[1], 0, spare[1]], jnp.int32)
  zero = jnp.int32(0)
  return jax.lax.dynamic_slice(
    images,
    (zero, tops[view], lefts[view], zero),
    (len(images), *shape, images.shape[3]),
  )


def mean(logits: Sequence[jax.Array]) -> jax.Array:
  """Returns the mean of the logits of all views, `[B, C]`; of one, itself.

  Args:
    logits: of each view.
  """
  return logits[0] if len(logits) == 1 else jnp.stack(logits).mean(0)
