"""What settings must be: a line a check, and one wording for all.

Each error names the setting, its value, the limit and, where it helps, the way
out. NaN is within no interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import difflib
import re
from typing import Any


def choice(
  name: str,
  value: Any,
  known: Iterable[Any],
  aliases: Mapping[str, str] | None = None,
) -> None:
  """Raises ValueError if a value is not among those known; names the nearest.

  Args:
    name: of the setting.
    value: what it is.
    known: what it may be.
    aliases: other words for it, and how to ask for each.
  """
  known = list(known)
  if value in known:
    return
  words = [str(each) for each in known]
  word = str(value).lower().replace("-", "_")
  close = difflib.get_close_matches(word, words, 1)
  hint = f" Did you mean {close[0]!r}?" if close else ""
  if aliases and word in aliases:
    hint = f" Use {aliases[word]}."
  raise ValueError(
    f"{name} is {value!r}; choose one of {', '.join(words)}.{hint}"
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


def within(
  name: str, value: float, interval: str, why: str = "", *, about: str = ""
) -> None:
  """Raises ValueError if a number is outside of an interval.

  Args:
    name: of the setting.
    value: what it is.
    interval: see `limit`.
    why: ends the sentence.
    about: what the setting is, after the sentence.
  """
  opens, low, high, closes = _parts(interval)
  above = value >= float(low) if opens == "[" else value > float(low)
  below = value <= float(high) if closes == "]" else value < float(high)
  if above and below:
    return
  end = (f", {why}" if why else "") + (f": {about}" if about else "")
  raise ValueError(f"{name} is {value}; it must be {limit(interval)}{end}.")


def limit(interval: str) -> str:
  """Returns an interval in words.

  Args:
    interval: such as `[0, 1)`, with the upper limit left out; `inf)` asks for a
      finite number, `inf]` for any.
  """
  opens, low, high, closes = _parts(interval)
  if high != "inf":
    return f"in {interval}"
  finite = "finite" if closes == ")" else ""
  if low == "-inf":
    return finite
  words = f"{low} or more" if opens == "[" else f"above {low}"
  return f"{words} and {finite}" if finite else words


def _parts(interval: str) -> tuple[str, ...]:
  found = re.fullmatch(r"([\[(])(\S+), (\S+)([\])])", interval)
  assert found, interval
  return found.groups()
