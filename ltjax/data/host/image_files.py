"""Picture files as images on the host: decoded when a batch asks for them.

Each picture, a file or a record of an ArrayRecord file, is decoded, brought to
one square size and dropped again, by several threads (Pillow works outside
Python's lock) or processes. With a cache the decoded squares are kept in one
file, so that from the second epoch on nothing is decoded.
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

from ltjax import require
from ltjax.data.files import array_records, images
from ltjax.data.files import decoding as decodings
from ltjax.data.host import decoded_cache, host_images, workers

# A picture: a file, or a record in one.
File = pathlib.Path | array_records.Record
# From pictures to images.
Reader = Callable[[Sequence[File]], host_images.HostImages]


class ImageFiles(host_images.HostImages):
  """RGB squares of picture files.

  Args:
    files: the pictures, at least one.
    size: pixels of a side.
    resize: `stretch` or `crop`, see `images.to_square`.
    cache: folder for the decoded squares; none if empty.
    processes: how many decode; 0 for threads.
    decoding: what becomes of pixels that are not 8-bit grey or RGB.

  Raises:
    ValueError: if `resize` is unknown.
    OSError: if the cache cannot be opened.
  """

  def __init__(
    self,
    files: Sequence[File],
    *,
    size: int,
    resize: str = "crop",
    cache: str | pathlib.Path = "",
    processes: int = 0,
    decoding: decodings.Decoding = decodings.DEFAULT,
  ):
    require.choice("data.resize", resize, images.RESIZES)
    if not isinstance(files, array_records.Records):
      files = list(files)
    self._files, self._size, self._resize = files, size, resize
    self._processes, self._decoding = processes, decoding
    self.shape = (len(self._files), size, size, 3)
    self._cache = None
    if cache:
      self._cache = decoded_cache.DecodedCache(
        cache, _key(self._files, size, resize, decoding), self.shape
      )

  def files(self) -> list[pathlib.Path] | None:
    """See `HostImages`; records of ArrayRecord files are none."""
    if isinstance(self._files, array_records.Records):
      return None
    return [pathlib.Path(str(file)) for file in self._files]

  def read(self, index: np.ndarray) -> np.ndarray:
    """See `HostImages`."""
    index = np.asarray(index)
    if self._cache is None:
      return self._decode(index)
    known = self._cache.has(index)
    if known.all():
      return self._cache.get(index)
    out = np.empty((len(index), *self.shape[1:]), np.uint8)
    out[known] = self._cache.get(index[known])
    out[~known] = self._decode(index[~known])
    self._cache.put(index[~known], out[~known])
    return out

  def _decode(self, index: np.ndarray) -> np.ndarray:
    """Decodes pictures, uint8 `[B, size, size, 3]`."""
    files = [self._files[int(i)] for i in index]
    if self._processes:
      return workers.shared(self._processes).decode(
        files,
        size=self._size,
        resize=self._resize,
        decoding=self._decoding,
      )
    out = np.empty((len(files), *self.shape[1:]), np.uint8)

    def fill(place: int) -> None:
      out[place] = square(
        files[place], self._size, self._resize, self._decoding
      )

    # All of them, also after an error: none may write behind our back.
    waiting = [_threads().submit(fill, place) for place in range(len(files))]
    futures.wait(waiting)
    for future in waiting:
      future.result()
    return out


def square(
  file: File,
  size: int,
  resize: str,
  decoding: decodings.Decoding = decodings.DEFAULT,
) -> np.ndarray:
  """Decodes one picture: uint8 `[size, size, 3]`.

  Args:
    file: a file, or a record in one; a BrokenImageError names it.
    size: pixels of a side.
    resize: `stretch` or `crop`, see `images.to_square`.
    decoding: what becomes of pixels that are not 8-bit grey or RGB.
  """
  name = str(file)
  try:
    source: pathlib.Path | bytes
    if isinstance(file, array_records.Record):
      source, name = file.picture()
    else:
      source = file
    picture = images.decode(source, name=name, least=size, decoding=decoding)
    return images.to_square(picture.convert("RGB"), size, resize)
  except (OSError, ValueError) as error:
    prefix = "" if name in str(error) else f"{name}: "
    raise host_images.BrokenImageError(
      f"{prefix}{error} The same command then goes on from what is saved."
      " python -m ltjax.data.check lists all that are broken."
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


def _key(
  files: Sequence[File], size: int, resize: str, decoding: decodings.Decoding
) -> str:
  """Returns what tells these squares from all others: files, geometry
  and decoding."""
  digest = hashlib.sha256(json.dumps([2, size, resize, *decoding]).encode())
  if isinstance(files, array_records.Records):
    files = [pathlib.Path(shard) for shard in files.shards]
  for file in files:
    assert isinstance(file, pathlib.Path)
    stat = file.stat()
    line = [str(file.absolute()), stat.st_size, stat.st_mtime_ns]
    digest.update(json.dumps(line).encode())
  return digest.hexdigest()[:16]
