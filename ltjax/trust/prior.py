"""The shares of the classes where a model is used, and predictions for them.

A classifier's probabilities belong to a world with certain shares of the
classes, the *source*. Where the shares are others, and the images of each class
look the same (label shift), the shares follow from unlabeled images, and the
probabilities for them from Bayes' rule.

Two estimates, which fail in different ways: EM trusts the probabilities to be
calibrated, BBSE trusts labeled images to show how classes are mistaken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from ltjax import require
from ltjax.data import class_file
from ltjax.data.splits import record
from ltjax.evaluation import checks
from ltjax.trust.calibration import Calibration

_WORST = 1e8  # condition number of a confusion matrix


class Estimate(NamedTuple):
  """Shares of the classes, `[C]` of sum 1, and their standard errors."""

  shares: np.ndarray
  errors: np.ndarray


class Shift(NamedTuple):
  """A test that a pool has given shares.

  Attributes:
    statistic: twice the gain in log-likelihood of the estimated shares.
    degrees: of freedom of the chi-squared distribution.
    p_value: how often chance alone gives as much.
  """

  statistic: float
  degrees: int
  p_value: float


def correct(
  probabilities: np.ndarray,
  *,
  source: np.ndarray | Sequence[float],
  target: np.ndarray | Sequence[float],
) -> np.ndarray:
  """Returns probabilities for other shares: `p_c target_c / source_c`, sum 1.

  Args:
    probabilities: `[M, C]`.
    source: `[C]`, shares that they belong to, above 0.
    target: `[C]`, shares to have them for; 0 for a class that there is not.

  Raises:
    ValueError: if shares do not fit.

  Source: Saerens, Latinne & Decaestecker (2002), "Adjusting the outputs of a
    classifier to new a priori probabilities", equation 2.4.
  """
  given = checks.distributions(probabilities)
  ratio = _target(target, given.shape[1]) / _source(source, given.shape[1])
  joint = given * ratio
  total = joint.sum(1, keepdims=True)
  # Where the classes that remain were all taken for impossible.
  fallback = np.broadcast_to(_target(target, given.shape[1]), given.shape)
  return np.where(total > 0, joint / np.where(total > 0, total, 1), fallback)


def em(
  probabilities: np.ndarray,
  *,
  source: np.ndarray | Sequence[float],
  tolerance: float = 1e-9,
  iterations: int = 10_000,
) -> np.ndarray:
  """Returns the shares of the classes in unlabeled images: maximum likelihood.

  `target_c <- mean_i correct(p_i)_c`, from the source's shares on; each step
  raises the likelihood, which is concave.

  Args:
    probabilities: `[M, C]`, calibrated.
    source: `[C]`, shares that they belong to, above 0.
    tolerance: stops where no share changes by more.
    iterations: at most.

  Returns:
    float64 `[C]`, of sum 1.

  Raises:
    ValueError: if arrays do not fit.

  Source: Saerens et al. (2002), equation 2.9.
  """
  given = checks.distributions(probabilities)
  start = _source(source, given.shape[1])
  return _em(given / start, start, tolerance, iterations)


def bbse(
  probabilities: np.ndarray,
  *,
  validation: np.ndarray,
  labels: np.ndarray,
) -> np.ndarray:
  """Returns the shares of the classes by how labeled images are mistaken.

  With `A[i, j]` the mean of `p_i` over validation images of class `j`, and `q`
  the mean of `p` over the pool, the shares solve `A x = q`; those below 0
  become 0. Averages of probabilities vary less than counts of predictions.

  Args:
    probabilities: `[M, C]` of the pool, calibrated or not.
    validation: `[V, C]` of labeled images that were not trained on.
    labels: `[V]` integers; every class must have one.

  Returns:
    float64 `[C]`, of sum 1.

  Raises:
    ValueError: if arrays do not fit, a class has no validation image, or
      classes cannot be told apart.

  Source: Lipton, Wang & Smola (2018), "Detecting and correcting for label shift
    with black box predictors", Section 4.
  """
  given, known, labels = _labeled(probabilities, validation, labels)
  return _bbse(given.mean(0), _means(known, labels))


def with_errors(
  estimate: Callable[..., np.ndarray],
  probabilities: np.ndarray,
  *,
  validation: np.ndarray | None = None,
  labels: np.ndarray | None = None,
  source: np.ndarray | Sequence[float] | None = None,
  replicates: int = 200,
  seed: int = 0,
) -> Estimate:
  """Returns an estimate with bootstrap standard errors.

  The pool is drawn anew, and for BBSE the validation images of each class. The
  errors of EM leave out that of the probabilities themselves.

  Args:
    estimate: `em` or `bbse`.
    probabilities, validation, labels, source: as it takes them.
    replicates: draws, at least 20.
    seed: of the draws.

  Raises:
    ValueError: as `em` and `bbse`.
  """
  require.at_least("replicates", replicates, 20)
  rng = np.random.default_rng(seed)
  found = []
  if estimate is em:
    shares = em(probabilities, source=() if source is None else source)
    given = checks.distributions(probabilities)
    ratios = given / _source(source, given.shape[1])
    for _ in range(replicates):
      weights = rng.multinomial(len(given), np.full(len(given), 1 / len(given)))
      # From the whole pool's shares, which are near.
      start = np.maximum(shares, 1e-6)
      found.append(_em(ratios, start / start.sum(), 1e-6, 1000, weights))
    return Estimate(shares, np.std(found, axis=0, ddof=1))
  given, known, truth = _labeled(probabilities, validation, labels)
  shares = bbse(given, validation=known, labels=truth)
  members = [np.flatnonzero(truth == c) for c in range(given.shape[1])]
  for _ in range(replicates):
    drawn = [known[rng.choice(m, len(m))].mean(0) for m in members]
    pool = given[rng.integers(0, len(given), len(given))].mean(0)
    try:
      found.append(_bbse(pool, np.stack(drawn, 1)))
    except ValueError:
      continue  # A draw of few images may make two classes one.
  if len(found) < replicates // 2:
    raise ValueError(
      "Half of the draws of the validation images leave two classes that cannot"
      " be told apart: their standard error is not known. Hold out more, by"
      " --config.data.validation.per_class."
    )
  return Estimate(shares, np.std(found, axis=0, ddof=1))


def shifted(
  probabilities: np.ndarray,
  *,
  source: np.ndarray | Sequence[float],
  shares: np.ndarray | Sequence[float],
) -> Shift:
  """Tests that a pool has the given shares: a likelihood ratio.

  Args:
    probabilities: `[M, C]` of the pool, calibrated.
    source: `[C]`, shares that they belong to, above 0.
    shares: `[C]`, above 0, those to test, such as of the labeled images.

  Raises:
    ValueError: if arrays do not fit.

  Source: Wilks (1938); the likelihood is that of Saerens et al. (2002), whose
    Section 2.3 has the same test.
  """
  given = checks.distributions(probabilities)
  ratios = given / _source(source, given.shape[1])
  start = _source(shares, given.shape[1])
  best = _em(ratios, start, 1e-9, 10_000)
  gain = np.log(ratios @ best) - np.log(ratios @ start)
  statistic = max(float(2 * gain.sum()), 0.0)
  degrees = given.shape[1] - 1
  return Shift(statistic, degrees, float(stats.chi2.sf(statistic, degrees)))


def expected_accuracy(
  probabilities: np.ndarray, *, groups: Mapping[str, Sequence[int]]
) -> dict[str, float | None]:
  """Returns how many pseudo labels are likely right, without their truth.

  Of an image labeled with its most probable class, that class's probability is
  the chance to be right, if it is calibrated for the pool: `correct` it first.

  Args:
    probabilities: `[M, C]`.
    groups: class indices by group name.

  Returns:
    `precision`, of all; `precision/GROUP`, of images labeled as of the group;
    `recall/GROUP`, of images that are of it, by the mean of their chances. None
    where there are none.

  Raises:
    ValueError: if arrays do not fit.
  """
  given = checks.distributions(probabilities)
  checks.groups(groups, given.shape[1])
  best, chosen = given.max(1), given.argmax(1)
  found: dict[str, float | None] = {"precision": float(best.mean())}
  for name, ids in groups.items():
    own = np.isin(chosen, list(ids))
    there = given[:, list(ids)].sum()
    found[f"precision/{name}"] = float(best[own].mean()) if own.any() else None
    right = best[own].sum()
    found[f"recall/{name}"] = float(right / there) if there > 0 else None
  return found


def source_shares(
  workdir: str | os.PathLike[str],
  source: str,
  calibrated: Calibration | None,
  num_classes: int,
  *,
  asked: str,
) -> np.ndarray:
  """Returns the shares of the classes that a run's probabilities belong to.

  Args:
    workdir: of the run.
    source: `uniform`, or `labeled` for those of the labeled images; "" for
      those of the images that it was calibrated on.
    calibrated: its calibration, or None.
    num_classes: C.
    asked: what is asked for them, for the error.

  Returns:
    float64 `[C]` of sum 1.

  Raises:
    ValueError: if they are not known; tells how to tell them.
  """
  if source == "uniform":
    return np.full(num_classes, 1 / num_classes)
  if source == "labeled":
    counts = record.Split.load(Path(workdir) / "split.json").labeled_counts
    return np.asarray(counts, np.float64) / sum(counts)
  if calibrated is not None and calibrated.kind != "temperature":
    return np.asarray(calibrated.shares)
  raise ValueError(
    f"--prior={asked} needs to know which shares of the classes the"
    " probabilities belong to: calibrate them with --calibrate=bias and add"
    " --calibrated, or tell it by --source=uniform (a balanced classifier) or"
    " --source=labeled (cross-entropy on all labeled images)."
  )


def read(
  path: str | os.PathLike[str],
  classes: Sequence[str],
  *,
  tolerance: float = 0.01,
) -> np.ndarray:
  """Reads shares from a file: a class name and a share a line.

  Args:
    path: the file, see `class_file.numbers`.
    classes: one name a class. All must be named.
    tolerance: how far from 1 the sum may be, from rounding.

  Returns:
    float64 `[C]`, of sum 1.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a class that is unknown, missing or named twice, a share
      that is no number in [0, 1], or another sum; names the line.
  """
  shares = class_file.numbers(path, classes, what="share", within="[0, 1]")
  if abs(shares.sum() - 1) > tolerance:
    raise ValueError(
      f"{path}: the shares sum to {shares.sum():g}; they must sum to 1, within"
      f" {tolerance:g}."
    )
  return shares / shares.sum()


def _em(
  ratios: np.ndarray,
  start: np.ndarray,
  tolerance: float,
  iterations: int,
  weights: np.ndarray | None = None,
) -> np.ndarray:
  """EM on `p / source`; each image counts `weights` times."""
  counts = np.ones(len(ratios)) if weights is None else weights
  shares, total = start, counts.sum()
  for _ in range(iterations):
    mixed = np.maximum(ratios @ shares, np.finfo(np.float64).tiny)
    after = shares * ((counts / mixed) @ ratios) / total
    after /= after.sum()
    change = np.abs(after - shares).max()
    shares = after
    if change <= tolerance:
      break
  return shares


def _bbse(pool: np.ndarray, means: np.ndarray) -> np.ndarray:
  if np.linalg.cond(means) > _WORST:
    raise ValueError(
      "Two classes have the same mean probabilities on validation images, so"
      " that their shares cannot be told apart. Use EM, or a better model."
    )
  shares = np.maximum(np.linalg.solve(means, pool), 0.0)
  return shares / shares.sum()


def _means(known: np.ndarray, labels: np.ndarray) -> np.ndarray:
  columns = [known[labels == c].mean(0) for c in range(known.shape[1])]
  return np.stack(columns, 1)


def _labeled(
  probabilities: np.ndarray,
  validation: np.ndarray | None,
  labels: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  given = checks.distributions(probabilities)
  known = checks.distributions(np.asarray(validation))
  if known.shape[1] != given.shape[1]:
    raise ValueError(
      f"the validation images have {known.shape[1]} classes, the pool"
      f" {given.shape[1]}."
    )
  truth = checks.labels(np.asarray(labels), "labels", *known.shape, low=0)
  counts = np.bincount(truth, minlength=known.shape[1])
  if not counts.all():
    raise ValueError(
      f"class {int(counts.argmin())} has no validation image, and BBSE needs"
      " one of each class at least; use EM, or hold out more"
      " (data.validation.per_class)."
    )
  return given, known, truth


def _source(
  shares: np.ndarray | Sequence[float] | None, num_classes: int
) -> np.ndarray:
  found = _target(() if shares is None else shares, num_classes)
  if not np.all(found > 0):
    raise ValueError(
      f"class {int(found.argmin())} has a share of 0 in the source; the model"
      " cannot know a class that it never saw."
    )
  return found


def _target(
  shares: np.ndarray | Sequence[float], num_classes: int
) -> np.ndarray:
  found = np.asarray(shares, np.float64)
  if (
    found.shape != (num_classes,)
    or not np.all(found >= 0)
    or not abs(found.sum() - 1) < 1e-6
  ):
    raise ValueError(
      f"shares have shape {found.shape} and sum to {found.sum():g}; they must"
      f" be {num_classes} numbers of 0 or more that sum to 1."
    )
  return found / found.sum()
