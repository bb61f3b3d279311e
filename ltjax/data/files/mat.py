"""MATLAB files, versions 5 to 7.2: arrays of numbers, and nothing else.

A file is a header of 128 bytes and a row of elements, each a tag (type, number
of bytes) with its content. An array is an element of four others: flags, shape,
name and numbers; where it is compressed, a zlib stream of all that. SciPy has a
reader of the whole format, but a few bytes overwritten in a file can crash it
and the program with it; the little that images need is read here, with every
number checked.
"""

from __future__ import annotations

from collections.abc import Collection
import io
import math
import pathlib
import struct
from typing import BinaryIO
import zlib

import numpy as np

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CHUNK = 1 << 20
_STORED = dict(
  zip((1, 2, 3, 4, 5, 6, 7, 9, 12, 13), "i1 u1 i2 u2 i4 u4 f4 f8 i8 u8".split())
)
_CLASSES = dict(
  zip(range(6, 16), "f8 f4 i1 u1 i2 u2 i4 u4 i8 u8".split(), strict=True)
)
_OTHERS = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text"}
_COMPLEX = 0x800


def read(
  path: str | pathlib.Path, wanted: Collection[str]
) -> dict[str, np.ndarray]:
  """Reads arrays by name.

  Args:
    path: The file.
    wanted: Names; other arrays in the file are passed over.

  Returns:
    The arrays that were found, of their MATLAB type and shape. They are in
    MATLAB's order: the first index is the fastest. The format itself keeps each
    below 4 GiB.

  Raises:
    FileNotFoundError: No such file.
    ValueError: Not such a file, damaged, or a wanted array is no plain array of
      real numbers.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{path}: no such file.")
  try:
    with open(path, "rb") as file:
      return _read(file, wanted)
  except (ValueError, EOFError, zlib.error, struct.error) as error:
    raise ValueError(
      f"{path}: not a whole .mat file ({error}). Fetch it again, or save it "
      "with -v7 as plain numbers."
    ) from None


def _read(file: BinaryIO, wanted: Collection[str]) -> dict[str, np.ndarray]:
  header = file.read(_HEADER)
  order = {b"IM": "<", b"MI": ">"}.get(header[126:])
  if order is None:
    raise ValueError("it has no header of MATLAB 5")
  (version,) = struct.unpack(f"{order}H", header[124:126])
  if version != 0x100:
    raise ValueError(f"its version is 0x{version:04x}, 0x0100 is known")
  found: dict[str, np.ndarray] = {}
  while tag := file.read(8):
    kind, size = struct.unpack(f"{order}2I", tag)
    start = file.tell()
    if kind == _COMPRESSED:
      stream = _Stream(io.BufferedReader(_Inflated(file, size)), order)
      kind, inner = struct.unpack(f"{order}2I", stream.take(8))
      stream.left = inner
    else:
      stream = _Stream(file, order, size)
    if kind != _MATRIX:
      raise ValueError(
        f"an element of type {kind} stands where an array should"
      )
    name, array = _array(stream, wanted)
    if name in found:
      raise ValueError(f"two arrays are named {name!r}")
    if array is not None:
      found[name] = array
    file.seek(start + size)
    if file.tell() > file.seek(0, io.SEEK_END):
      raise EOFError("it ends early")
    file.seek(start + size)
  return found


def _array(
  stream: _Stream, wanted: Collection[str]
) -> tuple[str, np.ndarray | None]:
  """Name and numbers of an array; None if it is not wanted."""
  flags = np.frombuffer(stream.element()[1], stream.order + "u4")
  shape = np.frombuffer(stream.element()[1], stream.order + "i4").tolist()
  name = stream.element()[1].decode("latin-1")
  if name not in wanted:
    return name, None
  kind = int(flags[0]) & 0xFF if len(flags) else 0
  if kind not in _CLASSES or int(flags[0]) & _COMPLEX:
    what = _OTHERS.get(kind, "not of real numbers")
    raise ValueError(f"{name} is {what}")
  if min(shape, default=-1) < 0:
    raise ValueError(f"{name} has the shape {tuple(shape)}")
  stored, content = stream.element()
  if stored not in _STORED:
    raise ValueError(f"the numbers of {name} are of type {stored}")
  numbers = np.frombuffer(content, stream.order + _STORED[stored])
  if len(numbers) != math.prod(shape):
    raise ValueError(f"{name} has {len(numbers)} numbers for {tuple(shape)}")
  with np.errstate(invalid="ignore"):
    return name, numbers.astype(_CLASSES[kind], copy=False).reshape(
      shape, order="F"
    )


class _Stream:
  """Elements, read within the bounds of the one around them."""

  def __init__(self, file: BinaryIO, order: str, left: int = 8):
    self.file, self.order, self.left = file, order, left

  def take(self, count: int) -> bytes | bytearray:
    """Exactly so many bytes, grown as they come: a claim costs nothing."""
    if count > self.left:
      raise ValueError("an element is larger than the array it belongs to")
    self.left -= count
    if count <= _CHUNK:
      content = self.file.read(count)
    else:
      content = bytearray()
      while part := self.file.read(min(_CHUNK, count - len(content))):
        content += part
    if len(content) != count:
      raise EOFError("it ends early")
    return content

  def element(self) -> tuple[int, bytes | bytearray]:
    """Type and content of the next element."""
    tag = self.take(8)
    kind, size = struct.unpack(f"{self.order}2I", tag)
    if kind >> 16:  # Four bytes or less lie in the tag itself.
      kind, size = kind & 0xFFFF, kind >> 16
      if size > 4:
        raise ValueError(f"a short element claims {size} bytes")
      return kind, tag[4 : 4 + size]
    content = self.take(size)
    self.take(min(-size % 8, self.left))
    return kind, content


class _Inflated(io.RawIOBase):
  """What a zlib stream of `size` bytes in a file unfolds to."""

  def __init__(self, file: BinaryIO, size: int):
    super().__init__()
    self._file, self._left = file, size
    self._zlib = zlib.decompressobj()

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    """Fills `buffer` in part; 0 is the end."""
    while not self._zlib.eof:
      packed = self._zlib.unconsumed_tail
      if not packed:
        packed = self._file.read(min(_CHUNK, self._left))
        self._left -= len(packed)
        if not packed:
          break
      content = self._zlib.decompress(packed, len(buffer))
      if content:
        buffer[: len(content)] = content
        return len(content)
    return 0
