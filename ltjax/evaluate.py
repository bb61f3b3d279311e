"""Tests a finished run again: `python -m ltjax.evaluate --workdir=DIR`.

The data is loaded and split anew as `config.json` says, and must be what the
run saw; the model is the saved one. On the machine of the run every number is
the one in its summary, and where a number differs, that is told.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import Any

import jax
import numpy as np

from ltjax.data import task as tasks
from ltjax.devices import compilation
from ltjax.methods import build, frozen
from ltjax.runs import finished
from ltjax.runs import trained as trained_lib

_BAR = 20


def evaluate(
  workdir: str | Path,
  *,
  split: str = "test",
  head: str = "balanced",
  data_dir: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any] | None, tasks.Task]:
  """Computes all metrics of a finished run's model again.

  Args:
    workdir: the run's folder.
    split: `test` or `validation`.
    head: `balanced` for g, `random` for g'.
    data_dir: where data sets live; None for the default.

  Returns:
    The metrics, as in `summary.json`; the last ones of this head there, or None
    if the run never evaluated it; the task.

  Raises:
    FileNotFoundError: if there is no run, or its data is gone.
    ValueError: if the run is not finished, its files are damaged, the data is
      not what it was, or there are no validation images.
  """
  run = finished.reopen(workdir, data_dir)
  config, task = run.config, run.task
  if split == "validation" and not len(task.validation_labels):
    raise ValueError(
      "The run held out no validation images (data.validation.per_class is 0);"
      " choose --split=test."
    )
  learner = build.build_learner(config, task, run.mesh)
  learner = frozen.on_features(learner, config)
  state = run.state()
  if _equal(state.head, state.balanced_head):
    head = "balanced"  # One head is both, and the run reports it as this.
  rows = [r for r in run.summary["evaluations"] if r["head"] == head]
  rows = [r for r in rows if r["split"] == split]
  last = rows[-1] if rows else None
  computed = learner.evaluate(
    state, model=last["model"] if last else config.method, head=head
  )
  row = next(r for r in computed if r["split"] == split)
  row = {k: v for k, v in row.items() if k != "kind"}
  if last:
    row = {"stage": last["stage"], **row}
  return json.loads(json.dumps(row)), last, task


def differences(
  row: dict[str, Any], recorded: dict[str, Any] | None
) -> list[str]:
  """Returns the names of the metrics that are not what the run recorded.

  Args:
    row: the metrics computed now.
    recorded: those in the summary; None if it has none.
  """
  if recorded is None:
    return []
  # A metric that a run of an earlier version did not record has not changed.
  return [k for k in row if k in recorded and row[k] != recorded[k]]


def table(row: dict[str, Any], task: tasks.Task) -> str:
  """Draws metrics: a line a class, by groups, then the groups and the whole.

  Args:
    row: as `evaluate` gives it.
    task: gives the classes, their groups and labeled images.
  """
  from rich import cells

  confusion = np.asarray(row["confusion"])
  images, called = confusion.sum(axis=1), confusion.sum(axis=0)
  names = [
    "".join(c if c.isprintable() else "?" for c in name)
    for name in task.class_names
  ]
  wide = max(cells.cell_len(n) for n in [*names, "class"])
  numbers = f"{'labeled':>8} {'images':>8} {'precision':>10} {'recall':>7}"
  header = f"{'group':<8} {'class':<{wide}} {numbers}"
  lines = [header, "─" * (len(header) + 1 + _BAR)]

  def add(group, name, labeled, total, precision, recall):
    name += " " * (wide - cells.cell_len(name))
    bar = "" if recall is None else "█" * round(recall * _BAR)
    text = (
      f"{group:<8} {name} {labeled:>8,} {total:>8,} {_percent(precision):>10}"
      f" {_percent(recall):>7} {bar}"
    )
    lines.append(text.rstrip())

  for group, ids in task.groups.items():
    for n, i in enumerate(ids):
      right = int(confusion[i, i])
      precision = right / int(called[i]) if called[i] else None
      add(
        "" if n else group,
        names[i],
        task.split.labeled_counts[i],
        int(images[i]),
        precision,
        row["per_class"][i],
      )
  lines.append(lines[1])
  for group, ids in task.groups.items():
    labeled = sum(task.split.labeled_counts[i] for i in ids)
    total = sum(int(images[i]) for i in ids)
    add(group, "", labeled, total, None, row[f"accuracy/{group}"])
  labeled, total = sum(task.split.labeled_counts), int(images.sum())
  add("all", "", labeled, total, None, row["accuracy"])
  lines += [
    lines[1],
    f"{row['model']}, {row['split']} images, {row['head']} head: accuracy"
    f" {_percent(row['accuracy'])} %, balanced accuracy"
    f" {_percent(row['balanced_accuracy'])} %, geometric mean"
    f" {_percent(row['geometric_mean'])} %, ECE {row['ece']:.4f}",
  ]
  return "\n".join(lines)


def _percent(fraction: float | None) -> str:
  return "–" if fraction is None else f"{100 * fraction:.1f}"


def _equal(a: Any, b: Any) -> bool:
  pair = jax.tree.leaves(a), jax.tree.leaves(b)
  return len(pair[0]) == len(pair[1]) and all(map(np.array_equal, *pair))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.evaluate",
    description="Computes all metrics of a finished run's model again.",
  )
  parser.add_argument("--workdir", required=True, help="folder of the run")
  parser.add_argument(
    "--data_dir", help="data sets; else LTJAX_DATA, else a cache folder"
  )
  parser.add_argument("--split", choices=("test", "validation"), default="test")
  parser.add_argument(
    "--head",
    choices=tuple(trained_lib.HEADS),
    default="balanced",
    help="balanced: g, the class-balanced one (default); random: g'",
  )
  parser.add_argument("--format", choices=("table", "json"), default="table")
  compilation.add_flag(parser)
  options = parser.parse_args(argv)
  compilation.enable(options.compilation_cache)
  try:
    row, recorded, task = evaluate(
      options.workdir,
      split=options.split,
      head=options.head,
      data_dir=options.data_dir,
    )
    print(json.dumps(row) if options.format == "json" else table(row, task))
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  changed = differences(row, recorded)
  if changed:
    print(
      f"note: {', '.join(changed)} differ from summary.json. Other hardware and"
      " other versions of JAX round differently.",
      file=sys.stderr,
    )
  return 0


if __name__ == "__main__":
  sys.exit(main())
