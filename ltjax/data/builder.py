"""Building a task: from the settings of `config.data` to images in place.

The order matters: sets are loaded, classes taken out where irrelevant images
are asked for, the split drawn or read, and only then are images put where they
belong, the labeled ones first and the unlabeled ones behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from jax.sharding import Mesh
import numpy as np

from ltjax import require
from ltjax.augment import transforms as transforming
from ltjax.data import class_file
from ltjax.data import copies as copying
from ltjax.data import task as tasks
from ltjax.data.files import decoding as decodings
from ltjax.data.host import host_images
from ltjax.data.host import storage as storing
from ltjax.data.parts import group_by as grouping
from ltjax.data.parts import grouped
from ltjax.data.sources import folders
from ltjax.data.sources import given as givens
from ltjax.data.sources import labeled as sources
from ltjax.data.sources import unlabeled as pools
from ltjax.data.splits import draw as splits
from ltjax.data.splits import groups as ranks
from ltjax.data.splits import (
  irrelevant,
  probe_set,
  record,
  settings,
)
from ltjax.devices import sharding


def build(
  *,
  source: str,
  labeled: Mapping[str, Any],
  unlabeled: Mapping[str, Any],
  validation: Mapping[str, Any],
  probe: Mapping[str, Any] | None = None,
  order: str = "shuffled",
  groups: tuple[int, ...] = (),
  split_file: str = "",
  image_size: int = 0,
  test_fraction: float = 0.2,
  pad: int = 4,
  pad_mode: str = "zero",
  flip: str = "auto",
  group_counts: tuple[int, ...] = (),
  classes: str = "",
  root: str = "",
  columns: Mapping[str, str] | None = None,
  group_by: str = "",
  resize: str = "stretch",
  augment: str = "crop_flip",
  crop_size: int = 0,
  storage: str = "device",
  cache: str = "",
  workers: int = 0,
  copies: str = "ignore",
  broken: str = "error",
  pixel_range: str = "auto",
  background: str = "white",
  pages: str = "error",
  seed: int,
  mesh: Mesh,
  data_dir: str | None = None,
  given: givens.Given | None = None,
) -> tasks.Task:
  """Loads a data set, splits it and puts it where it belongs.

  Args:
    source: name of the data set, see `ltjax.data.sources.labeled`.
    labeled: profile of the labeled set, see `ltjax.data.splits.draw`.
    unlabeled: profile, source and relevance of the unlabeled set.
    validation: size of the validation split, or the file that names it.
    probe: the probe set, see `ltjax.data.splits.probe_set`; None for none.
    order: whether a class is drawn `shuffled` or in `file` order.
    groups: class counts of (many, medium, few), by rank; empty for the default.
    split_file: a saved split to reproduce, instead of building one.
    image_size: resize all images, a pool's too, to a square of so many pixels;
      0 to leave them.
    test_fraction: share of a set without test part that becomes its test part.
    pad: pixels of random cropping.
    pad_mode: what they show, see `ltjax.augment.crop_flip`.
    flip: `on`, `off` or `auto` (on where the set's classes allow it).
    group_counts: groups by labeled images instead of by rank: classes with more
      than the first number are many-shot, with at most the second few-shot.
    classes: the order of the classes, by names, see `class_file.order`; empty
      for the set's own.
    root: the folder that the paths in list files and tables start from.
    columns: the names of a table's columns; empty for the usual ones.
    group_by: what images have in common that stay on one side of every split: a
      table's column, or a pattern on paths; empty for nothing.
    resize: whether pictures are brought to `image_size` by `stretch` or `crop`.
    augment: how training augments, see `ltjax.augment.transforms`.
    crop_size: pixels of the network's input; 0 for those of the images.
    storage: whether images live on the `device` or on the `host`.
    cache: folder for decoded pictures on the host; none if empty.
    workers: processes that decode pictures; 0 for threads.
    copies: what to do with test images that are also learned from, see
      `ltjax.data.copies`.
    broken: whether a broken picture is an `error` or left out (`skip`).
    pixel_range, background, pages: what becomes of pictures that are not 8-bit
      grey or RGB, see `ltjax.data.files.decoding`.
    seed: of the split.
    mesh: the devices.
    data_dir: where data sets live.
    given: arrays at hand, which `source` names; None to load it.

  Returns:
    The task.

  Raises:
    FileNotFoundError: if a file or a set is missing.
    ValueError: for anything that does not fit, with the way out.
  """
  wanted = settings.complete("unlabeled", unlabeled, settings.UNLABELED)
  decoding = decodings.make(pixel_range, background, pages)
  require.choice("data.broken", broken, folders.BROKEN)
  pictures = storing.reader(
    (source, wanted["source"]),
    place=storage,
    image_size=image_size,
    resize=resize,
    cache=cache,
    processes=workers,
    decoding=decoding,
  )
  if pictures and broken == "skip":
    raise ValueError(
      "data.broken is 'skip', but these pictures are decoded while training,"
      " when the split is drawn. python -m ltjax.data.check lists those that"
      " are broken: remove them, and leave data.broken at 'error'."
    )
  data = sources.load(
    source,
    data_dir=data_dir,
    image_size=image_size or None,
    test_fraction=test_fraction,
    seed=seed,
    root=root,
    pictures=pictures,
    given=given.content if given else None,
    columns=columns,
    group_by=group_by,
    unlabeled=wanted["source"] == "found",
    decoding=decoding,
    broken=broken,
  )
  if wanted["source"] == source and source.startswith("csv:"):
    raise ValueError(
      f"data.unlabeled.source is {source!r}, as data.source: pictures to test"
      " on would be among the unlabeled ones. Set it to 'found' for rows"
      " without a class, or to 'train'."
    )
  name, others, class_names = wanted["irrelevant"], None, data.class_names
  held = irrelevant.held_out(name, data)
  if held:
    if len(data.validation) or data.groups is not None:
      raise ValueError(
        f"data.unlabeled.irrelevant is {name!r}, which takes classes out of a"
        f" set, and {data.name} has validation images or groups of its own:"
        " name another set."
      )
    data, others = irrelevant.take_out(data, held)
  require.choice("data.flip", flip, ("auto", "on", "off"))
  transforming.check(
    image_shape=data.image_shape,
    augment=augment,
    pad=pad,
    crop_size=crop_size,
    pad_mode=pad_mode,
  )
  if len(data.test_labels) == 0:
    raise ValueError(
      f"{data.name} has no test images; set data.test_fraction above 0."
    )
  pool = None
  if wanted["source"] not in ("train", "found"):
    pool = pools.load_pool(
      wanted["source"],
      image_shape=data.image_shape,
      resize=image_size > 0,
      data_dir=data_dir,
      root=root,
      pictures=pictures,
      given=given.pool if given else None,
      columns=columns,
      class_names=class_names,
      decoding=data.decoding,
      broken=broken,
    )
    if held:
      pool = irrelevant.take_out_of_pool(pool, held, len(class_names))
  if classes and given:
    raise ValueError(
      f"data.classes is {classes!r}, and these images were handed over as"
      " arrays, whose labels have an order: leave it empty."
    )
  if classes:
    data, pool = _ordered(data, pool, classes)
  data, pool = copying.settle(data, pool, copies, pool_source=wanted["source"])
  split = record.Split.load(split_file) if split_file else None
  data, validation, held_out = _hold_out(data, validation, split, seed)
  if wanted["source"] == "found":
    pool = _found(data)
  mixed = wanted["relevance"] < 1 or (split and len(split.irrelevant))
  if name and mixed and others is None:
    others = irrelevant.load(name, data, data_dir=data_dir)
  labels_of = {
    "pool_labels": None if pool is None else pool.labels,
    "irrelevant_labels": None if others is None else others.labels,
  }
  if split:
    record.check(split, data.train_labels, **labels_of)
    if not len(split.probe):
      split = probe_set.add(
        split, data.train_labels, probe or {}, class_names=data.class_names
      )
  else:
    split = splits.build(
      data.train_labels,
      num_classes=len(data.class_names),
      labeled=labeled,
      unlabeled=unlabeled,
      validation=validation,
      probe=probe,
      order=order,
      seed=seed,
      class_names=data.class_names,
      held=held_out,
      **labels_of,
    )
  understood = _check_groups(data, split)
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
  return tasks.Task(
    images=put(host_images.concatenate(parts)),
    labels=sharding.replicate(
      data.train_labels[split.labeled].astype(np.int32), mesh
    ),
    truth=truth.astype(np.int32),
    test_images=put(data.test_images),
    test_labels=data.test_labels,
    validation_images=put(data.train_images[split.validation]),
    validation_labels=data.train_labels[split.validation],
    probe_images=put(data.train_images[split.probe]),
    probe_labels=data.train_labels[split.probe].astype(np.int32),
    labeled_groups=None if data.groups is None else data.groups[split.labeled],
    class_names=data.class_names,
    groups=ranks.choose(
      split.labeled_counts, sizes=groups, limits=group_counts
    ),
    split=split,
    mean=data.mean,
    std=data.std,
    pad=pad,
    pad_mode=pad_mode,
    flip=data.flip if flip == "auto" else flip == "on",
    augment=augment,
    crop_size=crop_size,
    resize=resize,
    decoding=data.decoding,
    understood="\n".join(
      filter(None, [understood, pool.understood if pool else ""])
    ),
  )


def _ordered(
  data: sources.Dataset, pool: pools.Pool | None, classes: str
) -> tuple[sources.Dataset, pools.Pool | None]:
  """Returns a set and its pool with the classes in another order."""
  order = class_file.order(classes, data.class_names, field="data.classes")
  number = np.append(np.argsort(order), -1).astype(np.int32)  # -1 stays
  data = dataclasses.replace(
    data,
    train_labels=number[data.train_labels],
    test_labels=number[data.test_labels],
    class_names=tuple(data.class_names[c] for c in order),
  )
  if pool is not None:
    # What is no class of the set stays so, and is refused further on.
    known = pool.labels < len(order)
    labels = np.where(
      known, number[np.where(known, pool.labels, -1)], pool.labels
    )
    pool = dataclasses.replace(pool, labels=labels.astype(np.int32))
  return data, pool


def _hold_out(
  data: sources.Dataset,
  validation: Mapping[str, Any],
  split: record.Split | None,
  seed: int,
) -> tuple[sources.Dataset, Mapping[str, Any], np.ndarray]:
  """Chooses validation images where this is not for the draw.

  Returns:
    The set, without unlabeled images of their groups; the settings that are
    left for the draw; and the images, int64 `[V]`, which may be none.
  """
  held = data.validation
  if data.groups is None or len(held):
    return data, validation, held
  asked = settings.complete("validation", validation, settings.VALIDATION)
  if split:
    held = split.validation[split.validation < len(data.groups)]
  elif asked["per_class"]:
    held = grouped.validation(
      data.train_labels,
      data.groups,
      asked["per_class"],
      seed=seed,
      names=data.class_names,
    )
    validation = asked | {"per_class": 0}
  if data.unlabeled is None or data.unlabeled_groups is None:
    return data, validation, held
  clear = ~np.isin(data.unlabeled_groups, data.groups[held])
  if not clear.all():
    told = grouping.left_out(int((~clear).sum()))
    data = dataclasses.replace(
      data,
      unlabeled=data.unlabeled[clear] if clear.any() else None,
      unlabeled_groups=data.unlabeled_groups[clear],
      understood=f"{data.understood}; {told}",
    )
  return data, validation, held


def _check_groups(data: sources.Dataset, split: record.Split) -> str:
  """Raises a ValueError if a split goes through groups; returns what to tell.

  Of a set with validation images of its own, its reader has looked.
  """
  if data.groups is None or len(data.validation) or not len(split.validation):
    return data.understood
  used = [split.labeled]
  if split.unlabeled_from == "train":
    used.append(split.unlabeled)
  grouped.check(data.groups, split.validation, np.concatenate(used))
  count = len(np.unique(data.groups[split.validation]))
  return f"{data.understood}\nvalidation   {count:,} of these groups"


def _found(data: sources.Dataset) -> pools.Pool:
  """Returns the unlabeled images that a set came with."""
  if data.unlabeled is None:
    raise ValueError(
      "data.unlabeled.source is 'found', but among the files of"
      f" {data.name} are none without a label. Set it to folder:PATH, or to"
      " 'train' to draw them from the labeled ones."
    )
  return pools.Pool(data.unlabeled, np.full(len(data.unlabeled), -1, np.int32))
