"""`tf.train.Example` records, read and written without TensorFlow.

An example maps names to lists of byte strings, integers or floats. It is a
protocol buffer, a sequence of fields: a tag (field number and kind), then a
number of variable length, or a length and so many bytes of fields again:

    Example   1: Features
    Features  1: an entry of the map, any number of times
    entry     1: name    2: Feature
    Feature   1: BytesList    2: FloatList    3: Int64List
    a list    1: a value, any number of times; numbers may lie packed in one
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Value = bytes | int


def decode(data: bytes) -> dict[str, list[Value]]:
  """Reads an example, else a ValueError; lists of floats come back empty."""
  result: dict[str, list[Value]] = {}
  for features in _messages(memoryview(data), 1):
    for entry in _messages(features, 1):
      names = list(_messages(entry, 1))
      # An empty feature may be left out.
      feature = list(_messages(entry, 2)) or [memoryview(b"")]
      name = bytes(names[-1]) if names else b""
      result[_text(name)] = list(_values(feature[-1]))
  return result


def encode(features: Mapping[str, Value]) -> bytes:
  """Writes byte strings and signed 64-bit integers, one a name.

  The same features give the same bytes.
  """
  entries = []
  for name, value in sorted(features.items()):
    if isinstance(value, bytes):
      feature = _field(1, _field(1, value))
    else:
      feature = _field(3, _field(1, _varint(value % 2**64)))
    entry = _field(1, name.encode()) + _field(2, feature)
    entries.append(_field(1, entry))
  return _field(1, b"".join(entries))


def _text(name: bytes) -> str:
  try:
    return name.decode()
  except UnicodeDecodeError:
    raise ValueError("a feature's name is no text") from None


def _values(feature: memoryview) -> Iterator[Value]:
  """Yields the byte strings or integers of a feature."""
  for items in _messages(feature, 1):
    for value in _messages(items, 1):
      yield bytes(value)
  for items in _messages(feature, 3):
    for number, value in _fields(items):
      if number != 1:
        continue
      if isinstance(value, int):
        yield _signed(value)
        continue
      place = 0
      while place < len(value):
        whole, place = _number(value, place)
        yield _signed(whole)


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
  """Yields what the fields of a number hold, bytes all of them."""
  for number, value in _fields(data):
    if number == wanted:
      if isinstance(value, int):
        raise ValueError(f"field {number} is a number")
      yield value


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
  """Yields the fields of a message by number."""
  place = 0
  while place < len(data):
    tag, place = _number(data, place)
    kind, value = tag & 7, 0
    if kind == 0:
      value, place = _number(data, place)
      yield tag >> 3, value
      continue
    if kind == 2:
      size, place = _number(data, place)
    elif kind in (1, 5):
      size = 8 if kind == 1 else 4
    else:
      raise ValueError(f"a field is of the unknown kind {kind}")
    if size > len(data) - place:
      raise ValueError("it ends in the middle of a field")
    yield tag >> 3, data[place : place + size]
    place += size


def _number(data: memoryview, place: int) -> tuple[int, int]:
  """Returns the number of variable length at `place`, and the place behind."""
  number = 0
  for i in range(10):
    if place + i >= len(data):
      raise ValueError("it ends in the middle of a number")
    byte = data[place + i]
    number |= (byte & 127) << (7 * i)
    if byte < 128:
      return number % 2**64, place + i + 1
  raise ValueError("a number is longer than 64 bits")


def _signed(number: int) -> int:
  return number - 2**64 if number >= 2**63 else number


def _field(number: int, content: bytes) -> bytes:
  return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
  out = bytearray()
  while number > 127:
    out.append(number & 127 | 128)
    number >>= 7
  out.append(number)
  return bytes(out)
