"""The summary of a run: what it found, under honest names.

Choosing an epoch or loop on the test set flatters a method. All usual choices
are computed side by side, each under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ltjax import require
from ltjax.data import task as tasks

Row = Mapping[str, Any]
_HIDDEN = ("kind", "position")


def make(
  rows: Iterable[Row],
  *,
  config: Mapping[str, Any],
  task: tasks.Task,
  last_k: int,
) -> dict[str, Any]:
  """Returns the summary of a finished run.

  Args:
    rows: the lines of `metrics.jsonl`.
    config, task: the run's config, JSON-able, and its data.
    last_k: how many of the last evaluations the mean takes.
  """
  rows = list(rows)
  evaluations = [_shown(r) for r in rows if r["kind"] == "eval"]
  return {
    "finished": True,
    "method": config["method"],
    "config": dict(config),
    "classes": list(task.class_names),
    "groups": {name: list(ids) for name, ids in task.groups.items()},
    "labeled_counts": list(task.split.labeled_counts),
    "unlabeled_counts": list(task.split.unlabeled_counts),
    "test_counts": list(task.test_counts),
    "split_hash": task.split.hash,
    "evaluations": evaluations,
    "pseudo_labels": [_shown(r) for r in rows if r["kind"] == "pseudo"],
    "prototypes": [_shown(r) for r in rows if r["kind"] == "prototypes"],
    "result": select(evaluations, last_k=last_k),
  }


def select(evaluations: Sequence[Row], *, last_k: int) -> dict[str, Any]:
  """Returns the result of a run under each selection rule.

  The rules are `last`, `mean_of_last_k`, `validation_selected` (None without
  validation images) and `best_on_test` (only to compare with papers that do
  so). The candidates are the evaluations of the balanced head, one a loop, and
  the initialization's; of probes, those of the last protocol. The mean takes
  `last_k`, 1 or more, of those of the same model as the last: the loops of a
  method, not its base.
  """
  require.at_least("eval.last_k", last_k, 1)
  balanced = [r for r in evaluations if r["head"] == "balanced"]
  # Protocols of probing answer different questions: only the last one counts.
  protocol = balanced[-1].get("protocol")
  balanced = [r for r in balanced if r.get("protocol") == protocol]
  test = [r for r in balanced if r["split"] == "test"]
  validation = [r for r in balanced if r["split"] == "validation"]
  selected = None
  if validation:
    best = max(validation, key=lambda r: r["balanced_accuracy"])
    selected = next(r for r in test if r["model"] == best["model"])
  same = [r for r in test if _family(r) == _family(test[-1])]
  tail = same[-last_k:]
  return {
    "last": dict(test[-1]),
    "mean_of_last_k": {"k": len(tail), **_mean(tail)},
    "validation_selected": None if selected is None else dict(selected),
    "best_on_test": dict(max(test, key=lambda r: r["accuracy"])),
  }


def _shown(row: Row) -> dict[str, Any]:
  return {k: v for k, v in row.items() if k not in _HIDDEN}


def _family(row: Row) -> str:
  """`SSLT loop ` for `SSLT loop 3`."""
  return row["model"].rstrip("0123456789")


def _mean(rows: Sequence[Row]) -> dict[str, float | None]:
  """Returns the mean of each scalar metric; None if one of them is unknown."""
  result: dict[str, float | None] = {}
  for name in rows[0]:
    values = [row[name] for row in rows]
    if any(v is None for v in values):
      result[name] = None
    elif all(isinstance(v, int | float) for v in values):
      result[name] = sum(values) / len(values)
  return result
