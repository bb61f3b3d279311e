"""Folders of pictures, one sub-folder per class.

    PATH/CLASS/*.jpg                               one set, to be split
    PATH/train/CLASS/*.jpg  PATH/test/CLASS/*.jpg  already split

Classes are numbered in the order of their sorted names. Pictures may lie deeper
inside a class folder; hidden files and other suffixes are passed over, but a
picture that cannot be decoded is an error.
"""

from __future__ import annotations

import pathlib

import numpy as np

from ltjax.data.files import images
from ltjax.data.sources import contents


def read_classes(
  path: str | pathlib.Path, *, image_size: int | None = None
) -> contents.Read:
  """Reads the parts and class names of a folder with class sub-folders.

  Pictures are RGB unless all of them, in both parts, are greyscale.

  Args:
    path: The folder.
    image_size: Resize every picture to this square; None if all have one size.

  Raises:
    FileNotFoundError: No such folder.
    ValueError: No classes or pictures, a damaged picture, a test class without
      training folder, or mixed sizes without `image_size`.
  """
  found = find_classes(path)
  parts = (found.train, found.test, found.validation)
  files = [part.files for part in parts if part]
  if found.unlabeled:
    files.append(found.unlabeled)
  pixels = read_files([file for part in files for file in part], image_size)
  split = iter(np.split(pixels, np.cumsum([len(part) for part in files[:-1]])))
  return contents.opened(found, lambda _: next(split))


def find_classes(
  path: str | pathlib.Path,
) -> contents.Found:
  """As `read_classes`, without reading pictures."""
  root = pathlib.Path(path).expanduser()
  train_root, test_root = root, None
  names = [folder.name for folder in _sub_folders(root)]
  if "train" in names and set(names) <= {"train", "test"}:
    train_root = root / "train"
    test_root = root / "test" if "test" in names else None
  classes = tuple(folder.name for folder in _sub_folders(train_root))
  if not classes:
    raise ValueError(
      f"{train_root}: no class sub-folders. Expected {train_root}/CLASS/*.jpg."
    )
  train = _list_part(train_root, classes)
  if not train.files:
    raise ValueError(
      f"{train_root}: no pictures in {len(classes)} class folders. Suffixes "
      f"that count: {', '.join(sorted(images.SUFFIXES))}."
    )
  if test_root is None:
    return contents.Content(train, None, classes)
  unknown = sorted({f.name for f in _sub_folders(test_root)} - set(classes))
  if unknown:
    raise ValueError(
      f"{test_root / unknown[0]}: this class has no folder in {train_root}."
    )
  test = _list_part(test_root, classes)
  return contents.Content(train, test, classes)


def list_pictures(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns all pictures in a folder, at any depth, sorted."""
  return sorted(
    path
    for path in folder.rglob("*")
    if path.suffix.lower() in images.SUFFIXES
    and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    and path.is_file()
  )


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


def _sub_folders(root: pathlib.Path) -> list[pathlib.Path]:
  if not root.is_dir():
    raise FileNotFoundError(f"{root}: no such folder.")
  return sorted(
    path
    for path in root.iterdir()
    if path.is_dir() and not path.name.startswith(".")
  )


def _list_part(root: pathlib.Path, classes: tuple[str, ...]) -> contents.Listed:
  """Returns the files of all classes and their labels."""
  files, labels = [], []
  for label, name in enumerate(classes):
    found = list_pictures(root / name)
    files += found
    labels += [label] * len(found)
  return contents.Listed(files, np.asarray(labels, np.int32))
