"""Folders of pictures, one sub-folder per class; `layouts` says which.

Classes are numbered in the order of their sorted names. Pictures may lie deeper
inside a class folder. What is passed over is told, and a picture that cannot be
decoded is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import pathlib
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ltjax import require
from ltjax.data.files import decoding as decodings
from ltjax.data.files import images, layouts, tree
from ltjax.data.parts import contents
from ltjax.data.parts import group_by as grouping

BROKEN = ("error", "skip")


class Pictures(NamedTuple):
  """Pictures of files, decoded.

  Attributes:
    pixels: uint8 `[K, H, W, 3]`, or `[K, H, W, 1]` if all are greyscale.
    kept: bool `[N]`, which of the files they are of.
    decoding: how they were decoded, with the range of values that was found.
    told: lines on what is left out, and on that range.
  """

  pixels: np.ndarray
  kept: np.ndarray
  decoding: decodings.Decoding
  told: tuple[str, ...]


def read_classes(
  path: str | pathlib.Path,
  *,
  image_size: int | None = None,
  unlabeled: bool = True,
  group_by: str = "",
  decoding: decodings.Decoding = decodings.DEFAULT,
  broken: str = "error",
) -> contents.Read:
  """Reads the parts and class names of a folder with class sub-folders.

  Pictures are RGB unless all of them, in all parts, are greyscale.

  Args:
    path: The folder.
    image_size: Resize every picture to this square; None if all have one size.
    unlabeled: Read pictures without label too, if there are any.
    group_by: A pattern on their paths, see `ltjax.data.parts.group_by`.
    decoding: What becomes of pixels that are not 8-bit grey or RGB. A range
      that it leaves open is that of the pictures for training, those that are
      held out of them included.
    broken: As of `read_files`.

  Raises:
    FileNotFoundError: No such folder.
    ValueError: A layout that is refused, a broken picture, or mixed sizes
      without `image_size`.
  """
  found = find_classes(path, unlabeled=unlabeled, group_by=group_by)
  parts = (found.train, found.test, found.validation)
  files = [part.files for part in parts if part]
  if found.unlabeled:
    files.append(found.unlabeled)
  read = read_files(
    [file for part in files for file in part],
    lambda image: images.to_array(image, image_size),
    decoding=decoding,
    broken=broken,
    training=len(found.train.files),
  )
  ends = np.cumsum([len(part) for part in files])
  of_each = np.split(read.kept, ends[:-1])
  kept = iter(of_each)
  placed = np.cumsum(read.kept)[ends[:-1] - 1]
  pixels = iter(np.split(read.pixels, placed))

  def part(listed: contents.Listed | None) -> contents.Part | None:
    if listed is None:
      return None
    return contents.Part(next(pixels), listed.labels[next(kept)])

  train = part(found.train)
  assert train is not None
  counts = np.bincount(train.labels, minlength=len(found.names))
  if 0 in counts:
    raise ValueError(
      f"{path}: all pictures of the class {found.names[counts.argmin()]} are"
      " broken. Replace them, or remove its folder."
    )
  theirs = found.unlabeled_groups
  return contents.Content(
    train,
    part(found.test),
    found.names,
    validation=part(found.validation),
    unlabeled=next(pixels) if found.unlabeled else None,
    groups=found.groups if found.groups is None else found.groups[of_each[0]],
    unlabeled_groups=theirs if theirs is None else theirs[of_each[-1]],
    understood="\n".join([found.understood, *read.told]),
    decoding=read.decoding,
  )


def find_classes(
  path: str | pathlib.Path, *, unlabeled: bool = True, group_by: str = ""
) -> contents.Found:
  """As `read_classes`, without reading pictures.

  Args:
    path, unlabeled, group_by: as of `read_classes`.
  """
  layout = layouts.understand(path, unlabeled=unlabeled)

  def part(listed: layouts.Listed | None) -> contents.Listed | None:
    return contents.Listed(*listed) if listed else None

  found = contents.Content(
    contents.Listed(*layout.train),
    part(layout.test),
    layout.names,
    validation=part(layout.validation),
    unlabeled=layout.unlabeled,
    understood=layout.understood,
  )
  if not group_by:
    return found
  return grouping.by_path(found, group_by, path, f"folder:{path}")


def read_files(
  files: Sequence[pathlib.Path],
  bring: Callable[[Any], np.ndarray],
  *,
  decoding: decodings.Decoding = decodings.DEFAULT,
  broken: str = "error",
  training: int = 0,
) -> Pictures:
  """Decodes pictures into one array; all that cannot be used are told at once.

  Args:
    files: The pictures.
    bring: From a picture of Pillow, `L` or `RGB`, to uint8 `[H, W, C]`.
    decoding: What becomes of pixels that are not 8-bit grey or RGB.
    broken: Whether a picture that is damaged, empty or unreadable is an
      `error`, or left out (`skip`). One of a kind that is not read is an error.
    training: So many of the files, the first, give the range of values that
      `decoding` leaves open.

  Raises:
    ValueError: Such pictures, none at all, or several sizes.
  """
  require.choice("data.broken", broken, BROKEN)
  arrays: list[Any] = [None] * len(files)
  refused: dict[int, str] = {}
  damaged: dict[int, str] = {}
  values: dict[int, tuple[float, float]] = {}

  def read(i: int) -> None:
    try:
      arrays[i] = bring(images.read_image(files[i], decoding=decoding))
    except decodings.KindError as error:
      refused[i] = str(error)
      if error.values:
        values[i] = error.values
    except (OSError, ValueError) as error:
      damaged[i] = str(error)

  for i in range(len(files)):
    read(i)
  told = []
  found = [value for i in values if i < training for value in values[i]]
  if found:
    low, high = min(found), max(found)
    decoding = decoding._replace(low=low, high=high if high > low else low + 1)
    for i in values:
      del refused[i]
      read(i)
    told.append(
      f"  {tree.counted(len(values))} of more than 8 bits: the values of those"
      f" for training, {low:g} ... {high:g}, become 0 ... 255"
      " (data.pixel_range)"
    )
    others = len(files) - len(values) - len(damaged)
    if others:
      told.append(f"  {tree.counted(others)} of 8 bits: as they are")
  errors = refused | damaged if broken == "error" else refused
  if errors:
    _refuse([errors[i] for i in sorted(errors)], len(files), len(damaged))
  kept = np.array([array is not None for array in arrays])
  if damaged:
    told.append(
      f"  left out (data.broken=skip): {tree.counted(len(damaged))}, such as"
      f" {damaged[min(damaged)]}"
    )
  there = np.flatnonzero(kept).tolist()
  if not there:
    raise ValueError(f"{files[0]}: neither it nor another picture can be read.")
  shape = arrays[there[0]].shape
  for i in there:
    size = arrays[i].shape[:2]
    if size != shape[:2]:
      raise ValueError(
        f"{files[i]} is {size[1]} x {size[0]}, but {files[there[0]]} is"
        f" {shape[1]} x {shape[0]}. Set image_size to resize all pictures to"
        " one square."
      )
  channels = max(arrays[i].shape[2] for i in there)
  out = np.empty((len(there), *shape[:2], channels), np.uint8)
  for place, i in enumerate(there):
    out[place] = arrays[i]  # Greyscale repeats over the channels.
    arrays[i] = None
  return Pictures(out, kept, decoding, tuple(told))


def _refuse(errors: list[str], count: int, damaged: int) -> NoReturn:
  """Raises a ValueError which lists pictures; a file has those not shown."""
  way_out = (
    " data.broken=skip leaves out those that are damaged." if damaged else ""
  )
  if len(errors) == 1:
    raise ValueError(errors[0] + way_out)
  raise ValueError(
    f"{len(errors):,} of {count:,} pictures cannot be used.{way_out}\n"
    f"{tree.listed(errors, 'broken_images_')}"
  )
