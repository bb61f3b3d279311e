"""Decisions from probabilities: what to call an image, given what matters.

The most probable class is the right call where all mistakes cost the same and
images count alike. Where they do not there are two ways: to say what mistakes
cost, or to choose by validation images a weight for each class,
`argmax_c w_c p_c`, that makes a measure of the tail as good as it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple

import numpy as np

from ltjax import require
from ltjax.evaluation import checks, metrics

OBJECTIVES = ("balanced_accuracy", "geometric_mean", "macro_f1", "least_recall")
MIN_RECALL = "min_recall:"


class Weights(NamedTuple):
  """Weights of the classes, `[C]` of geometric mean 1, and what they reach.

  Attributes:
    weights: w, above 0.
    value: of the objective on the images that they were chosen by, too good
      for others.
    before: of the objective with equal weights.
  """

  weights: np.ndarray
  value: float
  before: float


def least_cost(probabilities: np.ndarray, costs: np.ndarray) -> np.ndarray:
  """Returns the class of the least expected cost, int64 `[T]`.

  `argmin_k sum_c p_c cost[c, k]`, the lowest index among equals.

  Args:
    probabilities: `[T, C]`, calibrated for where they are used.
    costs: `[C, K]`, of decision `k` where the class is `c`; any finite numbers.
      `K` may be above `C`: a decision may be to ask someone.

  Raises:
    ValueError: if arrays do not fit.

  Source: Elkan (2001), "The foundations of cost-sensitive learning", equation
    1.
  """
  given, costs = checks.distributions(probabilities), np.asarray(costs, float)
  if costs.ndim != 2 or len(costs) != given.shape[1] or not costs.size:
    raise ValueError(
      f"costs have shape {costs.shape}; they must be [C, K], a row for each of"
      f" {given.shape[1]} classes."
    )
  if not np.isfinite(costs).all():
    raise ValueError("costs must be finite.")
  return (given @ costs).argmin(1)


def weighted(
  probabilities: np.ndarray, weights: np.ndarray | Sequence[float]
) -> np.ndarray:
  """Returns `argmax_c w_c p_c`, int64 `[T]`, the lowest index among equals.

  Args:
    probabilities: `[T, C]`.
    weights: w, `[C]`, above 0.

  Raises:
    ValueError: if arrays do not fit.
  """
  given, found = checks.distributions(probabilities), np.asarray(weights, float)
  if (
    found.shape != (given.shape[1],)
    or not np.isfinite(found).all()
    or not np.all(found > 0)
  ):
    raise ValueError(
      f"weights have shape {found.shape}; they must be a finite number above 0"
      f" for each of {given.shape[1]} classes."
    )
  return (given * found).argmax(1)


def check(objective: str, name: str = "objective") -> None:
  """Checks that there is such an objective.

  Args:
    objective: one of `OBJECTIVES`, or `min_recall:R` with R in (0, 1].
    name: of the setting, for the ValueError.
  """
  if not objective.startswith(MIN_RECALL):
    require.choice(name, objective, (*OBJECTIVES, f"{MIN_RECALL}R"))
  text = objective.removeprefix(MIN_RECALL)
  try:
    least = 1.0 if text == objective else float(text)
  except ValueError:
    least = math.nan
  if not 0 < least <= 1:
    raise ValueError(
      f"{name} is {objective!r}; {MIN_RECALL} needs a recall above 0, at most"
      f" 1, such as {MIN_RECALL}0.8."
    )


def measure(objective: str, confusion: np.ndarray) -> float:
  """Returns an objective of counts, in [0, 1]; classes without images are out.

  Args:
    objective: `balanced_accuracy`, the mean of the recalls; `geometric_mean`,
      theirs; `macro_f1`, the mean of `2 K_cc / (K_c. + K_.c)`; `least_recall`;
      or `min_recall:R`, the mean of `min(recall / R, 1)`, which is 1 where each
      class is found in a share R of its images or more.
    confusion: `[C, C]` images by true and predicted class.

  Raises:
    ValueError: if the objective is unknown, or there are no images.
  """
  check(objective)
  counts = np.asarray(confusion)
  images = counts.sum(1)
  there = images > 0
  if not there.any():
    raise ValueError("There are no images to choose by.")
  right = np.diag(counts)[there]
  recalls = right / images[there]
  if objective.startswith(MIN_RECALL):
    least = float(objective.removeprefix(MIN_RECALL))
    return float(np.minimum(recalls / least, 1).mean())
  if objective == "macro_f1":
    return float(np.mean(2 * right / (images + counts.sum(0))[there]))
  if objective == "least_recall":
    return float(recalls.min())
  if objective == "balanced_accuracy":
    return float(recalls.mean())
  return float(recalls.prod() ** (1 / len(recalls)))


def choose(
  probabilities: np.ndarray,
  labels: np.ndarray,
  *,
  objective: str = "balanced_accuracy",
  rounds: int = 20,
  points: int = 1000,
) -> Weights:
  """Chooses weights of the classes by coordinate search, from equal ones on.

  A class at a time: predictions change only at the weights at which it
  overtakes the best of the others on some image. Between those all are tried,
  so that the best for this class is found exactly. Among equally good ones the
  balanced accuracy decides (a geometric mean is 0 until the last class is
  found), of `min_recall:R` the accuracy, then nearness to the weight it had. It
  ends where no class can gain.

  The end is a best point for each class alone, which for two classes is the
  best of all, and for more may not be.

  Args:
    probabilities: `[V, C]`, of validation images.
    labels: `[V]` integers, their true classes.
    objective: one of `OBJECTIVES`, or `min_recall:R`, see `measure`.
    rounds: over the classes, at most.
    points: tried for a class, at most; where there are more, so many of them,
      evenly spaced, and the search is no longer exact.

  Raises:
    ValueError: if arrays do not fit, the objective is unknown, `rounds` is
      below 1 or `points` below 2.

  Source: Narasimhan et al. (2015), "Consistent multiclass algorithms for
    complex performance measures", for weights of classes as the optimal form.
  """
  check(objective)
  require.at_least("rounds", rounds, 1)
  require.at_least("points", points, 2)
  given = checks.distributions(probabilities)
  truth = checks.labels(labels, "labels", *given.shape, low=0)
  num_classes = given.shape[1]
  logs = np.log(np.maximum(given, 1e-30))
  score = _scorer(objective, truth, num_classes)
  shift = np.zeros(num_classes)
  best = before = score((logs + shift).argmax(1))
  for _ in range(rounds):
    start = best
    for c in range(num_classes):
      moved, value = _line(logs, shift, c, score, best, points)
      if value > best:
        shift[c], best = moved, value
        shift -= shift.mean()
        # Adding up may have moved a tie; what counts is what is reached.
        best = score((logs + shift).argmax(1))
    if best <= start:
      break
  return Weights(np.exp(shift), best[0], before[0])


def _scorer(
  objective: str, truth: np.ndarray, num_classes: int
) -> Callable[[np.ndarray], tuple[float, float]]:
  def score(predicted: np.ndarray) -> tuple[float, float]:
    counts = metrics.confusion(predicted, truth, num_classes=num_classes)
    if objective.startswith(MIN_RECALL):
      second = float(np.trace(counts) / counts.sum())
    else:
      second = measure("balanced_accuracy", counts)
    return measure(objective, counts), second

  return score


def _line(
  logs: np.ndarray,
  shift: np.ndarray,
  c: int,
  score: Callable[[np.ndarray], tuple[float, float]],
  best: tuple[float, float],
  most: int,
) -> tuple[float, tuple[float, float]]:
  """The best shift of one class, given the others'; and its value."""
  others = logs + shift
  others[:, c] = -np.inf
  rival, height = others.argmax(1), others.max(1)
  edges = np.unique(height - logs[:, c])  # it is called c above these
  points = np.concatenate(
    [[edges[0] - 1], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1]]
  )
  if len(points) > most:
    points = points[np.linspace(0, len(points) - 1, most).astype(int)]
  points = points[np.argsort(np.abs(points - shift[c]), kind="stable")]
  found = float(shift[c])
  for point in points:
    value = score(np.where(logs[:, c] + point > height, c, rival))
    if value > best:
      found, best = float(point), value
  return found, best
