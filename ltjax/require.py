"""What settings must be: a line a check, and one wording for all.

Each error names the setting, its value, the limit and, where it helps, the way
out. NaN is within no interval.
"""

from __future__ import annotations

from collections.abc import Iterable
import difflib
import re
from typing import Any


def choice(name: str, value: Any, known: Iterable[str]) -> None:
  """Raises ValueError if a value is not among those known; names the nearest.

  Args:
    name: of the setting.
    value: what it is.
    known: what it may be.
  """
  known = list(known)
  if value in known:
    return
  close = difflib.get_close_matches(str(value), known, 1)
  hint = f" Did you mean {close[0]!r}?" if close else ""
  raise ValueError(
    f"{name} is {value!r}; choose one of {', '.join(known)}.{hint}"
  )


def at_least(name: str, value: float, low: float, why: str = "") -> None:
  """Raises ValueError if a number is below a limit.

  Args:
    name: of the setting.
    value: what it is.
    low: the limit.
    why: ends the sentence.
  """
  within(name, value, f"[{low}, inf]", why)


def within(name: str, value: float, interval: str, why: str = "") -> None:
  """Raises ValueError if a number is outside of an interval.

  Args:
    name: of the setting.
    value: what it is.
    interval: such as `[0, 1)`, with the upper limit left out; `inf)` asks for a
      finite number, `inf]` for any.
    why: ends the sentence.
  """
  found = re.fullmatch(r"([\[(])(\S+), (\S+)([\])])", interval)
  assert found, interval
  opens, low, high, closes = found.groups()
  above = value >= float(low) if opens == "[" else value > float(low)
  below = value <= float(high) if closes == "]" else value < float(high)
  if above and below:
    return
  limit = f"in {interval}"
  if high == "inf":
    limit = f"{low} or more" if opens == "[" else f"above {low}"
    limit += " and finite" if closes == ")" else ""
  end = f", {why}" if why else ""
  raise ValueError(f"{name} is {value}; it must be {limit}{end}.")
