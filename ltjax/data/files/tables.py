"""Tables as spreadsheets and databases write them, read into columns of texts.

    .csv, .tsv, .txt   separated by comma, semicolon, tab or bar; UTF-8, UTF-16
                       with its mark, or Windows-1252
    .jsonl, .ndjson    an object a line
    .parquet           by pyarrow or pandas; columns of bytes are passed over
    .xlsx              by openpyxl; the first sheet

The first line names the columns. Every value is a stripped text, "" where there
is none; a whole number that a file keeps as a float is written without `.0`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import csv
import importlib
import importlib.util
import itertools
import json
import math
import pathlib
from typing import Any, NamedTuple
import zipfile

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_NO_SEPARATOR = "\x1f"
_SNIFFED = 100  # rows
_MAX_BYTES = 1 << 30  # of an unfolded Excel file
_INSTALL = "pip install 'ltjax[tables]'"


class Table(NamedTuple):
  """A table in memory.

  Attributes:
    columns: the values of each column by its name, all of one length.
    lines: the line of each row in its file, from 1, for messages.
    form: how the file was read, such as `comma, UTF-8`.
    empty: rows without any value, which are not among the others.
  """

  columns: dict[str, list[str]]
  lines: list[int]
  form: str
  empty: int


def read(path: str | pathlib.Path) -> Table:
  """Reads a table by the suffix of its file.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the suffix is unknown, a package is missing, or the file is
      damaged, has no rows, rows of several lengths, or two columns of a name.
  """
  path = pathlib.Path(path).expanduser()
  suffix = path.suffix.lower()
  readers = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".xlsx": _read_excel,
  }
  if suffix not in readers:
    raise ValueError(
      f"{path}: tables have one of the suffixes {', '.join(readers)}; export it"
      " as .csv."
    )
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such table.")
  header, rows, form = readers[suffix](path)
  return _table(path, header, rows, form)


def _table(
  path: pathlib.Path,
  header: Sequence[str],
  rows: Iterable[tuple[int, Sequence[Any]]],
  form: str,
) -> Table:
  """Puts rows, each with its line, in columns."""
  names = [_text(name) for name in header]
  while names and not names[-1]:  # separators at the end of the line
    names.pop()
  twice = {name for name in names if names.count(name) > 1}
  if twice or not any(names):
    wrong = f"two columns are named {min(twice)!r}" if twice else "it is empty"
    raise ValueError(
      f"{path}: its first line must name the columns, such as path,label, but"
      f" {wrong}."
    )
  columns: dict[str, list[str]] = {name: [] for name in names}
  lines, empty = [], 0
  for line, row in rows:
    values = [_text(value) for value in row]
    if not any(values):
      empty += 1
      continue
    if len(values) < len(names) or any(values[len(names) :]):
      raise ValueError(
        f"{path}, line {line}: it has {len(values)} values for the"
        f" {len(names)} columns ({form}); complete it, or put values that"
        ' contain the separator in "quotes".'
      )
    lines.append(line)
    for name, value in zip(names, values):
      columns[name].append(value)
  if not lines:
    raise ValueError(f"{path}: the table has no rows.")
  return Table(columns, lines, form, empty)


def _read_text(
  path: pathlib.Path,
) -> tuple[list[str], Iterator[tuple[int, list[str]]], str]:
  """Reads separated values; finds the separator and the encoding."""
  text, encoding = _decode(path)
  lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
  found = {}
  for separator in _SEPARATORS:
    try:
      rows = list(itertools.islice(_rows(lines, separator), _SNIFFED))
    except csv.Error:
      continue
    width = len(rows[0][1]) if rows else 0
    if width > 1:
      alike = sum(len(row) == width for _, row in rows)
      found[separator] = (alike / len(rows), width)
  separator, form = _NO_SEPARATOR, "one column"
  if found:
    separator = max(found, key=lambda key: found[key])
    form = f"separated by {_SEPARATORS[separator]}"
  try:
    rows = list(_rows(lines, separator))
  except csv.Error as error:
    raise ValueError(
      f"{path}: damaged, by quotes that do not close or a value of more than"
      f" {csv.field_size_limit():,} letters ({error})."
    ) from None
  if not rows:
    raise ValueError(f"{path}: the table is empty.")
  return rows[0][1], iter(rows[1:]), f"{form}, {encoding}"


def _rows(lines: list[str], separator: str) -> Iterator[tuple[int, list[str]]]:
  """Yields rows with their lines; empty lines are passed over."""
  reader = csv.reader(
    (line + "\n" for line in lines),
    delimiter=separator,
    skipinitialspace=True,
    strict=True,
  )
  for row in reader:
    if row:
      yield reader.line_num, row


def _decode(path: pathlib.Path) -> tuple[str, str]:
  """Returns the text of a file and its encoding."""
  data = path.read_bytes()
  if data.startswith((b"\xff\xfe", b"\xfe\xff")):
    encodings = {"utf-16": "UTF-16"}
  else:
    encodings = {
      "utf-8-sig": "UTF-8",
      "cp1252": "Windows-1252, as it is not UTF-8",
    }
  for encoding, name in encodings.items():
    try:
      text = data.decode(encoding)
    except UnicodeDecodeError:
      continue
    if "\0" not in text:
      return text, name
  raise ValueError(f"{path}: not a text; save it as CSV in UTF-8.")


def _read_jsonl(
  path: pathlib.Path,
) -> tuple[list[str], list[tuple[int, list[Any]]], str]:
  """Reads an object a line; a key that is missing is no value."""
  text, encoding = _decode(path)
  objects, names = [], {}
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise ValueError(f"{path}, line {number}: damaged ({error}).") from None
    if not isinstance(value, dict):
      raise ValueError(
        f'{path}, line {number}: a line must be an object, {{"path": ...}}.'
      )
    objects.append((number, value))
    names |= dict.fromkeys(value)
  rows = [(line, [value.get(n) for n in names]) for line, value in objects]
  return list(names), rows, f"JSON lines, {encoding}"


def _read_parquet(
  path: pathlib.Path,
) -> tuple[list[str], list[tuple[int, tuple]], str]:
  """Reads the columns of texts and numbers."""
  if importlib.util.find_spec("pyarrow"):
    from pyarrow import ArrowException, parquet, types

    def plain(kind: Any) -> bool:
      if types.is_dictionary(kind):
        kind = kind.value_type
      return not (types.is_nested(kind) or "binary" in str(kind))

    try:
      with parquet.ParquetFile(path) as file:
        names = [f.name for f in file.schema_arrow if plain(f.type)]
        read = file.read(columns=names).to_pydict()
    except (ArrowException, OSError) as error:
      raise ValueError(f"{path}: no Parquet file ({error}).") from None
  elif importlib.util.find_spec("pandas"):
    pandas: Any = importlib.import_module("pandas")
    frame = pandas.read_parquet(path)
    names = [str(name) for name in frame.columns]
    read = {name: frame[name].tolist() for name in names}
  else:
    raise ValueError(f"{path}: reading Parquet needs pyarrow: {_INSTALL}.")
  rows = list(enumerate(zip(*(read[name] for name in names)), 1))
  return names, rows, "Parquet"


def _read_excel(
  path: pathlib.Path,
) -> tuple[list[str], list[tuple[int, tuple]], str]:
  """Reads the first sheet, values instead of formulas."""
  if not importlib.util.find_spec("openpyxl"):
    raise ValueError(
      f"{path}: reading Excel needs openpyxl: {_INSTALL}. Or export it as .csv."
    )
  openpyxl: Any = importlib.import_module("openpyxl")
  try:
    with zipfile.ZipFile(path) as members:
      size = sum(member.file_size for member in members.infolist())
    if size > _MAX_BYTES:
      raise ValueError(f"it unfolds to {size / 2**30:.1f} GiB")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    sheet = book.worksheets[0]
    rows = list(enumerate(sheet.iter_rows(values_only=True), 1))
    book.close()
  except Exception as error:  # Of many kinds: XML, zip, its own.
    raise ValueError(f"{path}: no Excel file ({error}).") from None
  if not rows:
    raise ValueError(f"{path}: its first sheet, {sheet.title!r}, is empty.")
  form = f"Excel, sheet {sheet.title!r}"
  if len(book.worksheets) > 1:
    form += f" (the first of {len(book.worksheets)})"
  return [_text(name) for name in rows[0][1]], rows[1:], form


def _text(value: Any) -> str:
  """A value as a stripped text, "" for none."""
  if value is None:
    return ""
  if isinstance(value, float):
    if math.isnan(value):
      return ""
    if value.is_integer():
      return str(int(value))
  return str(value).strip()
