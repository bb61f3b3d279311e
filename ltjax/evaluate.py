"""Tests a finished run again: `python -m ltjax.evaluate --workdir=DIR`.

The data is loaded and split anew as `config.json` says, and must be what the
run saw; the model is the saved one. On the machine of the run every number is
the one in its summary, and where a number differs, that is told.

    --against=OTHER             compares it with another run, image by image
    --data=folder:PATH          tests it on labeled pictures of one's own
    --calibrate=bias            fits its probabilities to validation images, and
                                keeps the fit in the run's folder
    --pool                      estimates the classes of its unlabeled images
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import json
from pathlib import Path
import sys
from typing import Any

import jax
import numpy as np

from ltjax.data import task as tasks
from ltjax.data.splits import record
from ltjax.devices import compilation
from ltjax.evaluation import metrics
from ltjax.methods import build, frozen
from ltjax.report import page as report
from ltjax.report.markdown import percent
from ltjax.runs import finished, pictures
from ltjax.runs import trained as trained_lib
from ltjax.trust import (
  calibrated_run,
  calibration,
  comparison,
  decided_run,
  decisions,
  intervals,
)
from ltjax.trust import pool as pools

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


def predictions(
  workdir: str | Path,
  *,
  data: str = "",
  split: str = "test",
  head: str = "balanced",
  data_dir: str | None = None,
) -> comparison.Predictions:
  """Returns what a finished run says of each image.

  Args:
    workdir, split, head, data_dir: as of `evaluate`.
    data: labeled pictures in place of the run's own, see `runs.pictures`.

  Raises:
    FileNotFoundError, ValueError: as `evaluate`, and if a picture cannot be
      read.
  """
  if not data:
    run = finished.reopen(workdir, data_dir)
    found, labels = run.probabilities(split, head=head)
    task = run.task
    known = comparison.Known(task.class_names, task.groups, task.split)
    return comparison.Predictions(
      found, labels, known, getattr(task, f"{split}_images")
    )
  trained = trained_lib.load(workdir)
  groups = report.read_summary(Path(workdir))["groups"]
  known = comparison.Known(
    trained.classes,
    {name: tuple(ids) for name, ids in groups.items()},
    record.Split.load(Path(workdir) / "split.json"),
  )
  files, labels = pictures.labeled(data, trained.classes)
  run_batch, found = trained.predictor(head), []
  for chunk, batch, errors in pictures.batches(
    trained, files, pictures.BATCH_SIZE
  ):
    for i, path in enumerate(chunk):
      if i in errors:
        raise ValueError(f"{path}: {errors[i]}")
    found.append(run_batch(batch)[: len(chunk)])
  return comparison.Predictions(np.concatenate(found), labels, known, files)


def on_data(
  workdir: str | Path, data: str, *, head: str = "balanced"
) -> tuple[dict[str, Any], comparison.Known]:
  """Computes all metrics on labeled pictures that are not the run's own.

  Args:
    workdir: the run's folder.
    data: `folder:PATH` or `csv:FILE`; classes are matched by name.
    head: `balanced` for g, `random` for g'.

  Returns:
    The metrics, and the run's classes and groups, which they are of.

  Raises:
    FileNotFoundError, ValueError: as `predictions`.
  """
  found = predictions(workdir, data=data, head=head)
  row = metrics.classification(
    found.probabilities, found.labels, groups=found.known.groups
  )
  summary = report.read_summary(Path(workdir))
  model = summary["result"]["last"]["model"]
  return {"model": model, "head": head, "split": data, **row}, found.known


def table(row: dict[str, Any], task: tasks.Task | comparison.Known) -> str:
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
      f"{group:<8} {name} {labeled:>8,} {total:>8,} {percent(precision):>10}"
      f" {percent(recall):>7} {bar}"
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
    f" {percent(row['accuracy'])} %, balanced accuracy"
    f" {percent(row['balanced_accuracy'])} %, geometric mean"
    f" {percent(row['geometric_mean'])} %, ECE {row['ece']:.4f}",
  ]
  sure = intervals.of_accuracy(row["confusion"], groups=task.groups)
  shown = [
    f"{name.replace('_', ' ').removeprefix('accuracy/')}"
    f" {percent(x.low)} to {percent(x.high)} %"
    for name, x in sure.items()
    if x.value is not None
  ]
  lines.append(f"95 % intervals: {', '.join(shown)}")
  return "\n".join(lines)


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
  parser.add_argument(
    "--against",
    metavar="DIR",
    help="another run, to compare on the same images",
  )
  parser.add_argument(
    "--data",
    default="",
    help="folder:PATH or csv:FILE, labeled pictures that are not the run's own",
  )
  parser.add_argument("--split", choices=("test", "validation"), default="test")
  parser.add_argument(
    "--head",
    choices=tuple(trained_lib.HEADS),
    default="balanced",
    help="balanced: g, the class-balanced one (default); random: g'",
  )
  parser.add_argument(
    "--calibrate",
    choices=calibration.KINDS,
    help="fit probabilities to the validation images, for predict --calibrated",
  )
  parser.add_argument(
    "--decide",
    default="",
    metavar="RULE",
    help=f"weights of the classes for {', '.join(decisions.OBJECTIVES)} or"
    f" {decisions.MIN_RECALL}R, chosen on the validation images, or costs:FILE;"
    " for predict --decided",
  )
  parser.add_argument(
    "--calibrated", action="store_true", help="with --decide: calibrate first"
  )
  parser.add_argument(
    "--pool",
    action="store_true",
    help="estimate the shares of the classes among the unlabeled images",
  )
  parser.add_argument("--format", choices=("table", "json"), default="table")
  compilation.add_flag(parser)
  options = parser.parse_args(argv)
  compilation.enable(options.compilation_cache)

  def show(found: Any, text: Callable[[], str]) -> None:
    print(json.dumps(found) if options.format == "json" else text())

  try:
    if options.data and options.split != "test":
      raise ValueError(
        "--split chooses among the run's own images, and --data names others:"
        " give one of the two."
      )
    if options.calibrate:
      if options.data or options.against:
        raise ValueError(
          "--calibrate is for a run and its own validation images; leave out"
          " --data and --against."
        )
      found = calibrated_run.calibrate(
        options.workdir,
        options.calibrate,
        head=options.head,
        data_dir=options.data_dir,
      )
      classes = trained_lib.load(options.workdir).classes
      show(found, lambda: calibrated_run.text(found, classes))
      return 0
    if options.decide:
      if options.data or options.against:
        raise ValueError(
          "--decide is for a run and its own images; leave out --data and"
          " --against."
        )
      found = decided_run.decide(
        options.workdir,
        options.decide,
        head=options.head,
        calibrated=options.calibrated,
        data_dir=options.data_dir,
      )
      classes = trained_lib.load(options.workdir).classes
      show(found, lambda: decided_run.text(found, classes))
      return 0
    if options.pool:
      found, known = pools.estimate(
        options.workdir, head=options.head, data_dir=options.data_dir
      )
      show(found, lambda: pools.table(found, known))
      return 0
    if options.against:
      first, second = (
        predictions(
          folder,
          data=options.data,
          split=options.split,
          head=options.head,
          data_dir=options.data_dir,
        )
        for folder in (options.workdir, options.against)
      )
      found = comparison.compare(first, second)
      names = options.workdir, options.against
      show(found, lambda: comparison.text(found, *names))
      return 0
    if options.data:
      row, task = on_data(options.workdir, options.data, head=options.head)
      recorded = None
    else:
      row, recorded, task = evaluate(
        options.workdir,
        split=options.split,
        head=options.head,
        data_dir=options.data_dir,
      )
    if options.format == "json":
      sure = intervals.of_accuracy(row["confusion"], groups=task.groups)
      found = {name: [x.low, x.high] for name, x in sure.items()}
      print(json.dumps(row | {"intervals": found}))
    else:
      print(table(row, task))
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
