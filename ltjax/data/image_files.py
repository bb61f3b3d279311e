"""Picture files as images on the host: decoded when a batch asks for them.

Each picture is decoded, brought to one square size and dropped again; several
threads decode at a time (Pillow works outside Python's lock). With a cache the
decoded squares are kept in one file, so that from the second epoch on nothing
is decoded and a batch is read at the speed of memory or disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures
import functools
import hashlib
import json
import os
import pathlib

import numpy as np

from ltjax.data import decoded_cache, host_images, images

# From the paths of pictures to images.
Reader = Callable[[Sequence[pathlib.Path]], host_images.HostImages]


class ImageFiles(host_images.HostImages):
  """RGB squares of picture files.

  Args:
    files: the pictures, at least one.
    size: pixels of a side.
    resize: `stretch` or `crop`, see `images.to_square`.
    cache: folder for the decoded squares; none if empty.

  Raises:
    ValueError: if `resize` is unknown.
    OSError: if the cache cannot be opened.
  """

  def __init__(
    self,
    files: Sequence[pathlib.Path],
    *,
    size: int,
    resize: str = "crop",
    cache: str | pathlib.Path = "",
  ):
    if resize not in images.RESIZES:
      raise ValueError(
        f"data.resize is {resize!r}; choose one of {', '.join(images.RESIZES)}."
      )
    self._files, self._size, self._resize = list(files), size, resize
    self.shape = (len(self._files), size, size, 3)
    self._cache = None
    if cache:
      self._cache = decoded_cache.DecodedCache(
        cache, _key(self._files, size, resize), self.shape
      )

  def read(self, index: np.ndarray) -> np.ndarray:
    """See `HostImages`."""
    index = np.asarray(index)
    if self._cache is not None and self._cache.has(index).all():
      return self._cache.get(index)
    out = np.empty((len(index), *self.shape[1:]), np.uint8)
    left = np.arange(len(index))
    if self._cache is not None:
      known = self._cache.has(index)
      out[known] = self._cache.get(index[known])
      left = left[~known]

    def fill(place: int) -> None:
      out[place] = self._decode(int(index[place]))

    # All of them, also after an error: none may write behind our back.
    waiting = [_threads().submit(fill, int(place)) for place in left]
    futures.wait(waiting)
    for future in waiting:
      future.result()
    if self._cache is not None and len(left):
      self._cache.put(index[left], out[left])
    return out

  def _decode(self, index: int) -> np.ndarray:
    file = self._files[index]
    try:
      picture = images.decode(file, least=self._size)
      return images.to_square(picture.convert("RGB"), self._size, self._resize)
    except (OSError, ValueError) as error:
      name = "" if str(file) in str(error) else f"{file}: "
      raise host_images.BrokenImageError(
        f"{name}{error} The same command then goes on from what is saved."
      ) from None


@functools.cache
def _threads() -> futures.ThreadPoolExecutor:
  """The threads that decode, shared by all sets; one a processor."""
  return futures.ThreadPoolExecutor(
    len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count(),
    thread_name_prefix="decode",
  )


def _key(files: Sequence[pathlib.Path], size: int, resize: str) -> str:
  """Returns what tells these squares from all others: files and geometry."""
  digest = hashlib.sha256(json.dumps([1, size, resize]).encode())
  for file in files:
    stat = file.stat()
    line = [str(file.absolute()), stat.st_size, stat.st_mtime_ns]
    digest.update(json.dumps(line).encode())
  return digest.hexdigest()[:16]
