"""Files that name the classes: their order, or a number for each.

    cat            cat, 0.5
    dog            polar bear 2

Lines that are empty or begin with `#` are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import re

import numpy as np

from ltjax import require

_SHOWN = 5
_HEADER = ("name", "class")


def numbers(
  path: str | os.PathLike[str],
  classes: Sequence[str],
  *,
  what: str,
  within: str,
) -> np.ndarray:
  """Reads a number for each class: a name, a comma or space, and the number.

  Args:
    path: the file. The number is the last word of a line, the name what is
      before it, perhaps in quotes; the first line may be `name,...`.
    classes: one name a class. All must be named.
    what: a word for the number, for errors.
    within: what it must be in, such as `[0, 1]`.

  Returns:
    float64 `[C]`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: for a class that is unknown, missing or named twice, or what is
      no number of that interval; names the line.
  """
  found: dict[str, float] = {}
  for number, line in _lines(path, f"{what}s"):
    where = f"{path}, line {number}"
    parts = re.fullmatch(r"(.*?)\s*[,\s]\s*([^\s,]+)", line)
    name, value = parts.groups() if parts else (line, "")
    if name not in classes:
      name = name.strip('"')
    if name not in classes:
      if number == 1 and name.lower() in _HEADER:
        continue
      raise ValueError(
        f"{where}: {line!r} is no class and a {what}; the classes are"
        f" {_some(classes)}."
      )
    if name in found:
      raise ValueError(f"{where}: class {name!r} has a {what} already.")
    try:
      found[name] = float(value)
    except ValueError:
      raise ValueError(f"{where}: the {what} {value!r} is no number.") from None
    require.within(f"{where}: the {what}", found[name], within)
  missing = [name for name in classes if name not in found]
  if missing:
    raise ValueError(
      f"{path}: no {what} for {len(missing)} classes, the first {missing[0]!r};"
      " give each one a line."
    )
  return np.array([found[name] for name in classes])


def order(given: str, classes: Sequence[str], *, field: str) -> np.ndarray:
  """Returns the classes in an order of their names, int64 `[C]`.

  Args:
    given: the names, joined by commas, or a file with a name a line.
    classes: one name a class, as they are.
    field: the setting, for errors.

  Raises:
    FileNotFoundError: if it is neither.
    ValueError: if a name is unknown, missing or named twice.
  """
  path = Path(given).expanduser()
  if os.path.isfile(path):  # also of a text too long for a path
    where, names = f"{path} ({field})", [line for _, line in _lines(path, "")]
  else:
    where, names = field, [name.strip() for name in given.split(",")]
  place = {name: c for c, name in enumerate(classes)}
  unknown = [name for name in names if name not in place]
  if unknown and len(names) == 1:
    raise FileNotFoundError(
      f"{field} is {given!r}: there is no such file, and no such class. It"
      " needs the names of all classes, joined by commas, or a file of them."
    )
  check_names(names, classes, where=where)
  return np.array([place[name] for name in names], np.int64)


def check_names(
  names: Sequence[str], classes: Sequence[str], *, where: str
) -> None:
  """Checks that names are those of the classes, each once, in any order.

  Args:
    names: to check.
    classes: one name a class.
    where: where they stand, for the ValueError.
  """
  for kind, some in (
    ("are not classes", [name for name in names if name not in classes]),
    ("are missing", [name for name in classes if name not in names]),
    ("are named twice", [n for i, n in enumerate(names) if n in names[:i]]),
  ):
    if some:
      raise ValueError(
        f"{where}: {_some(some)} {kind}. Name each of the {len(classes)}"
        f" classes once: {_some(classes)}."
      )


def _lines(path: str | os.PathLike[str], what: str) -> list[tuple[int, str]]:
  path = Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file of {what}.")
  text = path.read_text(encoding="utf-8-sig")
  return [
    (number, line.strip())
    for number, line in enumerate(text.splitlines(), 1)
    if line.strip() and not line.startswith("#")
  ]


def _some(names: Sequence[str]) -> str:
  shown = ", ".join(map(repr, names[:_SHOWN]))
  return shown + " ..." * (len(names) > _SHOWN)
