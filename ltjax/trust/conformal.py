"""Sets of classes that hold the true one as often as asked, for every class.

Split conformal prediction, class by class (Mondrian): class `c` is in the set
of an image if `1 - p_c` is at most the quantile of the scores `1 - p_c` of the
validation images of `c`. Of new images of each class, at least `1 - alpha` have
it in their set, on average over validation images, whatever the model.

It takes `n >= 1 / alpha - 1` validation images of a class to leave it out of
any set. A class of fewer has an infinite quantile, and is in every set.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

from ltjax import require
from ltjax.evaluation import checks


def thresholds(
  probabilities: np.ndarray, labels: np.ndarray, *, alpha: float = 0.1
) -> np.ndarray:
  """Returns the greatest score with which each class is in a set.

  Args:
    probabilities: `[V, C]`, of validation images.
    labels: `[V]` integers, their true classes.
    alpha: how often the true class may be missing, in (0, 1).

  Returns:
    float64 `[C]`: of the `n` scores of a class the `ceil((n + 1) (1 - alpha))`
    -th smallest; infinite if there are fewer.

  Raises:
    ValueError: if arrays do not fit, or alpha is out of range.

  Source: Vovk (2012), "Conditional validity of inductive conformal predictors",
    Section 4 (label-conditional); Sadinle, Lei & Wasserman (2019), "Least
    ambiguous set-valued classifiers with bounded error levels", for the score.
  """
  require.within("alpha", alpha, "(0, 1)")
  given = checks.distributions(probabilities)
  truth = checks.labels(labels, "labels", *given.shape, low=0)
  found = np.full(given.shape[1], np.inf)
  for c in range(given.shape[1]):
    scores = np.sort(1 - given[truth == c, c])
    # Rounded, as 20 * (1 - 0.05) is 19.000000000000004.
    rank = math.ceil(round((len(scores) + 1) * (1 - alpha), 9))
    if rank <= len(scores):
      found[c] = scores[rank - 1]
  return found


def sets(probabilities: np.ndarray, limits: np.ndarray) -> np.ndarray:
  """Returns which classes are in the set of each image, bool `[T, C]`.

  Args:
    probabilities: `[T, C]`. A set may be empty: no class fits.
    limits: `[C]`, of `thresholds`.

  Raises:
    ValueError: if arrays do not fit.
  """
  given = checks.distributions(probabilities)
  limits = np.asarray(limits, np.float64)
  if limits.shape != (given.shape[1],) or np.isnan(limits).any():
    raise ValueError(
      f"limits have shape {limits.shape}; they must be a number for each of"
      f" {given.shape[1]} classes."
    )
  return 1 - given <= limits


def always(limits: np.ndarray, classes: Sequence[str]) -> list[str]:
  """Returns the names of the classes that are in every set.

  Args:
    limits: `[C]`, of `thresholds`.
    classes: one name a class.
  """
  return [name for name, limit in zip(classes, limits) if math.isinf(limit)]
