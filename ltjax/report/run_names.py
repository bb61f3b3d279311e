"""Names of experiments: the papers' words, and the settings that differ.

An experiment is called by its method and loss ("LDAM-DRW", "SSLT"); where two
would be called alike, also by as few of the differing settings as tell them
apart, those left out that are at their default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
from typing import Any

from ltjax import config as configs
from ltjax.config import check as config_check
from ltjax.methods import registry

# What every row of a comparison should share, so that a difference is named
# beside whatever else differs.
_SHARED = ("data.", "model.name")
# What other fields follow from.
_TELLING = ("variant", "data.source")


def tell_apart(
  experiments: Sequence[Mapping[str, Any]],
) -> list[tuple[str, dict[str, Any]]]:
  """Returns a name for each experiment, and the settings that differ.

  The configs all differ but for `seed`. Settings are those fields, by dotted
  path, that differ anywhere.
  """
  flat = [_flatten(config) for config in experiments]
  known = _fields(flat)
  fields = [f for f in known if f != "seed" and _kinds([f], flat) > 1]
  # The first are the last to be left out: those that say most.
  fields.sort(key=lambda f: (f not in _TELLING, f.count("."), f))
  usual = _flatten(configs.default().to_dict())
  titled = [_title(config) for config in experiments]
  shared = _fewest([f for f in fields if f.startswith(_SHARED)], flat)
  result = []
  for title, config in zip(titled, flat, strict=True):
    alike = [c for t, c in zip(titled, flat, strict=True) if t == title]
    own = [f for f in fields if not f.startswith(_SHARED)]
    own = [
      f
      for f in _fewest(own, alike, given=shared)
      if f not in usual or _key(config, f) != _key(usual, f)
    ]
    words = [
      f"{_short(field, known)}={_value(config[field])}"
      for field in shared + own
      if field in config
    ]
    settings = {f: config[f] for f in fields if f in config}
    result.append((", ".join([title, *words]), settings))
  return result


def _title(config: Mapping[str, Any]) -> str:
  """Returns what tables call it; blocks of newer versions have defaults."""
  try:
    return registry.title(config_check.completed(config))
  except (AttributeError, ValueError):  # Of another version, or no config.
    return str(config.get("method", "run"))


def _fewest(
  fields: Sequence[str],
  configs: Sequence[Mapping[str, Any]],
  given: Sequence[str] = (),
) -> list[str]:
  """Returns some of the fields, the first, that tell apart what all do."""
  kept = list(fields)
  kinds = _kinds([*given, *kept], configs)
  for field in reversed(fields):
    fewer = [f for f in kept if f != field]
    if _kinds([*given, *fewer], configs) == kinds:
      kept = fewer
  return kept


def _kinds(fields: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> int:
  """Returns how many kinds of configs the fields tell apart."""
  return len({tuple(_key(c, field) for field in fields) for c in configs})


def _key(config: Mapping[str, Any], field: str) -> str:
  return json.dumps(config[field]) if field in config else ""


def _fields(configs: Sequence[Mapping[str, Any]]) -> list[str]:
  return list(dict.fromkeys(field for config in configs for field in config))


def _short(field: str, fields: Sequence[str]) -> str:
  """Returns the shortest end of a dotted path that no other field has."""
  parts = field.split(".")
  for count in range(1, len(parts)):
    end = "." + ".".join(parts[-count:])
    if sum(("." + other).endswith(end) for other in fields) == 1:
      return end[1:]
  return field


def _value(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:g}"
  if isinstance(value, list | tuple):
    return f"({' '.join(_value(v) for v in value)})"
  return str(value)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      flat.update(_flatten(value, f"{prefix}{name}."))
    else:
      flat[f"{prefix}{name}"] = value
  return flat
