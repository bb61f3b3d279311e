"""A file of decoded images: filled as they are read, kept from run to run.

Beside the pixels, mapped into memory, lies a byte for each image, written only
when its pixels are on the disk: a cache that was killed, or lost power, loses
images to decode again and never shows a torn one. Several processes may fill
one cache: they write the same bytes.
"""

from __future__ import annotations

import os
import pathlib
import threading

import numpy as np

_SYNC_EVERY = 1024


class DecodedCache:
  """Decoded images on disk.

  Args:
    folder: where the files are; it is made, else an OSError.
    key: tells this set of images from all others.
    shape: `(N, H, W, C)`.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    key: str,
    shape: tuple[int, int, int, int],
  ):
    folder = pathlib.Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    self._shape, self._row = shape, int(np.prod(shape[1:]))
    flags = os.O_RDWR | os.O_CREAT
    self._pixels = os.open(folder / f"images-{key}.u8", flags, 0o644)
    self._whole = os.open(folder / f"whole-{key}.u8", flags, 0o644)
    # Sparse: the disk fills with what is decoded. Written by calls and not
    # through the map, where a full disk would kill the process.
    if os.fstat(self._pixels).st_size != shape[0] * self._row:
      os.ftruncate(self._whole, 0)  # New, or cut: nothing of it is believed.
      os.ftruncate(self._pixels, shape[0] * self._row)
    os.ftruncate(self._whole, shape[0])
    self._map = np.memmap(
      folder / f"images-{key}.u8", np.uint8, "r", shape=shape
    )
    known = os.pread(self._whole, shape[0], 0)
    self._known = np.frombuffer(known, np.uint8).copy().astype(bool)
    self._unsynced: list[int] = []
    self._lock = threading.Lock()

  def has(self, index: np.ndarray) -> np.ndarray:
    """Returns which of the images `index [B]` are there, bool `[B]`."""
    return self._known[index]

  def get(self, index: np.ndarray) -> np.ndarray:
    """Returns images `index [B]`, which are there: uint8 `[B, H, W, C]`."""
    return np.asarray(self._map[index])

  def put(self, index: np.ndarray, rows: np.ndarray) -> None:
    """Adds images `index [B]`, uint8 `[B, H, W, C]`; OSError on a full disk."""
    with self._lock:
      for i, row in zip(map(int, index), rows, strict=True):
        data, place = row.tobytes(), 0
        while place < len(data):
          place += os.pwrite(self._pixels, data[place:], i * self._row + place)
        self._known[i] = True
        self._unsynced.append(i)
      if len(self._unsynced) >= _SYNC_EVERY or self._known.all():
        self._sync()

  def _sync(self) -> None:
    """Says on disk which images are whole."""
    os.fsync(self._pixels)
    for i in self._unsynced:
      os.pwrite(self._whole, b"\x01", i)
    self._unsynced.clear()

  def __del__(self):
    try:
      self._sync()
      os.close(self._pixels)
      os.close(self._whole)
    except (AttributeError, OSError):
      pass  # Never opened, or the disk is full: decoded again next time.
