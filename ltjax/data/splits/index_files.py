"""Splits that others drew: files with the numbers of their images.

A long-tailed set may be published as one `.npy` file of integers for each part:
image numbers in the training set, in the order of its files. SDCLR (Jiang et
al. 2021) and what builds on it do so. Such a file takes the place of a draw,
and the counts are read off it.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import numpy as np

from ltjax.data.files import archives
from ltjax.data.splits import settings

Settings = settings.Settings


class Given(NamedTuple):
  """Sorted indices into the training set, int64; empty without a file."""

  labeled: np.ndarray
  validation: np.ndarray


def read(
  path: str, field: str, *, labels: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
  """Reads an index file: sorted indices, int64.

  Args:
    path, field: The `.npy` file, and the setting that names it, for messages.
    labels: `[N]` integers, the classes of the training images.
    names: `[C]` class names.

  Raises:
    FileNotFoundError: No such file.
    ValueError: Not a vector of integers, an index that no image has or that
      occurs twice, or a class without an image.
  """
  where = f"{field} {path!r}"
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise FileNotFoundError(
      f"{where}: no such file; leave {field} empty to have the images drawn"
    )
  ids = archives.read_npy(file)
  if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(
      f"{where}: it must hold a vector of integers; it holds {ids.dtype} of "
      f"shape {ids.shape}"
    )
  wrong = np.flatnonzero((ids < 0) | (ids >= len(labels)))
  if len(wrong):
    raise ValueError(
      f"{where}: index {ids[wrong[0]]} is out of range; the training set has "
      f"the images 0 ... {len(labels) - 1} ({len(wrong)} are not among them)"
    )
  ids, times = np.unique(ids.astype(np.int64), return_counts=True)
  if len(times) and times.max() > 1:
    raise ValueError(
      f"{where}: index {ids[times.argmax()]} occurs {times.max()} times; an "
      "image can be in a set once"
    )
  counts = np.bincount(labels[ids], minlength=len(names))
  for c in np.flatnonzero(counts == 0):
    raise ValueError(
      f"{where}: class {c} ({names[c]}) has no image in it, and every class "
      "needs one; is it a file for another set?"
    )
  return ids


def apply(
  labeled: Settings,
  validation: Settings,
  *,
  labels: np.ndarray,
  names: tuple[str, ...],
  held: np.ndarray | None = None,
) -> tuple[Settings, Settings, Given]:
  """Reads the index files of two blocks of settings, if they name any.

  Args:
    labeled, validation: Complete settings, see `settings.complete`.
    labels, names: as of `read`.
    held: indices of the validation images, where the set itself has some.

  Returns:
    Both blocks, with the counts of their files, and the images of the files.

  Raises:
    FileNotFoundError: A file is missing.
    ValueError: A file is wrong, does not go with another setting, or the two
      have an image in common.
  """
  none = np.zeros(0, np.int64)
  ours = held_out = none
  if labeled["index_file"]:
    for key in ("counts", "class_order", "fraction"):
      if labeled[key] != settings.LABELED[key]:
        raise ValueError(
          f"data.labeled.{key} is {labeled[key]} but data.labeled.index_file "
          "names the images: leave one of them as it is by default"
        )
    field = "data.labeled.index_file"
    ours = read(labeled["index_file"], field, labels=labels, names=names)
    counts = _tally(labels[ours], names)
    labeled = labeled | {"profile": "explicit", "counts": counts}
  if validation["index_file"]:
    field = "data.validation.index_file"
    held_out = read(validation["index_file"], field, labels=labels, names=names)
  if held is not None and len(held):
    for key in ("index_file", "per_class"):
      if validation[key]:
        raise ValueError(
          f"data.validation.{key} is {validation[key]!r} but the set comes with"
          f" {len(held)} validation images: leave {key} as it is by default, or"
          " move them among those to train on"
        )
    held_out = np.sort(held)
  if len(held_out):
    validation = validation | {"counts": _tally(labels[held_out], names)}
  both = np.intersect1d(ours, held_out)
  if len(both):
    raise ValueError(
      f"data.labeled.index_file and data.validation.index_file have "
      f"{len(both)} images in common, such as {both[0]}: validation images "
      "must not be labeled ones"
    )
  return labeled, validation, Given(ours, held_out)


def _tally(classes: np.ndarray, names: tuple[str, ...]) -> tuple[int, ...]:
  return tuple(np.bincount(classes, minlength=len(names)).tolist())
