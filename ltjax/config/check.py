"""Checks of a config: known fields, values of their types.

A misspelt field would otherwise be a setting that silently does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
import difflib
from typing import Any

import ml_collections

from ltjax import config as configs

# Checked here, as they are used late or by others.
_LEAST = {
  "seed": 0,
  "seeds": 1,
  "data.seed": 0,
  "eval.last_k": 1,
  "run.keep": 2,
  "run.memory_limit_gib": 0,
  "run.steps_per_call": 0,
}
_REHEARSE = ("auto", "always", "never")


def check(config: Mapping[str, Any] | ml_collections.ConfigDict) -> None:
  """Checks that a config has the known fields, with values of their types.

  Args:
    config: as a config file returned it.

  Raises:
    ValueError: names the field, and the known one nearest to it.
  """
  if not isinstance(config, Mapping | ml_collections.ConfigDict):
    raise ValueError(
      f"The config is {config!r}; get_config() must return the ConfigDict of"
      " ltjax.config.default()."
    )
  _check(config, configs.default(), "")
  for name, least in _LEAST.items():
    value: Any = config
    for part in name.split("."):
      value = value[part]
    if value < least:
      raise ValueError(f"{name} is {value}; it must be {least} or more.")
  if config["run"]["rehearse"] not in _REHEARSE:
    raise ValueError(
      f"run.rehearse is {config['run']['rehearse']!r}; choose one of"
      f" {', '.join(_REHEARSE)}."
    )


def of_run(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Returns the config of one run: without `seeds`, which are runs each.

  So a run is the same, and is known by the same config, alone or among others.

  Args:
    config: as a config file returned it.

  Raises:
    ValueError: if it is of several seeds.
  """
  if config.seeds > 1:
    raise ValueError(
      f"seeds is {config.seeds}, and this trains one; ltjax.launch.seeds.train,"
      " or python -m ltjax.main, trains several."
    )
  alone = config.copy_and_resolve_references()
  with alone.unlocked():
    del alone.seeds
  return alone


# How pictures that are not 8-bit grey or RGB were read.
_PICTURES_BEFORE = {
  "pixel_range": "0,65535",
  "background": "none",
  "pages": "first",
}


def completed(
  config: Mapping[str, Any] | ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns a config with the fields that a later version added.

  They are the defaults, or what was done before there was a setting. For
  looking at finished runs; training asks for the config as it was.

  Args:
    config: of a run, perhaps of an earlier version.
  """
  known = configs.default()
  variant = config.get("variant")
  if variant in configs.VARIANTS:
    known = configs.default(variant)
  merged = known.to_dict()
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  if "background" not in config.get("data", {"background"}):
    merged["data"].update(_PICTURES_BEFORE)
  _merge(merged, dict(config))
  return ml_collections.ConfigDict(merged)


def _merge(known: dict[str, Any], given: Mapping[str, Any]) -> None:
  for name, value in given.items():
    if isinstance(value, Mapping) and isinstance(known.get(name), dict):
      _merge(known[name], value)
    else:
      known[name] = value


def _check(given: Any, known: Any, prefix: str) -> None:
  for name in given:
    if name not in known:
      close = difflib.get_close_matches(str(name), list(known), 1)
      hint = f" Did you mean {prefix}{close[0]}?" if close else ""
      raise ValueError(f"Unknown config field {prefix}{name}.{hint}")
  for name in known:
    if name not in given:
      raise ValueError(
        f"The config field {prefix}{name} is missing; start the config file"
        " from ltjax.config.default()."
      )
    value, default = given[name], known[name]
    if isinstance(default, ml_collections.ConfigDict):
      if not isinstance(value, Mapping | ml_collections.ConfigDict):
        raise ValueError(f"The config field {prefix}{name} must be a block.")
      _check(value, default, f"{prefix}{name}.")
    elif default is None:
      if value is not None and not _is_number(value):
        raise ValueError(f"{prefix}{name} is {value!r}; it must be a number.")
    elif not _same_kind(value, default):
      raise ValueError(
        f"{prefix}{name} is {value!r}; it must be of type"
        f" {type(default).__name__}."
      )
    values = value if isinstance(value, tuple | list) else (value,)
    for entry in values:
      if isinstance(value, tuple | list) and not _is_number(entry):
        raise ValueError(
          f"{prefix}{name} is {value!r}; it must hold numbers only."
        )
      if _is_number(entry) and not abs(entry) <= 2**53:
        raise ValueError(
          f"{prefix}{name} is {value!r}; it must be finite and at most 2 ** 53."
        )


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _same_kind(value: Any, default: Any) -> bool:
  if isinstance(default, bool) or isinstance(value, bool):
    return isinstance(default, bool) and isinstance(value, bool)
  if isinstance(default, float):
    return isinstance(value, int | float)
  if isinstance(default, tuple):
    return isinstance(value, tuple | list)
  return isinstance(value, type(default))
