"""Drawing images at random, with one generator for each purpose.

Its seed is the run's and what it is for, so that no draw changes another.
"""

from __future__ import annotations

import numpy as np

ORDERS = ("shuffled", "file")


def of_class(
  labels: np.ndarray, c: int, *, order: str, seed: list[int]
) -> np.ndarray:
  """Returns the images of a class, int64, in the order sets take from them.

  Args:
    labels, c: `[N]` integers, and the class.
    order: `shuffled`, or `file` to leave them as they lie.
    seed: Of the shuffle.
  """
  return _ordered(np.flatnonzero(labels == c), order, seed)


def of_rest(
  left: np.ndarray, total: int, *, order: str, seed: list[int]
) -> np.ndarray:
  """Takes `total` of the images `[R]` that are left, whatever their classes.

  Args:
    left, total: their indices, which stay in order, and how many, at most R,
      else a ValueError.
    order, seed: as of `of_class`; `file` is for the first ones.
  """
  if total > len(left):
    raise ValueError(
      f"data.unlabeled.total is {total} but only {len(left)} images are left: "
      f"lower it to {len(left)}, or to None for all of them"
    )
  if total == len(left):
    return left
  return _ordered(left.copy(), order, seed)[:total]


def _ordered(images: np.ndarray, order: str, seed: list[int]) -> np.ndarray:
  if order == "shuffled":
    np.random.default_rng(seed).shuffle(images)
  return images
