"""Metrics of a classifier and of the pseudo-labels it gives.

With a confusion matrix `K[true, predicted]`, the *recall* of a class is the
share of its images that are recognised, `K[c, c] / sum(K[c, :])`, and its
*precision* the share of the images called `c` that are one,
`K[c, c] / sum(K[:, c])`. A tail class is typically predicted rarely but
rightly: low recall, high precision.

All values are fractions in [0, 1]. A class without images has no recall and a
class that is never predicted no precision: they are `None`, and means leave
them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

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
    groups: Class indices by group name, see `groups.py`.
    bins: Of the calibration error.

  Returns:
    JSON values:

    * `accuracy`: share of the images that are right.
    * `balanced_accuracy`: mean of the recalls of the classes.
    * `geometric_mean`: of the recalls; zero if one class is never recognised.
    * `ece`: see `expected_calibration_error`.
    * `accuracy/GROUP`: share of the images of the group that are right; None
      for a group without images.
    * `per_class`: `[C]` recall per class, None for a class without images.
    * `confusion`: `[C][C]` number of images by true, predicted class.

  Raises:
    ValueError: Not a single image, NaN or infinite probabilities, rows that are
      no distributions, or labels and groups out of range.
  """
  probabilities = _distributions(probabilities)
  num_classes = probabilities.shape[1]
  labels = _classes(labels, "labels", len(probabilities), num_classes, low=0)
  _check_groups(groups, num_classes)
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
  return result | {"per_class": recalls, "confusion": matrix.tolist()}


def expected_calibration_error(
  probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15
) -> float:
  """How far confidence is from accuracy.

  `sum_b |B_b| / T * |accuracy(B_b) - confidence(B_b)|` where `B_b` are the
  images whose greatest probability is in `((b - 1) / bins, b / bins]`.

  Args:
    probabilities: `[T, C]` floats, rows summing to one.
    labels: `[T]` integers, the true classes.
    bins: Number of bins of equal width.

  Returns:
    The error in [0, 1].

  Source:
    Guo et al. 2017, equation 3, with its 15 bins.
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
  """Counts images by true and predicted class.

  Args:
    predicted: `[T]` integers in [0, num_classes).
    labels: `[T]` integers in [0, num_classes).
    num_classes: `C`.

  Returns:
    `[C, C]` int64, rows are true classes and columns predicted ones.
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
    groups: Class indices by group name, see `groups.py`.

  Returns:
    JSON values; empty if no truth is known:

    * `pseudo/accuracy`: share of the images with the right label. On long-
      tailed data the head classes decide it.
    * `pseudo/accuracy/GROUP`: the same over the images truly of the group.
    * `pseudo/recall/GROUP`: mean of the recalls of its classes.
    * `pseudo/precision/GROUP`: mean of the precisions of its classes.
    * `pseudo/count`: `[C]` images given each label.
    * `pseudo/recall_per_class`, `pseudo/precision_per_class`: `[C]`.

  Raises:
    ValueError: Labels or groups out of range, or lengths that differ.

  Source:
    `pseudo/accuracy` overall and by group over the loops: Liu et al. 2021,
    table 4.
  """
  predicted = _classes(predicted, "predicted", len(truth), num_classes, low=0)
  truth = _classes(truth, "truth", len(truth), num_classes, low=-1)
  _check_groups(groups, num_classes)
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


def _distributions(probabilities: np.ndarray) -> np.ndarray:
  probabilities = np.asarray(probabilities)
  if probabilities.ndim != 2 or 0 in probabilities.shape:
    raise ValueError(
      f"probabilities have shape {probabilities.shape}: they must be [T, C] "
      "with at least one image"
    )
  probabilities = probabilities.astype(np.float64)
  bad = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
  if len(bad):
    raise ValueError(
      f"{len(bad)} of {len(probabilities)} rows of probabilities are not "
      f"finite, the first is row {bad[0]}: the network has diverged"
    )
  off = np.abs(probabilities.sum(axis=1) - 1.0)
  if probabilities.min() < 0.0 or off.max() > 0.01:
    raise ValueError(
      f"row {off.argmax()} of the probabilities sums to "
      f"{probabilities[off.argmax()].sum():g} and the smallest value is "
      f"{probabilities.min():g}: apply softmax to logits first"
    )
  return probabilities


def _classes(
  values: np.ndarray, name: str, length: int, num_classes: int, *, low: int
) -> np.ndarray:
  values = np.asarray(values)
  if values.shape != (length,) or not np.issubdtype(values.dtype, np.integer):
    raise ValueError(
      f"{name} are {values.dtype} of shape {values.shape}: they must be "
      f"integers of shape ({length},)"
    )
  wrong = np.flatnonzero((values < low) | (values >= num_classes))
  if len(wrong):
    raise ValueError(
      f"{name}[{wrong[0]}] is {values[wrong[0]]}: with {num_classes} classes "
      f"they must be from {low} to {num_classes - 1}"
    )
  return values.astype(np.int64)


def _check_groups(groups: Groups, num_classes: int) -> None:
  for name, ids in groups.items():
    for c in ids:
      if not 0 <= c < num_classes:
        raise ValueError(
          f"group {name!r} has class {c}: there are {num_classes} classes"
        )
