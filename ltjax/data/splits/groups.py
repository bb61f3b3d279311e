"""Groups of classes: many-, medium- and few-shot.

Small sets (CIFAR-10) are cut by rank, so that every group has some classes
whatever the imbalance ratio; large ones (ImageNet-LT) by the number of labeled
images, so that "few" means the same in every set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NAMES = ("many", "medium", "few")


def by_rank(
  counts: Sequence[int] | np.ndarray, sizes: Sequence[int] | None = None
) -> dict[str, tuple[int, ...]]:
  """Cuts the classes, sorted by labeled images, into groups of fixed size.

  Args:
    counts: `[C]` labeled images per class.
    sizes: Classes in many, medium and few. Left out or empty: 3, 3 and 4 for
      ten classes, 1, 0 and 1 for two, and otherwise thirds, a remainder going
      to many; others than C in all are a ValueError.

  Returns:
    `many`, `medium` and `few` with class indices, the most populated first and
    the lower index first among equals.

  Source: The 3/3/4 of ten classes: Liu et al. 2021, section 4.1, CIFAR-10-SSLT.
  """
  num_classes = len(counts)
  if sizes is None or len(sizes) == 0:
    known = {10: (3, 3, 4), 2: (1, 0, 1)}
    sizes = known.get(num_classes) or thirds(num_classes)
  sizes = tuple(int(n) for n in sizes)
  if len(sizes) != 3 or min(sizes) < 0 or sum(sizes) != num_classes:
    raise ValueError(
      f"group sizes {sizes} must be three numbers >= 0 that add up to the "
      f"{num_classes} classes"
    )
  order = _ranks(counts)
  first, second = sizes[0], sizes[0] + sizes[1]
  parts = (order[:first], order[first:second], order[second:])
  return dict(zip(NAMES, map(tuple, parts)))


def thirds(num_classes: int) -> tuple[int, int, int]:
  """Returns the classes in many, medium and few, as `data.groups` takes them.

  Few are the lowest third of the classes, rounded down, medium as many above
  it, many the rest: 4, 3 and 3 of ten classes, 34, 33 and 33 of a hundred.

  Source: Jiang et al. 2021 (SDCLR) and what builds on it.
  """
  third = num_classes // 3
  return num_classes - 2 * third, third, third


def by_count(
  counts: Sequence[int] | np.ndarray, *, many: int, few: int
) -> dict[str, tuple[int, ...]]:
  """Groups the classes by labeled images; as `by_rank`, a group may be empty.

  Args:
    counts: `[C]` labeled images per class.
    many: Classes with more images than this are many-shot.
    few: Classes with at most this many images are few-shot; no more than
      `many`, else a ValueError.

  Source: many 100 and few 20: Liu et al. 2019, ImageNet-LT. many 100 and few
    10: Liu et al. 2021, section 4.1, ImageNet-SSLT.
  """
  if few > many:
    raise ValueError(
      f"few is {few} and many is {many}: few must not be above many"
    )
  order = _ranks(counts)
  return {
    "many": tuple(c for c in order if counts[c] > many),
    "medium": tuple(c for c in order if few < counts[c] <= many),
    "few": tuple(c for c in order if counts[c] <= few),
  }


def choose(
  counts: Sequence[int] | np.ndarray,
  *,
  sizes: Sequence[int] = (),
  limits: Sequence[int] = (),
) -> dict[str, tuple[int, ...]]:
  """Groups the classes as the config says, as `by_rank`.

  Args:
    counts: `[C]` labeled images per class.
    sizes: `data.groups`, classes by rank; empty for the default.
    limits: `data.group_counts`, (many, few) of `by_count`; empty for `by_rank`;
      both are a ValueError.
  """
  if not len(limits):
    return by_rank(counts, sizes)
  if len(sizes) or len(limits) != 2:
    raise ValueError(
      f"data.group_counts is {tuple(limits)} and data.groups {tuple(sizes)}: "
      "give two numbers, (100, 10) for more than 100 and at most 10 images, "
      "or three numbers of classes in data.groups, and leave the other empty"
    )
  return by_count(counts, many=limits[0], few=limits[1])


def _ranks(counts: Sequence[int] | np.ndarray) -> list[int]:
  return np.argsort(-np.asarray(counts, np.int64), kind="stable").tolist()
