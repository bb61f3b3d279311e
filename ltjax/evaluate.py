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
from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax import predict
from ltjax.data import task as tasks
from ltjax.data.splits import record
from ltjax.devices import compilation
from ltjax.evaluation import metrics
from ltjax.methods import build, frozen
from ltjax.plots import reliability
from ltjax.report import page as report
from ltjax.runs import finished, labeled_files
from ltjax.runs import trained as trained_lib
from ltjax.trust import calibration, intervals, prior

_BAR = 20
_COMPARED = 1000  # images whose pixels are looked at


class Known(NamedTuple):
  """What a table of results needs to know of a run.

  Attributes:
    class_names: one name a class.
    groups: class ids of the groups.
    split: the run's split, which has the labeled images of each class.
  """

  class_names: tuple[str, ...]
  groups: dict[str, tuple[int, ...]]
  split: record.Split


class Predictions(NamedTuple):
  """What a run predicts, and what is true.

  Attributes:
    probabilities: `[T, C]`.
    labels: `[T]` integers.
    known: the run's classes and groups.
    images: the images, to tell whether two runs have the same.
  """

  probabilities: np.ndarray
  labels: np.ndarray
  known: Known
  images: Any


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
) -> Predictions:
  """Returns what a finished run says of each image.

  Args:
    workdir, split, head, data_dir: as of `evaluate`.
    data: labeled pictures in place of the run's own, see `labeled_files`.

  Raises:
    FileNotFoundError, ValueError: as `evaluate`, and if a picture cannot be
      read.
  """
  if not data:
    run = finished.reopen(workdir, data_dir)
    found, labels = run.probabilities(split, head=head)
    task = run.task
    known = Known(task.class_names, task.groups, task.split)
    return Predictions(found, labels, known, getattr(task, f"{split}_images"))
  trained = trained_lib.load(workdir)
  groups = report.read_summary(Path(workdir))["groups"]
  known = Known(
    trained.classes,
    {name: tuple(ids) for name, ids in groups.items()},
    record.Split.load(Path(workdir) / "split.json"),
  )
  files, labels = labeled_files.find(data, trained.classes)
  run_batch, found = trained.predictor(head), []
  for chunk, batch, errors in predict.batches(
    trained, files, predict.BATCH_SIZE
  ):
    for i, path in enumerate(chunk):
      if i in errors:
        raise ValueError(f"{path}: {errors[i]}")
    found.append(run_batch(batch)[: len(chunk)])
  return Predictions(np.concatenate(found), labels, known, files)


def on_data(
  workdir: str | Path, data: str, *, head: str = "balanced"
) -> tuple[dict[str, Any], Known]:
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


def compare(first: Predictions, second: Predictions) -> dict[str, Any]:
  """Compares two runs on the same images.

  Args:
    first, second: as `predictions` gives them.

  Returns:
    JSON values: `both`, `only_first`, `only_second` and `neither`, images by
    who is right; `p_value` of McNemar's exact test; `difference`, of second
    minus first, by metric `[value, low, high]`, see `intervals.of_difference`.

  Raises:
    ValueError: if the classes or the images are not the same.
  """
  if first.known.class_names != second.known.class_names:
    raise ValueError(
      "The runs have other classes, or another order of them; runs can be"
      " compared that know the same."
    )
  if not np.array_equal(first.labels, second.labels) or not _same(
    first.images, second.images
  ):
    raise ValueError(
      "The runs have other images to test on; runs can be compared that were"
      " tested on the same. Name labeled pictures for both by --data."
    )
  a, b = (x.probabilities.argmax(1) for x in (first, second))
  counts = intervals.disagreement(a, b, first.labels)
  difference = intervals.of_difference(
    a,
    b,
    first.labels,
    num_classes=len(first.known.class_names),
    groups=first.known.groups,
  )
  return {
    **counts._asdict(),
    "difference": {name: list(x) for name, x in difference.items()},
  }


def comparison(row: dict[str, Any], first: str, second: str) -> str:
  """Draws what `compare` found.

  Args:
    row: the comparison.
    first, second: names of the runs.
  """
  lines = [
    f"A: {first}",
    f"B: {second}",
    f"both right {row['both']:,}, only A {row['only_first']:,}, only B"
    f" {row['only_second']:,}, neither {row['neither']:,}",
    f"McNemar's exact test: p = {row['p_value']:.3g}",
    "B minus A, in points, with its 95 % interval:",
  ]
  for name, (value, low, high) in row["difference"].items():
    if value is not None:
      lines.append(
        f"  {name.replace('_', ' '):<18} {100 * value:+6.1f}"
        f"  [{100 * low:+.1f}, {100 * high:+.1f}]"
      )
  return "\n".join(lines)


def calibrate(
  workdir: str | Path,
  kind: str,
  *,
  head: str = "balanced",
  data_dir: str | None = None,
) -> dict[str, Any]:
  """Calibrates a finished run on its validation images, and keeps it.

  Writes `calibration.json` and `plots/reliability.png` into the run's folder.

  Args:
    workdir: the run's folder.
    kind: one of `calibration.KINDS`.
    head: `balanced` for g, `random` for g'.
    data_dir: where data sets live; None for the default.

  Returns:
    JSON values: `kind`, `temperature`, `bias`, `images` that it was fitted on;
    for `validation` (by images that were not fitted on) and `test`, pairs of
    before and after of `ece`, `nll` in nats and `balanced_accuracy`.

  Raises:
    FileNotFoundError, ValueError: as `evaluate`, and if there are no validation
      images, or too few.
  """
  run = finished.reopen(workdir, data_dir)
  given, labels = run.probabilities("validation", head=head)
  settings: dict[str, Any] = {"kind": kind}
  if kind == "prior":
    counts = np.asarray(run.task.split.labeled_counts, np.float64)
    settings["prior"] = counts / counts.sum()
  fitted = calibration.fit(given, labels, **settings)
  folds = min(5, len(labels))
  crossed = calibration.cross_fitted(given, labels, folds=folds, **settings)
  test, truth = run.probabilities("test", head=head)
  after = fitted.apply(test)
  calibration.save(workdir, head, fitted)
  reliability.diagram(
    {
      "before": calibration.reliability(test, truth),
      f"calibrated ({kind})": calibration.reliability(after, truth),
    },
    Path(workdir) / "plots" / "reliability.png",
    about=f"{len(truth):,} test images",
  )
  found: dict[str, Any] = {
    "kind": kind,
    "head": head,
    "temperature": fitted.temperature,
    "bias": list(fitted.bias),
    "images": len(labels),
  }
  for part, pair, true in (
    ("validation", (given, crossed), labels),
    ("test", (test, after), truth),
  ):
    rows = [metrics.classification(p, true, groups={}) for p in pair]
    found[part] = {
      "ece": [row["ece"] for row in rows],
      "nll": [calibration.negative_log_likelihood(p, true) for p in pair],
      "balanced_accuracy": [row["balanced_accuracy"] for row in rows],
    }
  return found


def calibrated(row: dict[str, Any], classes: tuple[str, ...]) -> str:
  """Draws what `calibrate` found.

  Args:
    row: as it gives it.
    classes: one name a class.
  """
  lines = [
    f"{row['kind']}, {row['head']} head, fitted on {row['images']:,} validation"
    f" images: temperature {row['temperature']:.3f}"
  ]
  if any(row["bias"]):
    pairs = zip(classes, row["bias"])
    lines.append("bias: " + ", ".join(f"{n} {b:+.2f}" for n, b in pairs))
  for part, what in (
    ("validation", "validation images, each by a fit without it"),
    ("test", "test images"),
  ):
    (a, b), (c, d), (e, f) = row[part].values()
    lines.append(
      f"{what}: ECE {a:.4f} -> {b:.4f}, NLL {c:.4f} -> {d:.4f}, balanced"
      f" accuracy {_percent(e)} -> {_percent(f)} %"
    )
  return "\n".join(lines)


def pool(
  workdir: str | Path, *, head: str = "balanced", data_dir: str | None = None
) -> tuple[dict[str, Any], Known]:
  """Estimates the shares of the classes in a run's unlabeled images.

  Args:
    workdir: the folder of a run that is calibrated by `bias` or `prior`.
    head: `balanced` for g, `random` for g'.
    data_dir: where data sets live; None for the default.

  Returns:
    JSON values: `labeled`, the shares among labeled images; `em` and `bbse`,
    pairs of estimated shares and their standard errors, `bbse` None where a
    class has no validation image; `truth`, the shares where all are known, else
    None; `shift`, the test that the pool has the labeled shares; `expected`,
    see `prior.expected_accuracy`. And the run's classes and groups.

  Raises:
    FileNotFoundError, ValueError: as `evaluate`, and if the run is not
      calibrated, or has no unlabeled or validation images.
  """
  run = finished.reopen(workdir, data_dir)
  fitted = calibration.load(workdir, head)
  if fitted.kind == "temperature":
    raise ValueError(
      "The calibration is a temperature alone, which leaves open which shares"
      " of the classes the probabilities belong to; use --calibrate=bias."
    )
  found, truth = run.probabilities("unlabeled", head=head)
  known, labels = run.probabilities("validation", head=head)
  given = fitted.apply(found)
  counts = np.asarray(run.task.split.labeled_counts, np.float64)
  labeled, start = counts / counts.sum(), np.asarray(fitted.shares)
  em = prior.with_errors(prior.em, given, source=start)
  bbse = None
  if len(np.unique(labels)) == len(counts):
    bbse = prior.with_errors(prior.bbse, found, validation=known, labels=labels)
  true = None
  if np.all(truth >= 0):
    true = (np.bincount(truth, minlength=len(counts)) / len(truth)).tolist()
  for_pool = prior.correct(given, source=start, target=em.shares)
  row = {
    "images": len(found),
    "labeled": labeled.tolist(),
    "em": [x.tolist() for x in em],
    "bbse": bbse and [x.tolist() for x in bbse],
    "truth": true,
    "shift": prior.shifted(given, source=start, shares=labeled)._asdict(),
    "expected": prior.expected_accuracy(for_pool, groups=run.task.groups),
  }
  task = run.task
  return row, Known(task.class_names, task.groups, task.split)


def pool_table(row: dict[str, Any], known: Known) -> str:
  """Draws what `pool` found: a line a class, the test, and the labels.

  Args:
    row, known: as it gives them.
  """
  wide = max(map(len, [*known.class_names, "class"]))
  none = [[None] * len(known.class_names)] * 2
  lines = [
    f"Shares of the classes in {row['images']:,} unlabeled images, in %",
    f"{'class':<{wide}} {'labeled':>8} {'EM':>14} {'BBSE':>14} {'truth':>7}",
  ]

  def pair(value: float | None, error: float | None) -> str:
    if value is None or error is None:
      return "–"
    return f"{100 * value:.1f} ± {100 * error:.1f}"

  columns = (*row["em"], *(row["bbse"] or none), row["truth"] or none[0])
  for name, share, a, b, c, d, true in zip(
    known.class_names, row["labeled"], *columns
  ):
    lines.append(
      f"{name:<{wide}} {_percent(share):>8} {pair(a, b):>14} {pair(c, d):>14}"
      f" {_percent(true):>7}"
    )
  shift = row["shift"]
  lines.append(
    f"Shares as of the labeled images: p = {shift['p_value']:.3g} (likelihood"
    f" ratio {shift['statistic']:.1f}, {shift['degrees']} degrees of freedom)"
  )
  told = [
    f"{name} {_percent(value)} %" for name, value in row["expected"].items()
  ]
  lines.append(f"Pseudo labels for these shares, expected: {', '.join(told)}")
  return "\n".join(lines)


def table(row: dict[str, Any], task: tasks.Task | Known) -> str:
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
  sure = intervals.of_accuracy(row["confusion"], groups=task.groups)
  shown = [
    f"{name.replace('_', ' ').removeprefix('accuracy/')}"
    f" {_percent(x.low)} to {_percent(x.high)} %"
    for name, x in sure.items()
    if x.value is not None
  ]
  lines.append(f"95 % intervals: {', '.join(shown)}")
  return "\n".join(lines)


def _same(first: Any, second: Any) -> bool:
  """Whether images are the same, as far as can be told.

  Runs that see pictures in other sizes have other pixels of them.
  """
  if isinstance(first, list):
    return first == second
  if first.shape != second.shape:
    return len(first) == len(second)
  index = np.arange(min(len(first), _COMPARED))
  index = index * len(first) // max(len(index), 1)
  a, b = (
    x.read(index) if hasattr(x, "read") else np.asarray(x[index])
    for x in (first, second)
  )
  return np.array_equal(a, b)


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
    "--pool",
    action="store_true",
    help="estimate the shares of the classes among the unlabeled images",
  )
  parser.add_argument("--format", choices=("table", "json"), default="table")
  compilation.add_flag(parser)
  options = parser.parse_args(argv)
  compilation.enable(options.compilation_cache)
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
      found = calibrate(
        options.workdir,
        options.calibrate,
        head=options.head,
        data_dir=options.data_dir,
      )
      classes = trained_lib.load(options.workdir).classes
      as_json = options.format == "json"
      print(json.dumps(found) if as_json else calibrated(found, classes))
      return 0
    if options.pool:
      found, known = pool(
        options.workdir, head=options.head, data_dir=options.data_dir
      )
      as_json = options.format == "json"
      print(json.dumps(found) if as_json else pool_table(found, known))
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
      found = compare(first, second)
      names = options.workdir, options.against
      as_json = options.format == "json"
      print(json.dumps(found) if as_json else comparison(found, *names))
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
