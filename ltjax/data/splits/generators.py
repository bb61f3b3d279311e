"""Drawing images at random, with one generator for each purpose.

A generator is seeded by the run's seed and by what it is for, such as a class,
so that one draw never changes another.
"""

from __future__ import annotations

import numpy as np

ORDERS = ("shuffled", "file")


def of_class(
  labels: np.ndarray, c: int, *, order: str, seed: list[int]
) -> np.ndarray:
  """Puts the images of a class in the order in which sets take from them.

  Args:
    labels: `[N]` integers.
    c: The class.
    order: `shuffled`, or `file` to leave them as they lie.
    seed: Of the shuffle.

  Returns:
    Their indices, int64.
  """
  return _ordered(np.flatnonzero(labels == c), order, seed)


def of_rest(
  left: np.ndarray, total: int, *, order: str, seed: list[int]
) -> np.ndarray:
  """Takes some of the images that are left, whatever their classes.

  Args:
    left: `[R]` indices.
    total: How many.
    order: `shuffled`, or `file` for the first ones.
    seed: Of the shuffle.

  Returns:
    `[total]` of the indices; all of them stay in their order.

  Raises:
    ValueError: There are fewer.
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
