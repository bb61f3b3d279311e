"""The records of a run as TensorBoard events.

The axis counts epochs over all stages. A run that resumes tells TensorBoard, by
a "purge step", to forget what was written after the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import os
import pathlib
import time
from typing import Any

_TRAIN_TAGS = {
  "loss": "losses/total",
  "cross_entropy": "losses/xe",
  "accuracy": "accuracy/train",
  "learning_rate": "monitors/lr",
  "images_per_second": "monitors/images_per_second",
}
# What a record says about itself, as opposed to what was measured.
_LABELS = frozenset(("epoch", "epochs", "loop", "step", "position", "count"))


class TensorBoardWriter:
  """Writes the scalars of records as TensorBoard events; needs tensorboardX.

  Tags: `losses/total`, `losses/xe`, `losses/consistency`, `monitors/lr`,
  `accuracy/train`; `accuracy/test`, `accuracy/{many,medium,few}` for the
  balanced head and `accuracy_random_head/...` for the other one; `pseudo/...`.

  Args:
    directory: folder of the event files; made by the first record.
    history: the records of the run so far, as `JsonlWriter.rewind` gives them.
      Events in `directory` that are not among them are purged.
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
  if kind in ("probe", "prototypes"):
    return {}  # One number a run: nothing to draw over steps.
  return {
    _TRAIN_TAGS.get(key, f"losses/{key}"): value
    for key, value in numbers.items()
  }


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
