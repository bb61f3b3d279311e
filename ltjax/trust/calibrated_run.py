"""A finished run, calibrated on its validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ltjax.evaluation import metrics
from ltjax.plots import reliability
from ltjax.report.markdown import percent
from ltjax.runs import finished
from ltjax.trust import calibration


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
    FileNotFoundError, ValueError: as `finished.reopen`, and if there are no
      validation images, or too few.
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


def text(row: dict[str, Any], classes: tuple[str, ...]) -> str:
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
      f" accuracy {percent(e)} -> {percent(f)} %"
    )
  return "\n".join(lines)
