"""What metrics refuse: arrays of which no number would mean anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Groups = Mapping[str, Sequence[int]]


def distributions(probabilities: np.ndarray) -> np.ndarray:
  """Returns class probabilities `[T, C]`, rows summing to one, as float64.

  No images, NaN or infinity, and other rows are a ValueError.
  """
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


def labels(
  values: np.ndarray, name: str, length: int, num_classes: int, *, low: int
) -> np.ndarray:
  """Returns classes, `[T]` integers in `[low, num_classes)`, as int64.

  Args:
    values, name: the classes, else a ValueError, and what to call them.
    length, num_classes: `T` and `C`.
    low: 0, or -1 where a class may be unknown.
  """
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


def groups(found: Groups, num_classes: int) -> None:
  """Raises a ValueError if a group has a class that there is not."""
  for name, ids in found.items():
    for c in ids:
      if not 0 <= c < num_classes:
        raise ValueError(
          f"group {name!r} has class {c}: there are {num_classes} classes"
        )
