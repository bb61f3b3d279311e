"""From the settings of a run to image counts per class, before any is drawn.

The labeled, unlabeled and validation sets share the images of each class, so
their counts are planned together, and `shortage.py` looks whether the data can
give them before `splits.py` draws.

Settings are named as in the config: `data.labeled.max_count` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import longtail

Settings = dict[str, Any]

LABELED: Settings = {
  "profile": "exponential",
  "max_count": 500,
  "rho": 100.0,
  "counts": (),
  "alpha": 6.0,
  "scale": 1000.0,
  "minority_fraction": 0.5,
  "fraction": 1.0,
}
UNLABELED: Settings = {
  "source": "train",
  "profile": "same",
  "factor": 5.0,
  "rho": None,
  "max_count": None,
  "total": None,
  "uniform": "per_class",
  "counts": (),
}
VALIDATION: Settings = {"per_class": 0}

UNLABELED_PROFILES = (
  "same",
  "reversed",
  "uniform",
  "exponential",
  "rescaled",
  "explicit",
  "natural",
)
# The settings, None unless given, that an unlabeled profile listens to.
_LISTENS = {
  "same": {"rho", "max_count"},
  "reversed": {"rho", "max_count"},
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


def settings(name: str, given: Mapping, defaults: Settings) -> Settings:
  """Completes one block of settings and checks names, types and least values.

  Args:
    name: `labeled`, `unlabeled` or `validation`, for messages.
    given: What the user set; a subset of the keys of `defaults`.
    defaults: `LABELED`, `UNLABELED` or `VALIDATION`.

  Returns:
    A new dict with every key, of plain Python values that survive JSON.

  Raises:
    ValueError: An unknown key, a wrong type or a value out of range.
  """
  result = {**defaults, "counts": ()} if "counts" in defaults else {**defaults}
  for key, value in dict(given).items():
    if key not in defaults:
      raise ValueError(
        f"unknown setting data.{name}.{key}: known are {', '.join(defaults)}"
      )
    result[key] = value
  for key, value in result.items():
    result[key] = _plain(f"data.{name}.{key}", key, value, defaults[key])
  if result.get("counts") and result["profile"] != "explicit":
    raise ValueError(
      f"data.{name}.counts is set but data.{name}.profile is "
      f"{result['profile']!r}: use profile 'explicit' or leave counts empty"
    )
  return result


def make(
  labeled: Settings,
  unlabeled: Settings,
  validation: Settings,
  *,
  available: np.ndarray,
) -> Plan:
  """Counts per class that the settings ask for, whether or not they fit.

  Args:
    labeled: Complete settings, see `splits.build`.
    unlabeled: The same.
    validation: The same.
    available: `[C]` images per class in the training set.

  Returns:
    The plan.

  Raises:
    ValueError: Settings that do not go together.
  """
  num_classes = len(available)
  held_out = np.full(num_classes, validation["per_class"], np.int64)
  curve = {k: v for k, v in labeled.items() if k != "profile"}
  try:
    ours = longtail.counts(
      labeled["profile"], num_classes, available=available, **curve
    )
  except ValueError as error:
    raise ValueError(f"data.labeled: {error}") from None
  if labeled["profile"] == "natural":
    ours = np.minimum(ours, np.maximum(available - held_out, 0))
  try:
    theirs = _unlabeled(unlabeled, labeled, ours)
  except ValueError as error:
    raise ValueError(f"data.unlabeled: {error}") from None
  return Plan(ours, theirs, held_out)


def _unlabeled(
  wanted: Settings, labeled: Settings, ours: np.ndarray
) -> np.ndarray | None:
  """The unlabeled count of every class, None for whatever is left."""
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
    return longtail.counts("explicit", num_classes, counts=wanted["counts"])
  rho = labeled["rho"] if wanted["rho"] is None else wanted["rho"]
  total = wanted["total"]
  if profile == "rescaled":
    total = _times(factor, ours.sum()) if total is None else total
    return longtail.by_rank(
      longtail.rescaled(int(total), num_classes, rho=rho), ours
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
    curve = longtail.counts(
      "exponential", num_classes, max_count=first, rho=rho
    )
    return longtail.by_rank(curve, ours)
  if wanted["rho"] is not None and not known:
    raise ValueError(
      f"rho is {rho:g} but the labeled profile {labeled['profile']!r} has no "
      "imbalance ratio: use profile 'exponential'"
    )
  if largest is None and wanted["rho"] is None:
    curve = _times(factor, ours)
  elif known:
    curve = longtail.counts(
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
  return longtail.by_rank(np.sort(curve), ours)


def _times(factor: float, n: np.ndarray) -> np.ndarray:
  """`int(factor * n)`, safe from products that round to just below."""
  return np.floor(factor * np.asarray(n, np.float64) + 1e-9).astype(np.int64)


def _plain(name: str, key: str, value: Any, default: Any) -> Any:
  """One setting as a plain Python value, or a ValueError."""
  if key == "counts":
    if isinstance(value, str) or not hasattr(value, "__len__"):
      raise ValueError(f"{name} is {value!r}: it must be a list of integers")
    return tuple(int(n) if isinstance(n, np.integer) else n for n in value)
  if key in ("profile", "uniform", "source"):
    if not isinstance(value, str):
      raise ValueError(f"{name} is {value!r}: it must be a string")
    choices = {
      "data.labeled.profile": longtail.PROFILES,
      "data.unlabeled.profile": UNLABELED_PROFILES,
      "data.unlabeled.uniform": ("per_class", "total"),
    }.get(name, (value,))
    if value not in choices:
      raise ValueError(
        f"{name} is {value!r}: choose one of {', '.join(choices)}"
      )
    return value
  if value is None and default is None:
    return None
  whole = key in ("max_count", "total", "per_class")
  kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
  if isinstance(value, bool) or not isinstance(value, kinds):
    kind = "an integer" if whole else "a number"
    raise ValueError(f"{name} is {value!r}: it must be {kind}")
  number = int(value) if whole else float(value)
  lowest = {"max_count": 1, "total": 1, "per_class": 0, "rho": 1, "factor": 0}
  if key in lowest:
    longtail.in_range(number, name, low=lowest[key])
  return number
