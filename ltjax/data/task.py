"""A task: what a method gets to see, and what only the evaluation sees.

A `Dataset` (images with labels) and a `Split` (which of them are labeled,
unlabeled or held out) become one set of images, on the device or on the host
(`storage`): the labeled ones first, the unlabeled ones behind them. The true labels of the unlabeled
images stay on the host and serve diagnostics only.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from ltjax import sharding
from ltjax.augment import transforms as transforming
from ltjax.data import (
  host_images,
  irrelevant,
  pools,
  record,
  settings,
  sources,
  splits,
  table,
)
from ltjax.data import storage as storing
from ltjax.evaluation import groups as grouping


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
    mean: per channel, on the scale [0, 1].
    std: per channel, on the scale [0, 1].
    pad: pixels of random cropping.
    flip: whether training flips images horizontally.
    augment: how training augments, see `ltjax.augment.transforms`.
    crop_size: pixels of the network's input; 0 for those of the images.
    resize: how pictures were brought to `H` and `W`, `stretch` or `crop`.
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
  resize: str = "stretch"

  @property
  def num_classes(self) -> int:
    """`C`."""
    return len(self.class_names)

  @property
  def num_labeled(self) -> int:
    """`N`."""
    return len(self.labels)

  @property
  def unlabeled_images(self) -> jax.Array:
    """uint8 `[M, H, W, C]`."""
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
    return table.class_table(
      self.split, self.test_counts, self.class_names, self.groups
    )

  def storage_table(self) -> str:
    """Returns how many images there are, where, and their bytes."""
    sets = {"training": self.images, "test": self.test_images}
    if len(self.validation_labels):
      sets["validation"] = self.validation_images
    return storing.describe(sets)

  def transforms(
    self, dtype: Any = jnp.float32
  ) -> tuple[transforming.Train, transforming.Test]:
    """Returns `(train_transform(key, images), test_transform(images))`.

    Args:
      dtype: of the result.
    """
    return transforming.make(
      mean=self.mean,
      std=self.std,
      dtype=dtype,
      augment=self.augment,
      pad=self.pad,
      flip=self.flip,
      crop_size=self.crop_size,
    )


def build(
  *,
  source: str,
  labeled: Mapping[str, Any],
  unlabeled: Mapping[str, Any],
  validation: Mapping[str, Any],
  order: str = "shuffled",
  groups: tuple[int, ...] = (),
  split_file: str = "",
  image_size: int = 0,
  test_fraction: float = 0.2,
  pad: int = 4,
  flip: str = "auto",
  group_counts: tuple[int, ...] = (),
  root: str = "",
  resize: str = "stretch",
  augment: str = "crop_flip",
  crop_size: int = 0,
  storage: str = "device",
  cache: str = "",
  seed: int,
  mesh: Mesh,
  data_dir: str | None = None,
) -> Task:
  """Loads a data set, splits it and puts it where it belongs.

  Args:
    source: name of the data set, see `ltjax.data.sources`.
    labeled: profile of the labeled set, see `ltjax.data.splits`.
    unlabeled: profile, source and relevance of the unlabeled set.
    validation: size of the validation split.
    order: whether a class is drawn `shuffled` or in `file` order.
    groups: class counts of (many, medium, few), by rank; empty for the default.
    split_file: a saved split to reproduce, instead of building one.
    image_size: resize all images, a pool's too, to a square of so many pixels;
      0 to leave them.
    test_fraction: share of a set without test part that becomes its test part.
    pad: pixels of random cropping.
    flip: `on`, `off` or `auto` (on where the set's classes allow it).
    group_counts: groups by labeled images instead of by rank: classes with more
      than the first number are many-shot, with at most the second few-shot.
    root: the folder that the paths in list files start from.
    resize: whether pictures are brought to `image_size` by `stretch` or `crop`.
    augment: how training augments, see `ltjax.augment.transforms`.
    crop_size: pixels of the network's input; 0 for those of the images.
    storage: whether images live on the `device` or on the `host`.
    cache: folder for decoded pictures on the host; none if empty.
    seed: of the split.
    mesh: the devices.
    data_dir: where data sets live.

  Raises:
    ValueError: for anything that does not fit, with the way out.
  """
  wanted = settings.complete("unlabeled", unlabeled, settings.UNLABELED)
  pictures = storing.reader(
    (source, wanted["source"]),
    place=storage,
    image_size=image_size,
    resize=resize,
    cache=cache,
  )
  data = sources.load(
    source,
    data_dir=data_dir,
    image_size=image_size or None,
    test_fraction=test_fraction,
    seed=seed,
    root=root,
    pictures=pictures,
  )
  name, others, num_classes = wanted["irrelevant"], None, data.num_classes
  held = irrelevant.held_out(name, data)
  if held:
    data, others = irrelevant.take_out(data, held)
  if flip not in ("auto", "on", "off"):
    raise ValueError(f"data.flip is {flip!r}; choose on, off or auto.")
  transforming.check(
    image_shape=data.image_shape, augment=augment, pad=pad, crop_size=crop_size
  )
  if len(data.test_labels) == 0:
    raise ValueError(
      f"{data.name} has no test images; set data.test_fraction above 0."
    )
  pool = None
  if wanted["source"] != "train":
    pool = pools.load_pool(
      wanted["source"],
      image_shape=data.image_shape,
      resize=image_size > 0,
      data_dir=data_dir,
      root=root,
      pictures=pictures,
    )
    if held:
      pool = irrelevant.take_out_of_pool(pool, held, num_classes)
  split = record.Split.load(split_file) if split_file else None
  mixed = wanted["relevance"] < 1 or (split and len(split.irrelevant))
  if name and mixed and others is None:
    others = irrelevant.load(name, data, data_dir=data_dir)
  labels_of = {
    "pool_labels": None if pool is None else pool.labels,
    "irrelevant_labels": None if others is None else others.labels,
  }
  if split:
    record.check(split, data.train_labels, **labels_of)
  else:
    split = splits.build(
      data.train_labels,
      num_classes=len(data.class_names),
      labeled=labeled,
      unlabeled=unlabeled,
      validation=validation,
      order=order,
      seed=seed,
      class_names=data.class_names,
      **labels_of,
    )
  drawn_from = pool or pools.Pool(data.train_images, data.train_labels)
  parts = [
    data.train_images[split.labeled],
    drawn_from.images[split.unlabeled],
  ]
  truth = drawn_from.labels[split.unlabeled]
  if others and len(split.irrelevant):
    parts.append(others.images[split.irrelevant])
    truth = np.concatenate([truth, np.full(len(split.irrelevant), -1)])
  put = functools.partial(storing.put, place=storage, mesh=mesh)
  return Task(
    images=put(host_images.concatenate(parts)),
    labels=sharding.replicate(
      data.train_labels[split.labeled].astype(np.int32), mesh
    ),
    truth=truth.astype(np.int32),
    test_images=put(data.test_images),
    test_labels=data.test_labels,
    validation_images=put(data.train_images[split.validation]),
    validation_labels=data.train_labels[split.validation],
    class_names=data.class_names,
    groups=grouping.choose(
      split.labeled_counts, sizes=groups, limits=group_counts
    ),
    split=split,
    mean=data.mean,
    std=data.std,
    pad=pad,
    flip=data.flip if flip == "auto" else flip == "on",
    augment=augment,
    crop_size=crop_size,
    resize=resize,
  )
