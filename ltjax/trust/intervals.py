"""How sure a measured accuracy is, and whether two runs differ.

A test set is a sample. Drawn again, with replacement, it gives another
accuracy; the middle 95 % of many such draws are the interval. Of an accuracy
all images are drawn, or all of a group; of a balanced accuracy those of each
class on their own, so that every class keeps its number (stratified).

What a draw changes are counts of right images, which are binomial (multinomial
for the difference of two runs), so that images need not be drawn one by one.

The interval tells of the choice of test images alone. Another seed, or other
labeled images, give another model, and it does not tell of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ltjax import require
from ltjax.evaluation import checks

Groups = Mapping[str, Sequence[int]]
LEVEL = 0.95
REPLICATES = 2000


class Interval(NamedTuple):
  """A value and its interval; all None where there are no images."""

  value: float | None
  low: float | None
  high: float | None


class Disagreement(NamedTuple):
  """Two classifiers on the same images.

  Attributes:
    both, only_first, only_second, neither: images by who is right.
    p_value: of McNemar's exact test that both are equally often right.
  """

  both: int
  only_first: int
  only_second: int
  neither: int
  p_value: float


def of_accuracy(
  confusion: np.ndarray | Sequence[Sequence[int]],
  *,
  groups: Groups,
  level: float = LEVEL,
  replicates: int = REPLICATES,
  seed: int = 0,
) -> dict[str, Interval]:
  """Returns bootstrap intervals of what a confusion matrix tells.

  Args:
    confusion: `[C, C]` images by true and predicted class.
    groups: class indices by group name.
    level: share of the draws within the interval, in (0, 1).
    replicates: draws, at least 100.
    seed: of the draws.

  Returns:
    `accuracy`, `balanced_accuracy` and `accuracy/GROUP`, fractions. Where all
    images have the same outcome draws show no spread, and the interval reaches
    as far as the exact binomial one (Clopper & Pearson 1934).

  Raises:
    ValueError: if the matrix has no images, negative ones or another shape, or
      a setting or a group is out of range.

  Source: Efron & Tibshirani (1993), "An introduction to the bootstrap",
    Section 13.3 (percentile intervals) and Chapter 8.
  """
  counts = np.asarray(confusion)
  if (
    counts.ndim != 2
    or counts.shape[0] != counts.shape[1]
    or not np.issubdtype(counts.dtype, np.integer)
    or counts.min(initial=0) < 0
    or not counts.sum()
  ):
    raise ValueError(
      f"confusion is {counts.dtype} of shape {counts.shape} with the sum"
      f" {counts.sum()}: it must be [C, C] counts of at least one image."
    )
  right, images = np.diag(counts), counts.sum(1)
  outcomes = np.stack([np.zeros_like(right), images - right, right], 1)
  return _all(outcomes, groups, level, replicates, seed, lowest=0.0)


def of_difference(
  first: np.ndarray,
  second: np.ndarray,
  labels: np.ndarray,
  *,
  num_classes: int,
  groups: Groups,
  level: float = LEVEL,
  replicates: int = REPLICATES,
  seed: int = 0,
) -> dict[str, Interval]:
  """Returns bootstrap intervals of how much the second of two is better.

  An image is drawn with what both say of it, so that images which are hard for
  both do not widen the interval.

  Args:
    first, second: `[T]` integers, what each predicts for the same images.
    labels: `[T]` integers, the true classes.
    num_classes: `C`.
    groups, level, replicates, seed: as of `of_accuracy`.

  Returns:
    As `of_accuracy`, of second minus first.

  Raises:
    ValueError: as `of_accuracy`, and if lengths differ.
  """
  labels = checks.labels(labels, "labels", len(labels), num_classes, low=0)
  if not len(labels):
    raise ValueError("There are no images to compare on.")
  a, b = (
    checks.labels(x, name, len(labels), num_classes, low=0) == labels
    for x, name in ((first, "first"), (second, "second"))
  )
  change = b.astype(np.int64) - a  # -1, 0 or 1
  cell = 3 * labels + change + 1
  outcomes = np.bincount(cell, minlength=3 * num_classes).reshape(-1, 3)
  return _all(outcomes, groups, level, replicates, seed, lowest=-1.0)


def disagreement(
  first: np.ndarray, second: np.ndarray, labels: np.ndarray
) -> Disagreement:
  """Returns who is right where, and McNemar's exact test.

  Of the images on which one alone is right, each is right on half if both are
  equally good: `p = min(1, 2 P(X <= min(b, c)))`, `X ~ Binomial(b + c, 1/2)`.

  Args:
    first, second: `[T]` integers, what each predicts for the same images.
    labels: `[T]` integers, the true classes.

  Raises:
    ValueError: if there are no images, or lengths differ.

  Source: McNemar (1947), "Note on the sampling error of the difference between
    correlated proportions or percentages"; Dietterich (1998), Section 3.1.
  """
  first, second, labels = map(np.asarray, (first, second, labels))
  if not first.shape == second.shape == labels.shape or labels.ndim != 1:
    raise ValueError(
      f"first, second and labels have shapes {first.shape}, {second.shape} and"
      f" {labels.shape}: they must be [T], of the same images."
    )
  if not len(labels):
    raise ValueError("There are no images to compare on.")
  a, b = first == labels, second == labels
  only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
  number, less = only_first + only_second, min(only_first, only_second)
  term = total = 1  # whole numbers, so that nothing is rounded
  for k in range(less):
    term = term * (number - k) // (k + 1)
    total += term
  return Disagreement(
    both=int((a & b).sum()),
    only_first=only_first,
    only_second=only_second,
    neither=int((~a & ~b).sum()),
    p_value=min(1.0, 2 * total / 2**number),
  )


def _all(
  outcomes: np.ndarray,
  groups: Groups,
  level: float,
  replicates: int,
  seed: int,
  lowest: float,
) -> dict[str, Interval]:
  """Intervals of outcomes, `[C, 3]` images of value -1, 0 and 1."""
  require.within("level", level, "(0, 1)")
  require.at_least("replicates", replicates, 100)
  checks.groups(groups, len(outcomes))
  rng = np.random.default_rng(seed)

  def interval(strata: np.ndarray) -> Interval:
    return _interval(strata, rng, level, replicates, lowest)

  return {
    "accuracy": interval(outcomes.sum(0)[None]),
    "balanced_accuracy": interval(outcomes),
    **{
      f"accuracy/{name}": interval(outcomes[list(ids)].sum(0)[None])
      for name, ids in groups.items()
    },
  }


def _interval(
  strata: np.ndarray,
  rng: np.random.Generator,
  level: float,
  replicates: int,
  lowest: float,
) -> Interval:
  """The mean over strata of their means, each of which is drawn anew."""
  sizes = strata.sum(1)
  strata, sizes = strata[sizes > 0], sizes[sizes > 0]
  if not len(sizes):
    return Interval(None, None, None)
  values = (strata[:, 2] - strata[:, 0]) / sizes
  value = float(values.mean())
  outside = (1 - level) / 2
  if np.all(strata.max(1) == sizes):
    # Another outcome, of probability e, stays unseen with (1 - e)^n.
    unseen = float(np.mean(1 - outside ** (1 / sizes)))
    low, high = max(value - unseen, lowest), min(value + unseen, 1.0)
    return Interval(value, low, high)
  total = np.zeros(replicates)
  for counts, size in zip(strata, sizes):
    drawn = rng.multinomial(size, counts / size, replicates)
    total += (drawn[:, 2] - drawn[:, 0]) / size
  low, high = np.quantile(total / len(sizes), [outside, 1 - outside])
  return Interval(value, float(low), float(high))
