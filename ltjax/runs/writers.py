"""Where the numbers of a run go: `metrics.jsonl` and TensorBoard.

The JSONL file is the truth: one JSON object a line, appended and flushed, with
its `position`, `[stage_index, step]`. A run that resumes first *rewinds* the
file to the checkpoint's position, so that it leaves the same file as an
uninterrupted one, timings aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import json
import os
import pathlib
from typing import Any, Protocol

from ltjax.runs import tensorboard as tensorboard_events

Record = dict[str, Any]


class Writer(Protocol):
  """Takes records, one at a time."""

  def write(self, record: Mapping[str, Any]) -> None:
    """Writes one record."""

  def close(self) -> None:
    """Writes what is pending and lets go of the file."""


class JsonlWriter:
  """Appends records to a JSON-lines file, one flushed line each.

  The file is made if missing; a half-written last line, left by a killed
  process, is removed on opening.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self.path = pathlib.Path(path)
    self.path.parent.mkdir(parents=True, exist_ok=True)
    if self.path.exists() and not _ends_a_line(self.path):
      _replace(self.path, read(self.path))
    self._open()

  def write(self, record: Mapping[str, Any]) -> None:
    """Appends `record`; NumPy and JAX scalars and arrays become numbers, lists.

    Raises:
      ValueError: a float is NaN or infinite.
      OSError: the disk is full, or the like; the file is left as it was.
    """
    line = (_dump(record) + "\n").encode()
    end = os.fstat(self._file.fileno()).st_size
    try:
      written = 0
      while written < len(line):
        written += self._file.write(line[written:])
    except OSError as error:
      with contextlib.suppress(OSError):
        self._file.truncate(end)
      raise OSError(
        error.errno,
        f"cannot append to the metrics ({error.strerror}); the lines before "
        "are whole. Free some space and run the same command again",
        str(self.path),
      ) from error

  def rewind(self, position: Sequence[int] | None) -> list[Record]:
    """Drops every record after `position`, atomically; returns those kept.

    `position` is that of the checkpoint to go on from; a record at this very
    position stays, as does one that has none. None drops everything.
    """
    kept = [] if position is None else read(self.path)
    if position is not None:
      limit = list(position)
      kept = [r for r in kept if list(r.get("position", limit)) <= limit]
    self._file.close()
    try:
      _replace(self.path, kept)
    finally:
      self._open()
    return kept

  def close(self) -> None:
    """Closes the file; closing twice is fine."""
    self._file.close()

  def _open(self) -> None:
    # Unbuffered: after `write` returns, the line survives a SIGKILL.
    self._file = open(self.path, "ab", buffering=0)


class MultiWriter:
  """Hands each record to several writers, in order.

  The JSONL writer comes first: should a later one fail, the record is safe.
  """

  def __init__(self, *writers: Writer):
    self.writers = writers

  def write(self, record: Mapping[str, Any]) -> None:
    """Writes `record` to each."""
    for writer in self.writers:
      writer.write(record)

  def close(self) -> None:
    """Closes every one, also when closing another raised."""
    with contextlib.ExitStack() as stack:
      for writer in self.writers:
        stack.callback(writer.close)

  def __enter__(self) -> MultiWriter:
    return self

  def __exit__(self, *unused: object) -> None:
    self.close()


def open_run(
  workdir: str | os.PathLike[str],
  *,
  position: Sequence[int] | None,
  tensorboard: bool,
) -> MultiWriter:
  """Opens the writers of a run, as one, rewound to where it goes on.

  Args:
    workdir: folder of the run; gets `metrics.jsonl` and `tensorboard/`.
    position: `[stage_index, step]` of the checkpoint; None starts afresh.
    tensorboard: whether to write TensorBoard events too.
  """
  workdir = pathlib.Path(workdir)
  lines = JsonlWriter(workdir / "metrics.jsonl")
  history = lines.rewind(position)
  if not tensorboard:
    return MultiWriter(lines)
  events = tensorboard_events.TensorBoardWriter(
    workdir / "tensorboard", history=history
  )
  return MultiWriter(lines, events)


def read(path: str | os.PathLike[str]) -> list[Record]:
  """Reads a JSON-lines file, if there, leaving out a half-written last line.

  Any other line that is no JSON object is a ValueError.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return []
  lines = path.read_bytes().split(b"\n")
  records = []
  for number, line in enumerate(lines, start=1):
    try:
      record = json.loads(line)
      if not isinstance(record, dict):
        raise ValueError("not an object")
    except ValueError as error:
      # The last item is what follows the last newline: nothing, or a half line.
      if number == len(lines):
        break
      raise ValueError(
        f"{path} is damaged: line {number} is not a JSON object ({error}). "
        "Remove that line, or the file, and run again"
      ) from error
    records.append(record)
  return records


def _dump(record: Mapping[str, Any]) -> str:
  try:
    return json.dumps(dict(record), allow_nan=False, default=_plain)
  except ValueError as error:
    raise ValueError(
      f"a record holds a number that is not finite, which JSON has no way to "
      f"write: {dict(record)!r}"
    ) from error


def _plain(value: Any) -> Any:
  if hasattr(value, "tolist"):
    return value.tolist()
  raise TypeError(
    f"a record holds {value!r} of type {type(value).__name__}, which has no "
    "JSON form; write numbers, strings, lists and dicts"
  )


def _ends_a_line(path: pathlib.Path) -> bool:
  with open(path, "rb") as file:
    if not file.seek(0, os.SEEK_END):
      return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _replace(path: pathlib.Path, records: Iterable[Record]) -> None:
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    with open(temporary, "w") as file:
      file.writelines(_dump(record) + "\n" for record in records)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
