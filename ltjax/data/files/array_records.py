"""ArrayRecord files: many pictures in few files, each read by its number.

A million files are slow to list and to copy. An ArrayRecord file (a shard)
holds thousands of `tf.train.Example`s, as TFDS writes them:

    image       the picture, encoded (JPEG, PNG ...)
    label       the class, an integer
    file_name   optional: how the picture was called, for messages

A folder of shards holds the parts `train` and `test` (or `validation`), named
`train-00000-of-00008.array_record` or `NAME-train.array_record-00000-of-00008`.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import glob
import pathlib
import re
from typing import Any, NamedTuple, overload

import numpy as np

from ltjax.data.files import examples

_SHARD = re.compile(
  r"(?P<stem>.*?)(-\d{5}-of-(?P<count>\d{5}))?"
  r"\.array_?record(-\d{5}-of-(?P<count_after>\d{5}))?$"
)
_PARTS = ("train", "test", "validation")
# Shards that a process keeps open; the system's limit is often 1024 files.
_OPEN = 512
# Random access: no reading ahead, no threads of its own.
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class Record(NamedTuple):
  """Record number `position` of a shard, which is read when it is asked for."""

  shard: str
  position: int

  def __str__(self) -> str:
    return f"{self.shard}, record {self.position}"

  def features(self) -> dict[str, list[examples.Value]]:
    """Reads the record; a ValueError if it cannot be read, or is no example."""
    try:
      (data,) = _reader(self.shard).read([self.position])
    except Exception as error:  # The library raises whatever went wrong.
      _reader.cache_clear()
      raise ValueError(
        f"{self}: cannot be read ({str(error)[:200]}). Replace the file."
      ) from None
    try:
      return examples.decode(data)
    except ValueError as error:
      raise ValueError(
        f"{self}: not a tf.train.Example ({error}). Records must hold the"
        " features image and label; python -m ltjax.data.records writes such."
      ) from None

  def picture(self) -> tuple[bytes, str]:
    """Returns the encoded picture, else a ValueError, and its name."""
    features = self.features()
    name = features.get("file_name")
    called = str(self)
    if name and isinstance(name[0], bytes):
      called += f" ({name[0].decode(errors='replace')})"
    image = features.get("image")
    if not image or not isinstance(image[0], bytes):
      raise ValueError(
        f"{called}: it has no picture, only the features {sorted(features)};"
        " image must hold the bytes of a JPEG, PNG ..."
      )
    return image[0], called

  def label(self) -> int:
    """Reads the class; -1 without one, a ValueError if it is no integer."""
    found = self.features().get("label")
    if not found:
      return -1
    if not isinstance(found[0], int):
      raise ValueError(f"{self}: its label is {found[0]!r}, not an integer.")
    return min(max(found[0], -1), np.iinfo(np.int32).max)


class Records(Sequence[Record]):
  """All records of some shards, one shard behind the other."""

  def __init__(self, shards: Sequence[pathlib.Path], counts: Sequence[int]):
    self.shards = [str(shard) for shard in shards]
    self._ends = np.cumsum(counts)
    self._counts = counts

  def __len__(self) -> int:
    return int(self._ends[-1])

  @overload
  def __getitem__(self, index: int) -> Record: ...
  @overload
  def __getitem__(self, index: slice) -> list[Record]: ...

  def __getitem__(self, index):
    """Returns a record, or a list of them; none is read."""
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    if not 0 <= index < len(self):
      raise IndexError(index)
    shard = int(np.searchsorted(self._ends, index, side="right"))
    before = int(self._ends[shard]) - self._counts[shard]
    return Record(self.shards[shard], int(index) - before)


def find(path: str) -> dict[str, list[pathlib.Path]]:
  """Finds the shards of the parts `train`, `test` and `validation`.

  `path` is a shard, a folder of shards, or a pattern such as `x/*train*`. All
  are `train` if the names tell no part of this name. Raises a FileNotFoundError
  without any, or if one of a numbered row is missing.
  """
  given = pathlib.Path(path).expanduser()
  if given.is_dir():
    files = sorted(p for p in given.iterdir() if _SHARD.match(p.name))
    _check_rows(files)
  elif given.is_file():
    files = [given]
  else:
    files = sorted(map(pathlib.Path, glob.glob(str(given))))
    files = [p for p in files if p.is_file()]
  if not files:
    raise FileNotFoundError(
      f"{given}: no ArrayRecord files. Their names end in .array_record or"
      " .arrayrecord, perhaps with -00000-of-00008 before or behind."
    )
  parts: dict[str, list[pathlib.Path]] = {}
  for file in files:
    parts.setdefault(_part(file), []).append(file)
  return parts if "train" in parts else {"train": files}


def count(shard: pathlib.Path) -> int:
  """Returns how many records a shard holds; a ValueError if it is damaged."""
  _reader.cache_clear()  # The file may be another by now.
  found = _reader(str(shard)).num_records()
  if not found:
    raise ValueError(
      f"{shard}: it holds no records. It is not a whole ArrayRecord file:"
      " replace it."
    )
  return found


@functools.lru_cache(maxsize=_OPEN)
def _reader(shard: str) -> Any:
  """Opens a shard; the reader may be used by several threads at a time."""
  try:
    from array_record.python import array_record_module
  except ImportError as error:
    raise ValueError(
      f"{shard} needs the package array_record ({error}): pip install"
      " array_record."
    ) from None
  return array_record_module.ArrayRecordReader(
    shard, _OPTIONS, file_reader_buffer_size=1 << 15
  )


def _part(file: pathlib.Path) -> str:
  """Returns the part that a shard is of, `train` if its name does not tell."""
  match = _SHARD.match(file.name)
  stem = match["stem"] if match else file.stem
  last = stem.rpartition("-")[2]
  return last if last in _PARTS else stem or "train"


def _check_rows(files: Sequence[pathlib.Path]) -> None:
  """Raises a FileNotFoundError if a row of numbered shards has a gap."""
  rows: dict[tuple[str, int], int] = {}
  for file in files:
    match = _SHARD.match(file.name)
    assert match is not None
    wanted = match["count"] or match["count_after"]
    if wanted:
      row = (match["stem"], int(wanted))
      rows[row] = rows.get(row, 0) + 1
  for (stem, wanted), there in rows.items():
    if there != wanted:
      raise FileNotFoundError(
        f"{files[0].parent}: {there} of the {wanted} shards of {stem!r} are"
        " there; bring the others too."
      )
