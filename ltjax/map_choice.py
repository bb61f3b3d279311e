"""Which images a map shows: of chosen classes, small ones whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def choose(labels: np.ndarray, limit: int, *, seed: int) -> np.ndarray:
  """Draws images, so that small classes are drawn whole.

  Every class gives the same number, or all it has; what is left over goes, an
  image each, to classes that have more.

  Args:
    labels: integers `[N]`.
    limit: the most images to draw, at least one a class that has one.
    seed: of the draw.

  Returns:
    int64 `[min(limit, N)]`, sorted indices.

  Raises:
    ValueError: if `limit` is below the number of classes that have images.
  """
  labels = np.asarray(labels)
  classes, counts = np.unique(labels, return_counts=True)
  if limit < len(classes):
    raise ValueError(
      f"--images is {limit}; the {len(classes)} classes need one image each at"
      " least, so choose more."
    )
  take = np.zeros_like(counts)
  while take.sum() < min(limit, len(labels)):
    open_ = np.flatnonzero(take < counts)
    left = min(limit, len(labels)) - take.sum()
    each = max(min(left // len(open_), int((counts - take)[open_].min())), 1)
    take[open_[:left]] += each
  rng = np.random.default_rng(seed)
  chosen = [
    rng.choice(np.flatnonzero(labels == c), n, replace=False)
    for c, n in zip(classes, take)
  ]
  return np.sort(np.concatenate(chosen))


def narrow(
  found: np.ndarray, classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Leaves the images of some classes, and numbers these anew.

  Args:
    found: integers `[N]`, the class of each image.
    classes: those to keep, each once.

  Returns:
    The kept images, int64 `[n]`, sorted; and int64 `[n]`, their classes as
    places in `classes`.
  """
  place = {c: number for number, c in enumerate(classes)}
  kept = np.flatnonzero(np.isin(found, list(classes)))
  return kept, np.array([place[int(c)] for c in found[kept]], np.int64)


def check_classes(classes: Sequence[int], num_classes: int) -> None:
  """Checks that classes exist and are named once.

  Args:
    classes: numbers.
    num_classes: C.

  Raises:
    ValueError: names the one that does not.
  """
  for c in classes:
    if not 0 <= c < num_classes:
      raise ValueError(
        f"--classes has {c}; there are {num_classes} classes, 0 to"
        f" {num_classes - 1}."
      )
    if list(classes).count(c) > 1:
      raise ValueError(f"--classes has {c} twice; name each class once.")
