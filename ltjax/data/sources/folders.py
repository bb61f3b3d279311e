"""Folders of pictures, one sub-folder per class; `layouts` says which.

Classes are numbered in the order of their sorted names. Pictures may lie deeper
inside a class folder. What is passed over is told, and a picture that cannot be
decoded is an error.
"""

from __future__ import annotations

import pathlib

import numpy as np

from ltjax.data.files import images
from ltjax.data.sources import contents, layouts


def read_classes(
  path: str | pathlib.Path,
  *,
  image_size: int | None = None,
  unlabeled: bool = True,
) -> contents.Read:
  """Reads the parts and class names of a folder with class sub-folders.

  Pictures are RGB unless all of them, in both parts, are greyscale.

  Args:
    path: The folder.
    image_size: Resize every picture to this square; None if all have one size.
    unlabeled: Read pictures without label too, if there are any.

  Raises:
    FileNotFoundError: No such folder.
    ValueError: No classes or pictures, a damaged picture, a test class without
      training folder, or mixed sizes without `image_size`.
  """
  found = find_classes(path, unlabeled=unlabeled)
  parts = (found.train, found.test, found.validation)
  files = [part.files for part in parts if part]
  if found.unlabeled:
    files.append(found.unlabeled)
  pixels = read_files([file for part in files for file in part], image_size)
  split = iter(np.split(pixels, np.cumsum([len(part) for part in files[:-1]])))
  return contents.opened(found, lambda _: next(split))


def find_classes(
  path: str | pathlib.Path, *, unlabeled: bool = True
) -> contents.Found:
  """As `read_classes`, without reading pictures."""
  return layouts.understand(path, unlabeled=unlabeled)


def read_files(
  files: list[pathlib.Path], image_size: int | None = None
) -> np.ndarray:
  """Decodes pictures, at least one, into one array.

  Returns uint8 `[N, H, W, 3]`, or `[N, H, W, 1]` if all are greyscale. A
  damaged picture is a ValueError, as are several sizes without `image_size`.
  """
  arrays = []
  for file in files:
    arrays.append(images.to_array(images.read_image(file), image_size))
    size, first = arrays[-1].shape[:2], arrays[0].shape[:2]
    if size != first:
      raise ValueError(
        f"{file} is {size[1]} x {size[0]}, but {files[0]} is {first[1]} x "
        f"{first[0]}. Set image_size to resize all pictures to one square."
      )
  channels = max(array.shape[2] for array in arrays)
  out = np.empty((len(arrays), *arrays[0].shape[:2], channels), np.uint8)
  for i, array in enumerate(arrays):
    out[i] = array  # Greyscale repeats over the channels.
  return out
