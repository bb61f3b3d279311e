"""Unlabeled images that have none of the classes.

Their share decides whether unlabeled images help or hurt:
`data.unlabeled.relevance` is the share of those that do have one of the
classes; the others come from `data.unlabeled.irrelevant`:

    classes:8,9   these classes of the set itself. They are taken out of the
                  task, whatever the relevance: neither trained nor tested on.
    cifar100 ...  the training images of another set
    npz:PATH, folder:PATH, pickle:PATH, mat:PATH, svhn_extra     as for a pool

Images of another size or number of channels are fitted to those of the task.

Source: Yang & Xu 2020, section 3.3 ("Data Relevance under Imbalance").
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ltjax.data.files import images
from ltjax.data.sources import labeled
from ltjax.data.sources import unlabeled as pools
from ltjax.data.splits import settings


def held_out(name: str, data: labeled.Dataset) -> tuple[int, ...]:
  """Returns the classes of `classes:8,9`; none for any other name.

  They must be the set's and leave two or more, else a ValueError.
  """
  kind, _, text = name.partition(":")
  if kind != "classes":
    return ()
  try:
    held = {int(c) for c in text.split(",")}
  except ValueError:
    held = set()
  last = data.num_classes - 1
  if not held or min(held) < 0 or max(held) > last or len(held) >= last:
    raise ValueError(
      f"data.unlabeled.irrelevant is {name!r}: after classes: it needs numbers "
      f"from 0 to {last} with commas between them, and two classes of "
      f"{data.name} must be left."
    )
  return tuple(sorted(held))


def take_out(
  data: labeled.Dataset, held: tuple[int, ...]
) -> tuple[labeled.Dataset, pools.Pool]:
  """Returns a set without some classes, and their training images, as a pool.

  The other classes are renumbered in their order.
  """
  number = _numbers(held, data.num_classes)
  train, test = number[data.train_labels], number[data.test_labels]
  names = (n for c, n in enumerate(data.class_names) if c not in held)
  rest = dataclasses.replace(
    data,
    train_images=data.train_images[train >= 0],
    train_labels=train[train >= 0],
    test_images=data.test_images[test >= 0],
    test_labels=test[test >= 0],
    class_names=tuple(names),
  )
  gone = train < 0
  return rest, pools.Pool(data.train_images[gone], data.train_labels[gone])


def take_out_of_pool(
  pool: pools.Pool, held: tuple[int, ...], num_classes: int
) -> pools.Pool:
  """Returns a pool without those classes, the others renumbered.

  Args:
    pool: its labels are classes of the whole set, or -1, which stays; others
      are a ValueError.
    held: the classes.
    num_classes: of the whole set.
  """
  if pool.labels.max() >= num_classes:
    raise ValueError(
      f"the pool has the label {pool.labels.max()}, and the set only "
      f"{num_classes} classes"
    )
  labels = _numbers(held, num_classes)[pool.labels]
  return pools.Pool(pool.images[labels > -2], labels[labels > -2])


def _numbers(held: tuple[int, ...], num_classes: int) -> np.ndarray:
  """New numbers, int32 `[C + 1]`; -2 if held out, and -1 at the end, for -1."""
  stays = np.array([c not in held for c in range(num_classes)])
  numbers = np.where(stays, np.cumsum(stays) - 1, -2)
  return np.append(numbers, -1).astype(np.int32)


def load(
  name: str, data: labeled.Dataset, *, data_dir: str | None = None
) -> pools.Pool:
  """Loads the irrelevant images of any name but `classes:`.

  They have the shape of those of `data`, and labels of their own set, or -1.

  Args:
    name: `data.unlabeled.irrelevant`.
    data: the labeled set.
    data_dir: the data folder.

  Raises:
    FileNotFoundError: They are missing.
    ValueError: Unknown, damaged, or the labeled set itself.
  """
  if name == data.name:
    raise ValueError(
      f"data.unlabeled.irrelevant is {name!r}, the labeled set itself; name "
      "another set, or hold classes out of this one: classes:8,9"
    )
  kind, colon, _ = name.partition(":")
  if name == "svhn_extra" or kind in ("npz", "folder", "pickle", "mat"):
    found = pools.read(
      name,
      picture_shape=data.image_shape,
      data_dir=data_dir,
      decoding=data.decoding,
    )
    pixels, labels = found.images, found.labels
  else:
    try:
      other = labeled.load(name, data_dir=data_dir, test_fraction=0.0)
    except ValueError as error:
      raise ValueError(f"data.unlabeled.irrelevant: {error}") from None
    pixels, labels = other.train_images, other.train_labels
  fitted = images.fit(np.asarray(pixels), data.image_shape)
  return pools.Pool(fitted, labels)


def draw(
  count: int,
  labels: np.ndarray | None,
  *,
  unlabeled: settings.Settings,
  order: str,
  seed: list[int],
) -> np.ndarray:
  """Draws irrelevant images, int64 `[count]`; more of them keep these.

  Args:
    count, labels: How many, of `[Q]` images; None if none were loaded; too few
      are a ValueError.
    unlabeled: The settings, for messages.
    order, seed: as of `generators.of_rest`.
  """
  if not count:
    return np.zeros(0, np.int64)
  size = 0 if labels is None else len(labels)
  if count > size:
    raise ValueError(
      f"data.unlabeled.relevance is {unlabeled['relevance']:g}, which needs "
      f"{count} irrelevant images; {unlabeled['irrelevant']!r} has {size}: "
      "raise relevance, ask for fewer unlabeled images or name a larger set"
    )
  everyone = np.arange(size)
  if order == "shuffled":
    np.random.default_rng(seed).shuffle(everyone)
  return np.sort(everyone[:count])
