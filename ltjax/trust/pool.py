"""The classes of a run's unlabeled images: how many are of which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ltjax.report.markdown import percent
from ltjax.runs import finished
from ltjax.trust import calibration, comparison, prior


def estimate(
  workdir: str | Path, *, head: str = "balanced", data_dir: str | None = None
) -> tuple[dict[str, Any], comparison.Known]:
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
    FileNotFoundError, ValueError: as `finished.reopen`, and if the run is not
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
  return row, comparison.Known(task.class_names, task.groups, task.split)


def table(row: dict[str, Any], known: comparison.Known) -> str:
  """Draws what `estimate` found: a line a class, the test, and the labels.

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
      f"{name:<{wide}} {percent(share):>8} {pair(a, b):>14} {pair(c, d):>14}"
      f" {percent(true):>7}"
    )
  shift = row["shift"]
  lines.append(
    f"Shares as of the labeled images: p = {shift['p_value']:.3g} (likelihood"
    f" ratio {shift['statistic']:.1f}, {shift['degrees']} degrees of freedom)"
  )
  told = [
    f"{name} {percent(value)} %" for name, value in row["expected"].items()
  ]
  lines.append(f"Pseudo labels for these shares, expected: {', '.join(told)}")
  return "\n".join(lines)
