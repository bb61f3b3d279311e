"""Where the numbers of a run go: `metrics.jsonl` and TensorBoard.

The JSONL file is the truth: one JSON object a line, appended and flushed, so
that a killed process loses at most the line it was writing. Every record
carries its `position`, `[stage_index, step]`. A run that resumes from a
checkpoint first *rewinds* the file to the checkpoint's position; the steps it
then repeats are written once, not twice, and a killed and resumed run leaves
the same file as an uninterrupted one, timings aside.

TensorBoard is a view of the same records. Its horizontal axis counts epochs
over all stages, and its events are rewound with the "purge step" TensorBoard
has for this purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import contextlib
import json
import os
import pathlib
import time
from typing import Any, Protocol

Record = dict[str, Any]

_TRAIN_TAGS = {
  "loss": "losses/total",
  "cross_entropy": "losses/xe",
  "accuracy": "accuracy/train",
  "learning_rate": "monitors/lr",
  "images_per_second": "monitors/images_per_second",
}
# What a record says about itself, as opposed to what was measured.
_LABELS = frozenset(("epoch", "epochs", "loop", "step", "position", "count"))


class Writer(Protocol):
  """Takes records, one at a time."""

  def write(self, record: Mapping[str, Any]) -> None:
    """Writes one record."""

  def close(self) -> None:
    """Writes what is pending and lets go of the file."""


class JsonlWriter:
  """Appends records to a JSON-lines file, one flushed line each.

  A half-written last line, left by a killed process, is removed on opening.

  Args:
    path: the file; made, with its folder, if it is not there.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self.path = pathlib.Path(path)
    self.path.parent.mkdir(parents=True, exist_ok=True)
    if self.path.exists() and not _ends_a_line(self.path):
      _replace(self.path, read(self.path))
    self._open()

  def write(self, record: Mapping[str, Any]) -> None:
    """Appends `record`; NumPy and JAX scalars and arrays become numbers, lists.

    Args:
      record: JSON-able; every float finite.

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
    """Drops every record after `position`; the file is replaced atomically.

    Args:
      position: `[stage_index, step]` of the checkpoint to go on from; a record
        at this very position stays, as does one that has no position. None:
        there is no checkpoint, drop everything.

    Returns:
      The records that are kept, in order.
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


class TensorBoardWriter:
  """Writes the scalars of records as TensorBoard events.

  Tags: `losses/total`, `losses/xe`, `losses/consistency`, `monitors/lr`,
  `accuracy/train`; `accuracy/test`, `accuracy/{many,medium,few}` for the
  balanced head and `accuracy_random_head/...` for the other one;
  `pseudo/...`. The step of an event is the number of epochs done, over all
  stages.

  Args:
    directory: folder of the event files; made by the first record.
    history: the records of the run so far, as `JsonlWriter.rewind` gives them.
      Events in `directory` that are not among them are purged.

  Raises:
    ModuleNotFoundError: tensorboardX is not installed.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    history: Iterable[Mapping[str, Any]] = (),
  ):
    try:
      import tensorboardX
    except ImportError as error:
      raise ModuleNotFoundError(
        "TensorBoard events need the package tensorboardX: install it with "
        "pip install 'ltjax[tensorboard]', or set config.tensorboard=False"
      ) from error
    self._make = tensorboardX.SummaryWriter
    self._directory = pathlib.Path(directory)
    kept = list(history)
    self._epochs = sum(r.get("kind") == "train" for r in kept)
    # TensorBoard drops earlier events at this step and after it.
    self._purge_step = self._epochs + 1 if kept else 0
    self._writer: Any = None

  def write(self, record: Mapping[str, Any]) -> None:
    """Writes every scalar of `record` as an event."""
    self._epochs += record.get("kind") == "train"
    if self._writer is None:
      self._writer = self._make(str(self._directory), **self._options())
    for tag, value in scalars(record).items():
      self._writer.add_scalar(tag, value, self._epochs)
    self._writer.flush()

  def close(self) -> None:
    """Writes what is pending and closes the file; closing twice is fine."""
    if self._writer is not None:
      self._writer.close()
      self._writer = None

  def _options(self) -> dict[str, Any]:
    resumed = self._directory.is_dir() and any(self._directory.iterdir())
    # The package names files by the second: two in one second must differ.
    suffix = {"filename_suffix": f".{time.time_ns()}"}
    return suffix | ({"purge_step": self._purge_step} if resumed else {})


class MultiWriter:
  """Hands each record to several writers, in order.

  Args:
    *writers: put the JSONL writer first: should a later one fail, the record
      is already safe.
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
  """Opens the writers of a run, rewound to where it goes on.

  Args:
    workdir: folder of the run; gets `metrics.jsonl` and `tensorboard/`.
    position: `[stage_index, step]` of the checkpoint; None starts afresh.
    tensorboard: whether to write TensorBoard events too.

  Returns:
    The writers as one.
  """
  workdir = pathlib.Path(workdir)
  lines = JsonlWriter(workdir / "metrics.jsonl")
  history = lines.rewind(position)
  if not tensorboard:
    return MultiWriter(lines)
  events = TensorBoardWriter(workdir / "tensorboard", history=history)
  return MultiWriter(lines, events)


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
  """The scalars of a record, under their TensorBoard tags."""
  kind = record.get("kind")
  numbers = {
    key: float(value)
    for key, value in record.items()
    if key not in _LABELS and _is_scalar(value)
  }
  if kind == "eval":
    random = record.get("head") == "random"
    place = "accuracy_random_head" if random else "accuracy"
    split = record.get("split", "test")
    return {
      f"{place}/{_eval_name(key, split)}": value
      for key, value in numbers.items()
    }
  if kind == "pseudo":
    return numbers
  return {
    _TRAIN_TAGS.get(key, f"losses/{key}"): value
    for key, value in numbers.items()
  }


def read(path: str | os.PathLike[str]) -> list[Record]:
  """Reads a JSON-lines file, leaving out a half-written last line.

  Args:
    path: the file; one that is not there has no records.

  Returns:
    The records in order.

  Raises:
    ValueError: a line that is not the last is no JSON object.
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


def _eval_name(key: str, split: str) -> str:
  name = "" if key == "accuracy" else key.removeprefix("accuracy/")
  name = {"balanced_accuracy": "balanced"}.get(name, name)
  if split == "test":
    return name or "test"
  return f"{split}_{name}" if name else split


def _is_scalar(value: object) -> bool:
  if isinstance(value, (bool, str)):
    return False
  return isinstance(value, (int, float)) or getattr(value, "shape", None) == ()


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
