"""Metrics of a classifier and of the pseudo-labels it gives.

With a confusion matrix `K[true, predicted]`, the *recall* of a class is
`K[c, c] / sum(K[c, :])`, and its *precision* `K[c, c] / sum(K[:, c])`. A tail
class is typically predicted rarely but rightly: low recall, high precision.

All values are fractions in [0, 1]. The recall of a class without images, and
the precision of one that is never predicted, are `None`; means leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.evaluation import checks

Groups = Mapping[str, Sequence[int]]


def classification(
  probabilities: np.ndarray,
  labels: np.ndarray,
  *,
  groups: Groups,
  bins: int = 15,
) -> dict:
  """How good the predictions on a labeled set are.

  The prediction is the most probable class, the lowest index among equals.

  Args:
    probabilities: `[T, C]` floats, rows summing to one.
    labels: `[T]` integers, the true classes.
    groups: Class indices by group name, see `splits.groups`.
    bins: Of the calibration error.

  Returns:
    JSON values:

    * `accuracy`: share of the images that are right.
    * `balanced_accuracy`: mean of the recalls of the classes.
    * `geometric_mean`: of the recalls; zero if one class is never recognised.
    * `ece`: see `expected_calibration_error`.
    * `accuracy/GROUP`: share of the images of the group that are right; None
      for a group without images.
    * `recall/GROUP`: mean of the recalls of its classes.
    * `group_mean` and `group_std`: see `over_groups`.
    * `per_class`: `[C]` recall per class, None for a class without images.
    * `confusion`: `[C][C]` number of images by true, predicted class.

  Raises:
    ValueError: Not a single image, NaN or infinite probabilities, rows that are
      no distributions, or labels and groups out of range.
  """
  probabilities = checks.distributions(probabilities)
  num_classes = probabilities.shape[1]
  labels = checks.labels(
    labels, "labels", len(probabilities), num_classes, low=0
  )
  checks.groups(groups, num_classes)
  predicted = probabilities.argmax(axis=1)
  matrix = confusion(predicted, labels, num_classes=num_classes)
  right, images = np.diag(matrix), matrix.sum(axis=1)
  recalls = _ratios(right, images)
  present = [r for r in recalls if r is not None]
  result = {
    "accuracy": _ratio(right.sum(), images.sum()),
    "balanced_accuracy": _mean(recalls),
    "geometric_mean": _geometric_mean(present),
    "ece": expected_calibration_error(probabilities, labels, bins=bins),
  }
  for name, ids in groups.items():
    ids = list(ids)
    result[f"accuracy/{name}"] = _ratio(right[ids].sum(), images[ids].sum())
  for name, ids in groups.items():
    result[f"recall/{name}"] = _mean([recalls[c] for c in ids])
  result |= over_groups(result)
  return result | {"per_class": recalls, "confusion": matrix.tolist()}


def over_groups(row: Mapping[str, Any]) -> dict[str, float | None]:
  """The mean and the spread of the groups' accuracies.

  A group's accuracy is the mean of the recalls of its classes: a class counts
  the same however many test images it has. A group without images is left out.

  Args:
    row: with `recall/GROUP`, as `classification` gives it.

  Returns:
    `group_mean`, where each group counts the same whatever its classes, and
    `group_std`, over groups (divided by their number, not one less); None if no
    group has images.

  Source: `group_std`: Jiang et al. 2021, "Self-damaging contrastive learning".
    `group_mean`: the column "All" of FASSL (2023), tables 1 to 3.
  """
  found = [v for k, v in row.items() if k.startswith("recall/")]
  found = [v for v in found if v is not None]
  return {
    "group_mean": _mean(found),
    "group_std": float(np.std(found)) if found else None,
  }


def expected_calibration_error(
  probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15
) -> float:
  """How far confidence is from accuracy, in [0, 1].

  `sum_b |B_b| / T * |accuracy(B_b) - confidence(B_b)|` where `B_b` are the
  images whose greatest probability is in `((b - 1) / bins, b / bins]`.

  Args:
    probabilities: `[T, C]` floats, rows summing to one.
    labels: `[T]` integers, the true classes.
    bins: Number of bins of equal width.

  Source: Guo et al. 2017, equation 3, with its 15 bins.
  """
  probabilities = np.asarray(probabilities, np.float64)
  confidence = probabilities.max(axis=1)
  right = probabilities.argmax(axis=1) == np.asarray(labels)
  edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
  bin_of = np.digitize(confidence, edges, right=True)
  gap = np.bincount(bin_of, right - confidence, minlength=bins)
  return float(np.abs(gap).sum() / len(confidence))


def confusion(
  predicted: np.ndarray, labels: np.ndarray, *, num_classes: int
) -> np.ndarray:
  """Counts images by true and predicted class, int64 `[C, C]`.

  Args:
    predicted, labels: `[T]` integers in [0, num_classes).
    num_classes: `C`.
  """
  cell = np.asarray(labels, np.int64) * num_classes + predicted
  return np.bincount(cell, minlength=num_classes**2).reshape(
    num_classes, num_classes
  )


def pseudo_labels(
  predicted: np.ndarray,
  truth: np.ndarray,
  *,
  num_classes: int,
  groups: Groups,
) -> dict:
  """How good pseudo-labels are, where the truth is known.

  Args:
    predicted: `[M]` integers, the pseudo-labels.
    truth: `[M]` integers, -1 where it is not known; such images are left out.
    num_classes: `C`.
    groups: Class indices by group name, see `splits.groups`.

  Returns:
    JSON values; empty if no truth is known:

    * `pseudo/accuracy`: share of the images with the right label.
    * `pseudo/accuracy/GROUP`: the same over the images truly of the group.
    * `pseudo/recall/GROUP`: mean of the recalls of its classes.
    * `pseudo/precision/GROUP`: mean of the precisions of its classes.
    * `pseudo/count`: `[C]` images given each label.
    * `pseudo/recall_per_class`, `pseudo/precision_per_class`: `[C]`.

  Raises:
    ValueError: Labels or groups out of range, or lengths that differ.

  Source: Liu et al. 2021, table 4, for `pseudo/accuracy`.
  """
  predicted = checks.labels(
    predicted, "predicted", len(truth), num_classes, low=0
  )
  truth = checks.labels(truth, "truth", len(truth), num_classes, low=-1)
  checks.groups(groups, num_classes)
  known = truth >= 0
  if not known.any():
    return {}
  matrix = confusion(predicted[known], truth[known], num_classes=num_classes)
  right, images, given = np.diag(matrix), matrix.sum(1), matrix.sum(0)
  recalls, precisions = _ratios(right, images), _ratios(right, given)
  result = {"pseudo/accuracy": _ratio(right.sum(), images.sum())}
  for name, ids in groups.items():
    ids = list(ids)
    result |= {
      f"pseudo/accuracy/{name}": _ratio(right[ids].sum(), images[ids].sum()),
      f"pseudo/recall/{name}": _mean([recalls[c] for c in ids]),
      f"pseudo/precision/{name}": _mean([precisions[c] for c in ids]),
    }
  return result | {
    "pseudo/count": given.tolist(),
    "pseudo/recall_per_class": recalls,
    "pseudo/precision_per_class": precisions,
  }


def _ratio(part: int, whole: int) -> float | None:
  return float(part / whole) if whole else None


def _ratios(parts: np.ndarray, wholes: np.ndarray) -> list[float | None]:
  return [_ratio(p, w) for p, w in zip(parts, wholes)]


def _mean(values: Sequence[float | None]) -> float | None:
  present = [v for v in values if v is not None]
  return float(np.mean(present)) if present else None


def _geometric_mean(values: Sequence[float]) -> float:
  if min(values) == 0.0:
    return 0.0
  return float(np.exp(np.mean(np.log(values))))
