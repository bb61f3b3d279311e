"""From the settings of a run to image counts per class, before any is drawn.

The sets share the images of each class, so their counts are planned together,
and `shortage.py` looks whether the data can give them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ltjax.data.splits import profiles, settings

Settings = settings.Settings

# The settings, None unless given, that an unlabeled profile listens to.
_LISTENS = {
  "same": {"rho", "max_count"},
  "reversed": {"rho", "max_count"},
  "middle": {"rho", "max_count"},
  "head_tail": {"rho", "max_count"},
  "uniform": {"max_count", "total"},
  "exponential": {"rho", "max_count"},
  "rescaled": {"rho", "total"},
  "explicit": set(),
  "natural": {"total"},
}


class Plan(NamedTuple):
  """Images per class for each part of a split, all `[C]` int64."""

  labeled: np.ndarray
  unlabeled: np.ndarray | None  # None: whatever is left of the source
  validation: np.ndarray
  irrelevant: int = 0  # images of no class, beside the unlabeled ones


def make(
  labeled: Settings,
  unlabeled: Settings,
  validation: Settings,
  *,
  available: np.ndarray,
) -> Plan:
  """Counts per class that the settings ask for, whether or not they fit.

  Args:
    labeled, unlabeled, validation: Complete settings, see `draw.build`; a
      ValueError if they do not go together.
    available: `[C]` images per class in the training set.
  """
  num_classes = len(available)
  held_out = np.full(num_classes, validation["per_class"], np.int64)
  if validation.get("counts"):  # those of an index file
    held_out = np.asarray(validation["counts"], np.int64)
  no_curve = ("profile", "class_order", "index_file")
  curve = {k: v for k, v in labeled.items() if k not in no_curve}
  order = _order(labeled, num_classes)
  try:
    ours = profiles.counts(
      labeled["profile"], num_classes, available=available, **curve
    )
  except ValueError as error:
    raise ValueError(f"data.labeled: {error}") from None
  if labeled["profile"] == "natural":
    ours = np.minimum(ours, np.maximum(available - held_out, 0))
  rank = np.argsort(order)  # of each class
  try:
    theirs = _unlabeled(unlabeled, labeled, ours, order)
  except ValueError as error:
    raise ValueError(f"data.unlabeled: {error}") from None
  if theirs is None:
    return Plan(ours[rank], None, held_out)
  relevant = _times(unlabeled["relevance"], theirs)
  others = int(theirs.sum() - relevant.sum())
  return Plan(ours[rank], relevant[rank], held_out, others)


def _order(labeled: Settings, num_classes: int) -> np.ndarray:
  """The classes in the order in which a curve runs over them."""
  order = labeled["class_order"]
  if not order:
    return np.arange(num_classes)
  if labeled["profile"] in ("explicit", "natural"):
    raise ValueError(
      f"data.labeled.class_order is set but profile {labeled['profile']!r} has "
      "no curve to lay over the classes: leave class_order empty"
    )
  if sorted(order) != list(range(num_classes)):
    raise ValueError(
      f"data.labeled.class_order is {order}: it must name each of the classes "
      f"0 ... {num_classes - 1} once"
    )
  return np.asarray(order)


def _unlabeled(
  wanted: Settings, labeled: Settings, ours: np.ndarray, order: np.ndarray
) -> np.ndarray | None:
  """The unlabeled count of every class in `order`, None for what is left."""
  profile, num_classes = wanted["profile"], len(ours)
  for key in ("rho", "max_count", "total"):
    if wanted[key] is not None and key not in _LISTENS[profile]:
      raise ValueError(
        f"{key} is {wanted[key]} but profile {profile!r} does not use it: "
        f"leave it None or choose another profile"
      )
  factor = wanted["factor"]
  if factor == 0:
    return np.zeros(num_classes, np.int64)
  if profile == "natural":
    return None
  if profile == "explicit":
    given = profiles.counts("explicit", num_classes, counts=wanted["counts"])
    return given[order]
  rho = labeled["rho"] if wanted["rho"] is None else wanted["rho"]
  total = wanted["total"]
  if profile == "rescaled":
    total = _times(factor, ours.sum()) if total is None else total
    return profiles.by_rank(
      profiles.rescaled(int(total), num_classes, rho=rho), ours
    )
  if profile == "uniform":
    if wanted["uniform"] == "total":
      if total is not None and wanted["max_count"] is not None:
        raise ValueError("set total or max_count, not both")
      budget = wanted["max_count"] if total is None else total
      budget = _times(factor, ours.sum()) if budget is None else budget
      return np.full(num_classes, int(budget) // num_classes, np.int64)
    if total is not None:
      raise ValueError("total is for uniform='total': use max_count")
  largest = wanted["max_count"]
  first = int(_times(factor, ours.max())) if largest is None else largest
  if profile == "uniform":
    return np.full(num_classes, first, np.int64)
  known = labeled["profile"] in ("exponential", "step")
  if profile == "exponential":
    curve = profiles.counts(
      "exponential", num_classes, max_count=first, rho=rho
    )
    return profiles.by_rank(curve, ours)
  if wanted["rho"] is not None and not known:
    raise ValueError(
      f"rho is {rho:g} but the labeled profile {labeled['profile']!r} has no "
      "imbalance ratio: use profile 'exponential'"
    )
  if largest is None and wanted["rho"] is None:
    curve = _times(factor, ours)
  elif known:
    curve = profiles.counts(
      labeled["profile"],
      num_classes,
      max_count=first,
      rho=rho,
      minority_fraction=labeled["minority_fraction"],
    )
  else:
    curve = ours * first // ours.max()
  if profile == "same":
    return curve
  if profile == "reversed":
    return profiles.by_rank(np.sort(curve), ours)
  # How far from the middle rank; of two as far the larger class comes first.
  far = np.abs(np.arange(num_classes) - (num_classes - 1) / 2)
  return profiles.by_rank(
    profiles.by_rank(
      np.sort(curve)[::-1], -far if profile == "middle" else far
    ),
    ours,
  )


def _times(factor: float, n: np.ndarray) -> np.ndarray:
  """`int(factor * n)`, safe from products that round to just below."""
  return np.floor(factor * np.asarray(n, np.float64) + 1e-9).astype(np.int64)
