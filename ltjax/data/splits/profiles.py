"""Long-tailed profiles: how many images each class has.

Research sets are made long-tailed by thinning out a balanced set along a curve
over the classes, the most populated class first. The curve and its *imbalance
ratio* `rho = largest / smallest` are the whole recipe, but papers round it
differently, and one image more or less in a class of five is seen in the
results. The rounding here gives the published counts; the tests hold them all.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

from ltjax import require

PROFILES = ("exponential", "step", "lomax", "explicit", "natural")


def counts(
  profile: str,
  num_classes: int,
  *,
  max_count: int | None = None,
  rho: float = 100.0,
  counts: Sequence[int] = (),
  alpha: float = 6.0,
  scale: float = 1000.0,
  minority_fraction: float = 0.5,
  fraction: float = 1.0,
  available: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
  """Number of images of every class, the most populated class first.

  With `i = 0 .. C - 1` the class and `n = max_count`:

  * `exponential`: `int(n * (1 / rho) ** (i / (C - 1)))`, and `int(n / rho)` for
    the last class: rounding makes 49 * (1 / 49) 0.99... and so zero images, and
    code that multiplies class by class loses one at n 3000, rho 200 as well.
  * `step`: `n` for the head, `int(n / rho)` for the `minority_fraction` of the
    classes, rounded up, at the end.
  * `lomax`: `round(n * (1 + i / scale) ** -(alpha + 1))`, at least 1: the
    density of the Lomax (Pareto II) distribution at the class index. Any number
    of classes with `scale = num_classes` falls by `2 ** 7 = 128`.
  * `explicit`: `counts`, as given.
  * `natural`: what each class has, not ordered by size.

  Of each count the `fraction` is taken, rounded down, but at least 1. They are
  `[C]` int64; zeros are possible where `rho > max_count`.

  Args:
    profile: One of `PROFILES`.
    num_classes: `C`.
    max_count: Images of the most populated class (exponential, step, lomax).
    rho: Imbalance ratio, at least 1 (exponential, step).
    counts: `[C]` images per class (explicit).
    alpha: Shape of the Lomax distribution, above 0.
    scale: Scale of the Lomax distribution in classes, above 0.
    minority_fraction: Share of the classes in the tail, in (0, 1) (step).
    fraction: Share of each count to take, in (0, 1].
    available: `[C]` images per class in the data (natural).

  Raises:
    ValueError: A value out of its range, or missing for the profile.

  Source: exponential: Cui et al. 2019, and Cao et al. 2019 (LDAM), with the
    last class of DARP (Kim et al. 2020) and its successors. step: Buda et al.
    2018, LDAM. lomax: Liu et al. 2021 (SSLT), section 4.1, ImageNet-SSLT:
    `max_count` 250 over 1000 classes gives its 41,134 images exactly.
  """
  require.choice("profile", profile, PROFILES)
  require.at_least("num_classes", num_classes, 1)
  require.within("fraction", fraction, "(0, 1]")

  def part(whole: np.ndarray) -> np.ndarray:
    # The small number keeps 0.29 * 100 = 28.999... at 29.
    share = (fraction * whole + 1e-9).astype(np.int64)
    return np.minimum(np.maximum(share, 1), whole)

  index = np.arange(num_classes)
  if profile == "explicit":
    return part(_explicit(counts, num_classes))
  if profile == "natural":
    if available is None or len(available) != num_classes:
      raise ValueError("profile 'natural' needs the available count per class")
    return part(np.asarray(available, np.int64))
  if max_count is None or max_count < 1:
    raise ValueError(
      f"max_count is {max_count}: profile {profile!r} needs at least 1"
    )
  if profile == "lomax":
    require.within("alpha", alpha, "(0, inf)")
    require.within("scale", scale, "(0, inf)")
    curve = max_count * (1.0 + index / scale) ** -(alpha + 1.0)
    return part(np.maximum(np.rint(curve), 1).astype(np.int64))
  require.within("rho", rho, "[1, inf)")
  smallest = int(max_count / rho)
  if profile == "step":
    require.within("minority_fraction", minority_fraction, "(0, 1)")
    # At least one class stays in the head; 1e-9 as above.
    tail = min(
      math.ceil(num_classes * minority_fraction - 1e-9), num_classes - 1
    )
    head = index < num_classes - tail
    return part(np.where(head, max_count, smallest).astype(np.int64))
  # Python floats: the published counts were made with them, and NumPy's power
  # may differ in the last digit, which the truncation then turns into an image.
  result = [
    int(max_count * (1 / rho) ** (i / max(num_classes - 1, 1)))
    for i in range(num_classes)
  ]
  if num_classes > 1:
    result[-1] = smallest
  return part(np.asarray(result, np.int64))


def rescaled(total: int, num_classes: int, *, rho: float) -> np.ndarray:
  """An exponential profile, `[C]` int64, stretched to a total, as in Yang & Xu.

  `c = exponential(total // C, rho)`, then `int(c * total / sum(c))`. Truncated
  twice, it falls a few images short of `total`: 24,999 and not 25,000 in the
  first class for five times CIFAR-10-LT with rho 100.

  Args:
    total: Images wanted in all, at least one a class, else a ValueError.
    num_classes: `C`.
    rho: Imbalance ratio, at least 1.

  Source: Yang & Xu 2020, the unlabeled sets of section 4 in the author code;
    Liu et al. 2021 for their CIFAR-10 pool.
  """
  if total < num_classes:
    raise ValueError(
      f"total is {total}: {num_classes} classes need at least {num_classes}"
    )
  base = counts(
    "exponential", num_classes, max_count=total // num_classes, rho=rho
  )
  factor = total / int(base.sum())
  return np.asarray([int(int(n) * factor) for n in base], np.int64)


def by_rank(curve: np.ndarray, reference: np.ndarray) -> np.ndarray:
  """Hands the k-th value of `curve` `[C]` to the k-th most populated class.

  The counts `reference` `[C]` give the ranks; ties go to the lower class index.
  """
  result = np.empty_like(curve)
  result[np.argsort(-np.asarray(reference), kind="stable")] = curve
  return result


def class_order(num_classes: int, seed: int) -> tuple[int, ...]:
  """Permutes the classes, for `data.labeled.class_order`, by a seed from 0.

  Results over several seeds then do not hang on which classes are rare.

  Source: The custom of SDCLR's splits (Jiang et al. 2021); not their orders.
  """
  return tuple(np.random.default_rng(seed).permutation(num_classes).tolist())


def _explicit(values: Sequence[int], num_classes: int) -> np.ndarray:
  if len(values) != num_classes:
    raise ValueError(
      f"counts has {len(values)} entries for {num_classes} classes"
    )
  for i, n in enumerate(values):
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
      raise ValueError(f"counts[{i}] is {n!r}: it must be an integer >= 0")
  return np.asarray(values, np.int64)
