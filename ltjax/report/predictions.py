"""Predictions of pictures: lines on a terminal, tables on disk, sorted copies.

A record is what `ltjax.predict` says of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
import csv
import filecmp
import importlib.util
import json
import os
from pathlib import Path
import re
import shutil
from typing import Any

from ltjax import require

UNKNOWN = "unknown"
FORMATS = (".csv", ".jsonl", ".parquet")

# With `error` in it where the picture could not be read.
Record = dict[str, Any]


class Table:
  """Aligned lines, a picture each; the widths are known beforehand.

  Args:
    files: the pictures that will come.
    classes: one name a class.
    top: classes a picture.
    columns: further fields of a record to show.
  """

  def __init__(
    self,
    files: Sequence[Path],
    classes: Sequence[str],
    top: int,
    columns: Sequence[str] = (),
  ):
    self._image = max(map(_width, ["image", *map(str, files)]))
    self._class = max(map(_width, ["class", UNKNOWN, *classes]))
    self._top, self._columns = top, columns

  def header(self) -> str:
    """Returns the line above the first."""
    pair = f"{_pad('class', self._class)}  probability"
    more = [f"{name:>9}" for name in self._columns]
    return "  ".join([_pad("image", self._image), *[pair] * self._top, *more])

  def line(self, row: Record) -> str:
    """Returns the line of a picture.

    Args:
      row: as `ltjax.predict` gives it, without error.
    """
    cells = [_pad(row["image"], self._image)]
    for best in [row, *row.get("top", [])[1:]]:
      cells.append(_pad(best["class"], self._class))
      cells.append(f"{best['probability']:>11.4f}")
    for name in self._columns:
      value = row[name]
      names = isinstance(value, list)
      cells.append(
        "{" + ", ".join(map(shown, value)) + "}" if names else f"{value:>9.3f}"
      )
    return "  ".join(cells)


def check_format(path: Path) -> None:
  """Checks that `write` has a form for a file.

  Args:
    path: the file.

  Raises:
    ValueError: for another suffix, or one whose package is not installed.
  """
  require.choice("The suffix of --out", path.suffix, FORMATS)
  if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
    raise ValueError(
      f"{path} needs pyarrow, which is not installed: pip install"
      " 'ltjax[tables]', or name a .csv or .jsonl file."
    )


def write(path: Path, records: Sequence[Record]) -> None:
  """Writes records as a table, a row each, at once when all are there.

  Of `top` the second class and on become `class_2`, `probability_2`, ...; a
  `set` is joined by `|`, but in JSON both stay lists.

  Args:
    path: a file of one of `FORMATS`.
    records: as of `ltjax.predict`.
  """
  temporary = path.with_name(f".{path.name}.tmp")
  path.parent.mkdir(parents=True, exist_ok=True)
  flat = [_flat(row) for row in records]
  names = list(dict.fromkeys(name for row in flat for name in row))
  try:
    if path.suffix == ".jsonl":
      lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in records]
      temporary.write_text("".join(lines), encoding="utf-8")
    elif path.suffix == ".csv":
      with temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, names or ["image"])
        rows.writeheader()
        rows.writerows(flat)
    else:
      import pyarrow
      from pyarrow import parquet

      columns = {name: [row.get(name) for row in flat] for name in names}
      parquet.write_table(pyarrow.table(columns), temporary)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _flat(row: Record) -> Record:
  found = {k: v for k, v in row.items() if k not in ("top", "set")}
  for place, other in enumerate(row.get("top", [])[1:], 2):
    found[f"class_{place}"] = other["class"]
    found[f"probability_{place}"] = other["probability"]
  for name in ("set", "shares"):
    if name in row:
      found[name] = "|".join(map(str, row[name]))
  return found


def sort_into(folder: Path, row: Record) -> Path:
  """Copies a picture into the folder of its class; returns the copy.

  A file of that name stays: the copy then gets a number, unless the two are
  the same, byte for byte.

  Args:
    folder: has a folder for each class.
    row: as of `ltjax.predict`, without error.
  """
  source = Path(row["image"])
  # What would be another folder, or none, in a class name.
  name = re.sub(r'[/\\\0:*?"<>|]', "_", row["class"]).strip(". ") or "_"
  target = folder / name / source.name
  target.parent.mkdir(parents=True, exist_ok=True)
  number = 1
  while target.exists() and not filecmp.cmp(source, target, shallow=False):
    number += 1
    target = target.with_name(f"{source.stem}-{number}{source.suffix}")
  if not target.exists():
    shutil.copy2(source, target)
  return target


def shown(text: str) -> str:
  """Returns a text with what a terminal cannot show, or would obey, escaped.

  Args:
    text: such as a file's name.
  """
  return "".join(
    c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
  )


def _width(text: str) -> int:
  from rich import cells

  return cells.cell_len(shown(text))


def _pad(text: str, width: int) -> str:
  return shown(text) + " " * (width - _width(text))
