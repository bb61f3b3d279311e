"""A finished run with a rule for its decisions, chosen on validation images."""

from __future__ import annotations

from collections.abc import Sequence
import csv
import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ltjax import require
from ltjax.data import class_file
from ltjax.evaluation import metrics
from ltjax.report.markdown import percent
from ltjax.runs import finished
from ltjax.runs import workdir as workdirs
from ltjax.trust import calibration, decisions

FILE = "decisions.json"
COSTS = "costs:"


@dataclasses.dataclass(frozen=True)
class Rule:
  """What to call a picture, given its probabilities.

  Attributes:
    kind: an objective of `decisions`, or `costs`.
    weights: `[C]` of an objective; empty for costs.
    costs: `[C][C]`, of calling a class (row) another (column); or empty.
    calibrated: whether the probabilities are to be calibrated first.
  """

  kind: str
  weights: tuple[float, ...] = ()
  costs: tuple[tuple[float, ...], ...] = ()
  calibrated: bool = False

  def decide(self, probabilities: np.ndarray) -> np.ndarray:
    """Returns the classes, int64 `[T]`, of probabilities `[T, C]`."""
    if self.costs:
      return decisions.least_cost(probabilities, np.asarray(self.costs))
    return decisions.weighted(probabilities, self.weights)


def read_costs(
  path: str | os.PathLike[str], classes: Sequence[str]
) -> np.ndarray:
  """Reads a table of costs: a row a true class, a column a decision.

  Args:
    path: CSV; its first row and first column are class names, in any order.
    classes: one name a class. All must be there, once.

  Returns:
    float64 `[C, C]`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a class that is unknown, missing or named twice, or a cost
      that is no finite number; names the row.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file of costs.")
  with path.open(newline="", encoding="utf-8-sig") as file:
    rows = [row for row in csv.reader(file) if any(map(str.strip, row))]
  header = [name.strip() for name in rows[0][1:]] if rows else []
  class_file.check_names(header, classes, where=f"{path}, first row")
  named = [row[0].strip() for row in rows[1:]]
  class_file.check_names(named, classes, where=f"{path}, first column")
  place = {name: i for i, name in enumerate(classes)}
  found = np.zeros((len(classes), len(classes)))
  for name, row in zip(named, rows[1:]):
    if len(row) != len(header) + 1:
      raise ValueError(
        f"{path}, row {name!r}: {len(row) - 1} costs; it needs {len(header)}."
      )
    for other, text in zip(header, row[1:]):
      try:
        cost = float(text)
      except ValueError:
        cost = math.nan
      if not math.isfinite(cost):
        raise ValueError(
          f"{path}, row {name!r}: the cost {text!r} of {other!r} is no number."
        )
      found[place[name], place[other]] = cost
  return found


def decide(
  workdir: str | Path,
  rule: str,
  *,
  head: str = "balanced",
  calibrated: bool = False,
  data_dir: str | None = None,
) -> dict[str, Any]:
  """Chooses how a finished run decides, and keeps it for `predict --decided`.

  Args:
    workdir: the run's folder; gets `decisions.json`.
    rule: an objective of `decisions.measure`, to choose weights of the classes
      by, on the validation images; or `costs:FILE`, see `read_costs`.
    head: `balanced` for g, `random` for g'.
    calibrated: whether by calibrated probabilities, which costs need to mean
      what they say.
    data_dir: where data sets live; None for the default.

  Returns:
    JSON values: `kind`, `head`, `weights`, `images` that it was chosen on, and
    for `validation` (too good, if it was chosen on them) and `test`, pairs of
    before and after of the `accuracy` and of each of `decisions.OBJECTIVES`,
    and with costs of the mean `cost`.

  Raises:
    FileNotFoundError, ValueError: as `finished.reopen` and `read_costs`; if the
      rule is unknown, or there are no validation images to choose by.
  """
  if not rule.startswith(COSTS):
    kinds = (*decisions.OBJECTIVES, f"{decisions.MIN_RECALL}R", f"{COSTS}FILE")
    if not rule.startswith(decisions.MIN_RECALL):
      require.choice("--decide", rule, kinds)
    decisions.check(rule, "--decide")
  run = finished.reopen(workdir, data_dir)
  fitted = calibration.load(workdir, head) if calibrated else None

  def said(part: str) -> tuple[np.ndarray, np.ndarray]:
    found, labels = run.probabilities(part, head=head)
    return (found if fitted is None else fitted.apply(found)), labels

  costs = np.zeros((0, 0))
  if rule.startswith(COSTS):
    costs = read_costs(rule.removeprefix(COSTS), run.trained.classes)
    chosen = Rule(
      "costs", costs=tuple(map(tuple, costs.tolist())), calibrated=calibrated
    )
    parts = ["validation"] if len(run.task.validation_labels) else []
  else:
    weights = decisions.choose(*said("validation"), objective=rule).weights
    chosen = Rule(rule, weights=tuple(weights.tolist()), calibrated=calibrated)
    parts = ["validation"]
  found: dict[str, Any] = {
    "kind": chosen.kind,
    "head": head,
    "weights": list(chosen.weights),
    "images": len(run.task.validation_labels) if chosen.weights else 0,
  }
  for part in (*parts, "test"):
    given, labels = said(part)
    pair = given.argmax(1), chosen.decide(given)
    counts = [
      metrics.confusion(p, labels, num_classes=given.shape[1]) for p in pair
    ]
    found[part] = {
      "accuracy": [float(c.trace() / c.sum()) for c in counts],
      **{
        name: [decisions.measure(name, c) for c in counts]
        for name in decisions.OBJECTIVES
      },
    }
    if costs.size:
      found[part]["cost"] = [float((c * costs).sum() / c.sum()) for c in counts]
  path = Path(workdir) / FILE
  known = json.loads(path.read_text()) if path.exists() else {}
  workdirs.write_json(path, {**known, head: dataclasses.asdict(chosen)})
  return found


def load(workdir: str | Path, head: str, *, calibrated: bool) -> Rule:
  """Reads how a run's head decides.

  Args:
    workdir: the run's folder.
    head: `balanced` or `random`.
    calibrated: whether its probabilities are.

  Raises:
    ValueError: if there is no rule, or it is for other probabilities.
  """
  path = Path(workdir) / FILE
  known = json.loads(path.read_text()) if path.exists() else {}
  if head not in known:
    raise ValueError(
      f"{workdir} has no rule for decisions of its {head} head; choose one with"
      f" python -m ltjax.evaluate --workdir={workdir} --head={head}"
      " --decide=balanced_accuracy."
    )
  found = dict(known[head])
  found["costs"] = tuple(map(tuple, found["costs"]))
  rule = Rule(**(found | {"weights": tuple(found["weights"])}))
  if rule.calibrated != calibrated:
    how = "calibrated" if rule.calibrated else "uncalibrated"
    way = "add --calibrated" if rule.calibrated else "leave out --calibrated"
    raise ValueError(
      f"The rule in {path} is for {how} probabilities: {way}, or choose it"
      " again."
    )
  return rule


def text(row: dict[str, Any], classes: Sequence[str]) -> str:
  """Draws what `decide` found.

  Args:
    row: as it gives it.
    classes: one name a class.
  """
  chosen = f", chosen on {row['images']:,} validation images" * bool(
    row["images"]
  )
  lines = [f"decisions by {row['kind']}, {row['head']} head{chosen}"]
  if row["weights"]:
    pairs = zip(classes, row["weights"])
    lines.append("weights: " + ", ".join(f"{n} {w:.2f}" for n, w in pairs))
  for part in ("validation", "test"):
    if part not in row:
      continue
    own = " (chosen on them)" * (part == "validation" and bool(row["images"]))
    shown = [
      f"{name.replace('_', ' ')} {a:.4f} -> {b:.4f}"
      if name == "cost"
      else f"{name.replace('_', ' ')} {percent(a)} -> {percent(b)} %"
      for name, (a, b) in row[part].items()
    ]
    lines.append(f"{part} images{own}: {', '.join(shown)}")
  return "\n".join(lines)
