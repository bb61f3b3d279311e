"""The settings of a split: their names, defaults and checks.

They are named as in the config: `data.labeled.max_count` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
import pathlib
from typing import Any

import numpy as np

from ltjax import require
from ltjax.data.splits import profiles

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
  "class_order": (),
  "index_file": "",
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
  "relevance": 1.0,
  "irrelevant": "",
}
VALIDATION: Settings = {"per_class": 0, "index_file": ""}
PROBE: Settings = {"images": "none", "per_class": 0, "index_file": ""}

# Settings that came later. They are on record only where they have a say, so
# that splits made before keep their hash.
_LATER: Settings = {
  "class_order": (),
  "relevance": 1.0,
  "irrelevant": "",
  "index_file": "",
}

UNLABELED_PROFILES = (
  "same",
  "reversed",
  "middle",
  "head_tail",
  "uniform",
  "exponential",
  "rescaled",
  "explicit",
  "natural",
)


def complete(name: str, given: Mapping, defaults: Settings) -> Settings:
  """Completes one block of settings and checks names, types and least values.

  Args:
    name: `labeled`, `unlabeled`, `validation` or `probe`, for messages.
    given: What the user set; a subset of the keys of `defaults`.
    defaults: `LABELED`, `UNLABELED`, `VALIDATION` or `PROBE`.

  Raises:
    ValueError: An unknown key, a wrong type or a value out of range.
  """
  result: Settings = (
    {**defaults, "counts": ()} if "counts" in defaults else {**defaults}
  )
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
  if result.get("relevance", 1.0) < 1 and not result["irrelevant"]:
    raise ValueError(
      f"data.{name}.relevance is {result['relevance']:g} but "
      f"data.{name}.irrelevant is empty: name where the irrelevant images come "
      "from, such as 'cifar100', 'npz:PATH' or 'classes:8,9', or set relevance "
      "to 1"
    )
  if result.get("per_class") and result.get("index_file"):
    raise ValueError(
      f"data.{name}.per_class is {result['per_class']} but "
      f"data.{name}.index_file names the images: set one of them"
    )
  return result


def recorded(block: Settings) -> Settings:
  """Returns the settings of a block that belong into the record of a split.

  Of an index file it is the name alone: where the file lay does not matter, and
  the record has the images themselves.
  """
  result = {
    key: value
    for key, value in block.items()
    if key not in _LATER or value != _LATER[key]
  }
  if "index_file" in result:
    result["index_file"] = pathlib.PurePath(result["index_file"]).name
  return result


def _plain(name: str, key: str, value: Any, default: Any) -> Any:
  """One setting as a plain Python value, or a ValueError."""
  if key in ("counts", "class_order"):
    if isinstance(value, str) or not hasattr(value, "__len__"):
      raise ValueError(f"{name} is {value!r}: it must be a list of integers")
    return tuple(int(n) if isinstance(n, np.integer) else n for n in value)
  if key in (
    "profile",
    "uniform",
    "source",
    "irrelevant",
    "images",
    "index_file",
  ):
    if not isinstance(value, str):
      raise ValueError(f"{name} is {value!r}: it must be a string")
    choices = {
      "data.labeled.profile": profiles.PROFILES,
      "data.unlabeled.profile": UNLABELED_PROFILES,
      "data.unlabeled.uniform": ("per_class", "total"),
      "data.probe.images": ("none", "train"),
    }.get(name, (value,))
    require.choice(name, value, choices)
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
  if key == "relevance":
    require.within(name, number, "[0, 1]")
  if key in lowest:
    require.within(name, number, f"[{lowest[key]}, inf)")
  return number
