"""Pictures that are not a run's own: found, read as its network takes them.

Labeled ones, to test it on, are one of

    folder:PATH   class sub-folders of pictures
    csv:FILE      a table of pictures and classes

Of a set with a part for testing that part is used, of another all pictures with
a class. Classes are matched by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltjax.data.files import decoding as decodings
from ltjax.data.files import images, tree
from ltjax.data.parts import contents
from ltjax.data.sources import folders, tables
from ltjax.runs import trained as trained_lib

BATCH_SIZE = 64
_MODES = {1: "L", 3: "RGB"}
_SHOWN = 5


def find(
  paths: Iterable[str | Path], tell: Callable[[str], None] | None = None
) -> list[Path]:
  """Returns the pictures that files and folders name, each once, in order.

  Args:
    paths: files (of any suffix), and folders, searched at any depth.
    tell: gets a line for each kind of picture in folders that is not read.

  Raises:
    FileNotFoundError: if a path does not exist.
    ValueError: if a folder holds no picture.
  """
  found: dict[Path, None] = {}
  for path in map(Path, paths):
    if not path.exists():
      raise FileNotFoundError(f"{path}: no such picture or folder.")
    if not path.is_dir():
      found[path] = None
      continue
    top, passed = tree.walk(path)
    inside = top.all()
    if not inside:
      raise ValueError(
        f"{path}: no pictures in this folder. Suffixes that count:"
        f" {', '.join(sorted(images.readable()))}."
        + "".join(f"\n{line}" for line in passed.unread(path))
      )
    if tell:
      for line in passed.unread(path):
        tell(f"{path}: {line}")
    found |= dict.fromkeys(inside)
  return list(found)


def read(
  path: Path,
  image_shape: tuple[int, int, int],
  resize: str = "stretch",
  decoding: decodings.Decoding = decodings.DEFAULT,
) -> np.ndarray:
  """Returns a picture as a network takes it.

  Args:
    path: the file.
    image_shape: `(H, W, C)` to bring the picture to.
    resize: `stretch` it, or `crop` its middle; see `images.to_square`.
    decoding: what becomes of pixels that are not 8-bit grey or RGB.

  Returns:
    uint8 `[H, W, C]`.

  Raises:
    ValueError: if it is empty, too large, damaged or no picture.
    OSError: if the file cannot be read.
  """
  height, width, channels = image_shape
  image = images.read_image(path, decoding=decoding)
  image = image.convert(_MODES[channels])
  if resize == "crop":
    return images.to_square(image, height, resize)
  return images.to_array(image, (height, width))


def batches(
  trained: trained_lib.Trained, files: Sequence[Path], batch_size: int
) -> Iterator[tuple[Sequence[Path], np.ndarray, dict[int, str]]]:
  """Yields files, uint8 `[B, H, W, C]` of them, and errors by place.

  `B` is the same for all; what is behind the last file means nothing, and has
  an empty error.

  Args:
    trained: the model that they are read for.
    files: the pictures.
    batch_size: B, where there are as many.
  """
  size = max(min(batch_size, len(files)), 1)
  for first in range(0, len(files), size):
    chunk = files[first : first + size]
    batch = np.zeros((size, *trained.picture_shape), np.uint8)
    errors: dict[int, str] = {i: "" for i in range(len(chunk), size)}
    for i, path in enumerate(chunk):
      try:
        batch[i] = read(
          path, trained.picture_shape, trained.resize, trained.decoding
        )
      except (OSError, ValueError) as error:
        errors[i] = str(error)
    yield chunk, batch, errors


class Labeled(NamedTuple):
  """Pictures yet to be read, and labels, int64 `[T]`, in a run's numbers."""

  files: list
  labels: np.ndarray


def labeled(source: str, classes: Sequence[str]) -> Labeled:
  """Returns labeled pictures of the classes of a run.

  Args:
    source: `folder:PATH` or `csv:FILE`.
    classes: a name a class of the run; the pictures may be of some of them.

  Raises:
    FileNotFoundError: if a file or a folder is missing.
    ValueError: if the source is another, cannot be read, or has a class that
      the run does not know.
  """
  kind, _, path = source.partition(":")
  if kind not in ("folder", "csv") or not path:
    raise ValueError(
      f"--data is {source!r}; it must be folder:PATH or csv:FILE."
    )
  found: contents.Found
  if kind == "folder":
    found = folders.find_classes(path)
  else:
    found = tables.read_set(path)
  listed = found.test or found.train
  number = {name: c for c, name in enumerate(classes)}
  present = [found.names[c] for c in np.unique(listed.labels)]
  unknown = [name for name in present if name not in number]
  if unknown:
    raise ValueError(
      f"{source}: the run does not know the classes {_some(unknown)}; it has"
      f" {_some(classes)}. Rename them, or leave them out."
    )
  labels = [number.get(found.names[c], -1) for c in listed.labels]
  return Labeled(list(listed.files), np.asarray(labels, np.int64))


def _some(names: Sequence[str]) -> str:
  shown = ", ".join(map(repr, names[:_SHOWN]))
  more = len(names) - _SHOWN
  return f"{shown} and {more:,} more" if more > 0 else shown
