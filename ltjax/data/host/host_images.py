"""Images that stay on the host: read by index, a batch at a time.

CIFAR fits on any device; ImageNet does not. `HostImages` stands where an array
`[N, H, W, C]` of the device would: it has a length and a shape, and is sliced
and joined without reading anything. `ltjax.training.prefetch` asks for batches
ahead of the training step, in another thread.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np


class BrokenImageError(ValueError):
  """An image could not be read during a run; the message names its file."""


class HostImages(abc.ABC):
  """uint8 images of `shape` `(N, H, W, C)`, read by index."""

  shape: tuple[int, int, int, int]
  dtype = np.dtype(np.uint8)
  ndim = 4

  @abc.abstractmethod
  def read(self, index: np.ndarray) -> np.ndarray:
    """Reads images `index [B]` as an own copy, else a BrokenImageError."""

  def files(self) -> list[pathlib.Path] | None:
    """Returns the file of each image, or None if they are no files."""
    return None

  @property
  def nbytes(self) -> int:
    """Bytes of all images, decoded."""
    return int(np.prod(self.shape, dtype=np.int64))

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> View:
    """Returns images by a slice, integers or bools `[N]`, unread."""
    return View(self, np.arange(len(self))[index])

  def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """Reads all images."""
    del copy
    return self.read(np.arange(len(self))).astype(dtype or self.dtype)


class View(HostImages):
  """The images `index [N]` of others, unread."""

  def __init__(self, images: HostImages, index: np.ndarray):
    if index.ndim != 1:
      raise TypeError(
        "Images on the host are chosen by a slice or by integers [N]; read"
        " single ones with read()."
      )
    if isinstance(images, View):
      images, index = images._images, images._index[index]
    self._images, self._index = images, index
    _, height, width, channels = images.shape
    self.shape = (len(index), height, width, channels)

  def read(self, index: np.ndarray) -> np.ndarray:
    """See `HostImages`."""
    return self._images.read(self._index[index])

  def files(self) -> list[pathlib.Path] | None:
    """See `HostImages`."""
    files = self._images.files()
    return files and [files[i] for i in self._index]


class ArrayImages(HostImages):
  """Images of an array uint8 `[N, H, W, C]` in host memory, or mapped to it."""

  def __init__(self, array: np.ndarray):
    count, height, width, channels = array.shape
    self._array = array
    self.shape = (count, height, width, channels)

  def read(self, index: np.ndarray) -> np.ndarray:
    """See `HostImages`."""
    return np.asarray(self._array[np.asarray(index)])


class Joined(HostImages):
  """Images of several sets of one shape, at least one, in a row."""

  def __init__(self, parts: Sequence[HostImages]):
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) != 1:
      raise ValueError(
        f"Images of the shapes {sorted(shapes)} cannot be joined; set"
        " data.image_size to give all of them one size."
      )
    self._parts = tuple(parts)
    self._ends = np.cumsum([len(part) for part in parts])
    self.shape = (int(self._ends[-1]), *parts[0].shape[1:])

  def files(self) -> list[pathlib.Path] | None:
    """See `HostImages`."""
    parts = [part.files() for part in self._parts]
    known = [part for part in parts if part is not None]
    return sum(known, []) if len(known) == len(parts) else None

  def read(self, index: np.ndarray) -> np.ndarray:
    """See `HostImages`."""
    index = np.asarray(index)
    out = np.empty((len(index), *self.shape[1:]), np.uint8)
    which = np.searchsorted(self._ends, index, side="right")
    for number in np.unique(which):
      chosen = which == number
      part = self._parts[number]
      out[chosen] = part.read(index[chosen] - (self._ends[number] - len(part)))
    return out


def concatenate(
  parts: Sequence[np.ndarray | HostImages],
) -> np.ndarray | HostImages:
  """Joins sets of one shape; unread, if one of them is on the host."""
  if not any(isinstance(part, HostImages) for part in parts):
    return np.concatenate([np.asarray(part) for part in parts])
  return Joined(
    [
      part if isinstance(part, HostImages) else ArrayImages(part)
      for part in parts
    ]
  )
