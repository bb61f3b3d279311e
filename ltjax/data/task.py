"""A task: what a method gets to see, and what only the evaluation sees.

A set of images and a split of it (which of them are labeled, unlabeled or held
out) become one array of images, on the device or on the host (`storage`): the
labeled ones first, the unlabeled ones behind them. The true labels of unlabeled
images stay on the host: they serve diagnostics, and as those of the probe set
they train the classifiers that judge a finished embedding. `builder` builds it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment import transforms as transforming
from ltjax.data import class_table as table
from ltjax.data.files import decoding as decodings
from ltjax.data.host import storage as storing
from ltjax.data.splits import record


@dataclasses.dataclass(frozen=True)
class Task:
  """A semi-supervised long-tailed recognition task.

  Attributes:
    images: uint8 `[N + M, H, W, C]`, labeled images first. These and those for
      testing are arrays, or `HostImages` that stand in for them.
    labels: int32 `[N]` on the device, of the labeled images.
    truth: int32 `[M]` on the host, true classes of the unlabeled images; -1
      where unknown, or where the image has none of the classes. No training
      stage reads it.
    test_images: uint8 `[T, H, W, C]`.
    test_labels: int32 `[T]` on the host.
    validation_images: uint8 `[V, H, W, C]`; V may be 0.
    validation_labels: int32 `[V]` on the host.
    class_names: one name a class.
    groups: class ids of the groups `many`, `medium` and `few`.
    split: the record of the split.
    mean, std: per channel, on the scale [0, 1].
    pad: pixels of random cropping.
    flip: whether training flips images horizontally.
    augment: how training augments, see `ltjax.augment.transforms`.
    crop_size: pixels of the network's input; 0 for those of the images.
    pad_mode: what the border of random cropping shows.
    resize: how pictures were brought to `H` and `W`, `stretch` or `crop`.
    decoding: how pixels that are not 8-bit grey or RGB were read.
    understood: what was made of the set's files; may be empty.
    probe_images: uint8 `[P, H, W, C]`, labeled images for evaluation alone;
      they may be those of `images` again. P may be 0.
    probe_labels: int32 `[P]` on the host, all of them true classes.
    labeled_groups: int32 `[N]` on the host, what labeled images have in common
      (`data.group_by`); None where that is not known.
  """

  images: jax.Array
  labels: jax.Array
  truth: np.ndarray
  test_images: jax.Array
  test_labels: np.ndarray
  validation_images: jax.Array
  validation_labels: np.ndarray
  class_names: tuple[str, ...]
  groups: dict[str, tuple[int, ...]]
  split: record.Split
  mean: tuple[float, ...]
  std: tuple[float, ...]
  pad: int
  flip: bool
  augment: str = "crop_flip"
  crop_size: int = 0
  pad_mode: str = "zero"
  resize: str = "stretch"
  decoding: decodings.Decoding = decodings.DEFAULT
  understood: str = ""
  probe_images: jax.Array = dataclasses.field(default=None)  # pyrefly: ignore
  probe_labels: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int32)
  )
  labeled_groups: np.ndarray | None = None

  def __post_init__(self):
    if self.probe_images is None:  # none, of the right shape
      object.__setattr__(self, "probe_images", self.images[:0])

  @property
  def num_classes(self) -> int:
    """`C`."""
    return len(self.class_names)

  @property
  def num_labeled(self) -> int:
    """`N`."""
    return len(self.labels)

  @functools.cached_property
  def unlabeled_images(self) -> jax.Array:
    """uint8 `[M, H, W, C]`; a copy, the same for all loops."""
    return self.images[self.num_labeled :]

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(H, W, C)` of the network's input."""
    height, width, channels = self.images.shape[1:]
    if self.crop_size:
      height = width = self.crop_size
    return height, width, channels

  @property
  def test_counts(self) -> tuple[int, ...]:
    """Test images of each class."""
    counts = np.bincount(self.test_labels, minlength=self.num_classes)
    return tuple(int(n) for n in counts)

  def class_table(self) -> str:
    """Returns the table of classes, with bars, to print before training."""
    rows = table.class_table(
      self.split, self.test_counts, self.class_names, self.groups
    )
    return f"{self.understood}\n\n{rows}" if self.understood else rows

  def storage_table(self) -> str:
    """Returns how many images there are, where, and their bytes."""
    sets = {"training": self.images, "test": self.test_images}
    if len(self.validation_labels):
      sets["validation"] = self.validation_images
    if len(self.probe_labels):
      sets["probe"] = self.probe_images
    return storing.describe(sets)

  def transforms(
    self, dtype: Any = jnp.float32
  ) -> tuple[transforming.Train, transforming.Test]:
    """Returns `(train_transform(key, images), test_transform(images))`."""
    return transforming.make(dtype=dtype, **self._transformed)

  def strong(self, dtype: Any, policy: str) -> transforming.Train:
    """Returns `transform(key, images)`, see `augment.transforms.strong`."""
    return transforming.strong(policy, dtype=dtype, **self._transformed)

  @property
  def _transformed(self) -> dict[str, Any]:
    names = ("mean", "std", "augment", "pad", "flip", "crop_size", "pad_mode")
    return {name: getattr(self, name) for name in names}
