"""Tables of pictures: a row a picture, with its path and its class.

    image_id,dx,lesion_id
    ISIC_0027419,bkl,HAM_0000118
    ISIC_0024306,nv,HAM_0000550

    csv:FILE    .csv, .tsv, .jsonl, .parquet or .xlsx, see `files.tables`

`data.columns` names the columns; those that it leaves empty are found by usual
names. A row without a class is an unlabeled picture. A column `split` says
train, val, test or unlabeled; without it, or without test rows, a test part is
held out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
import os
import pathlib
import re
from typing import NamedTuple
import unicodedata

import numpy as np

from ltjax import require
from ltjax.data.files import images
from ltjax.data.files import tables as files
from ltjax.data.parts import contents
from ltjax.data.parts import group_by as grouping
from ltjax.data.sources import lists

# Usual names, the likelier first.
_PATHS = (
  "path file_path filepath image_path img_path picture_path file file_name"
  " filename image_file image_filename image img picture photo paths filepaths"
  " image_paths filenames images image_name img_name image_id img_id photo_id"
  " isic_id fname id_code id name"
).split()
_LABELS = (
  "label class target category dx diagnosis species labels class_name"
  " label_name category_name class_label label_id class_id category_id"
).split()
_SPLITS = "split subset partition data_split".split()
# These, if they have values of splits alone.
_PERHAPS_SPLITS = "set data_set dataset phase usage".split()
_GROUPS = (
  "group group_id patient patient_id lesion_id subject subject_id case_id"
  " individual individual_id animal_id track track_id tracklet_id video"
  " video_id sequence_id seq_id burst_id location location_id"
).split()
_WEIGHTS = "weight sample_weight image_weight".split()
_PARTS = {
  "train": "train",
  "training": "train",
  "val": "validation",
  "valid": "validation",
  "validation": "validation",
  "test": "test",
  "testing": "test",
  "unlabeled": "unlabeled",
  "unlabelled": "unlabeled",
}
_SHOWN = 5
_WHOLE = re.compile(r"[-+]?\d+(\.0*)?")


class _Row(NamedTuple):
  """What a table says of a picture; label and group are "" where it is mute."""

  file: pathlib.Path
  label: str
  part: str
  group: str
  line: int


def read_set(
  argument: str,
  root: str = "",
  *,
  columns: Mapping[str, str] | None = None,
  group_by: str = "",
) -> contents.Found:
  """Reads a table of a labeled set; its pictures stay unread.

  Args:
    argument: the table, what follows `csv:` in the name of a source.
    root: the folder that its paths start from; the table's own if empty.
    columns: the names of the columns `path`, `label` and `split`, "" for those
      to find. `label` may name several, joined by commas: one a class, with a 1
      in one of them and 0 in the others.
    group_by: the column of what keeps pictures together, or a pattern on their
      paths, see `group_by`; "" for nothing.

  Returns:
    The set. Classes are named as in the table and sorted by name, numbers by
    value.

  Raises:
    FileNotFoundError: if the table or a picture is missing.
    ValueError: if a column is not to be found, or values are wrong; tells the
      line and the way out.
  """
  table = _open(argument)
  chosen = _columns(argument, table, columns or {}, strict=True)
  by_column = group_by if group_by in table.columns else ""
  if group_by and not by_column and "(" not in group_by:
    raise ValueError(
      f"{argument}: data.group_by is {group_by!r}, but the table has the"
      f" columns {_some(list(table.columns), 20)}; name one of them, or a"
      " pattern with one group in brackets on the paths."
    )
  base = pathlib.Path(root or pathlib.Path(argument).parent).expanduser()
  labels, told = _labels(argument, table, chosen["label"])
  rows, merged = _rows(argument, table, chosen, labels, by_column, base)
  parts: dict[str, list[_Row]] = defaultdict(list)
  for row in rows:
    parts[row.part if row.label else "unlabeled"].append(row)
  _check_labeled(argument, rows, parts)
  names = _names(argument, parts["train"])
  number = {name: c for c, name in enumerate(names)}

  def listed(name: str) -> contents.Listed | None:
    for row in parts[name]:
      if row.label not in number:
        raise ValueError(
          f"{argument}, line {row.line}: class {row.label!r} has {name}"
          " pictures but none for training; give it some, or leave it out."
        )
    found = np.array([number[row.label] for row in parts[name]], np.int32)
    paths = [row.file for row in parts[name]]
    return contents.Listed(paths, found) if paths else None

  train = listed("train")
  assert train is not None
  empty = table.empty
  told += [f"{empty:,} rows without any value passed over"] if empty else []
  told += [f"{merged:,} repeated rows merged"] if merged else []
  found = contents.Content(
    train,
    listed("test"),
    names,
    validation=listed("validation"),
    unlabeled=[row.file for row in parts["unlabeled"]] or None,
    understood=_understood(argument, table, chosen, parts, told, group_by),
  )
  if by_column:
    groups = {name: [row.group for row in part] for name, part in parts.items()}
    kept = ("test", "validation")
    return grouping.add(
      found,
      groups["train"],
      {name: groups[name] for name in kept if groups.get(name)},
      unlabeled=groups.get("unlabeled") or None,
      how=f"column {by_column!r}",
      where=argument,
    )
  if group_by:
    return grouping.by_path(found, group_by, base, argument)
  return found


def read_pool(
  argument: str,
  root: str = "",
  *,
  columns: Mapping[str, str] | None = None,
  class_names: Sequence[str] = (),
) -> contents.Listed:
  """Reads a table of unlabeled pictures; of one with splits, those to train on.

  Args:
    argument, root, columns: as of `read_set`; columns that it lacks are found.
    class_names: of the labeled set. Classes among them are told by number;
      others, and none, are -1.

  Raises:
    FileNotFoundError, ValueError: as `read_set`.
  """
  table = _open(argument)
  chosen = _columns(argument, table, columns or {}, strict=False)
  base = pathlib.Path(root or pathlib.Path(argument).parent).expanduser()
  labels = [""] * len(table.lines)
  if chosen["label"]:
    labels, _ = _labels(argument, table, chosen["label"])
  rows, _ = _rows(argument, table, chosen, labels, "", base)
  rows = [row for row in rows if row.part in ("train", "unlabeled")]
  if not rows:
    raise ValueError(
      f"{argument}: the table has no pictures to train on, as its column"
      f" {chosen['split']!r} has it."
    )
  number = {name: c for c, name in enumerate(class_names)}
  found = [number.get(row.label, -1) for row in rows]
  return contents.Listed([r.file for r in rows], np.asarray(found, np.int32))


def _open(argument: str) -> files.Table:
  path = pathlib.Path(argument).expanduser()
  if "," in argument and not path.exists():
    raise ValueError(
      f"csv:{argument}: one table is read, not several; join them, with a"
      " column split that says train, val, test or unlabeled."
    )
  return files.read(path)


def _columns(
  where: str, table: files.Table, given: Mapping[str, str], *, strict: bool
) -> dict[str, str]:
  """Returns the columns `path`, `label` and `split`, "" for those not there."""
  for key in given:
    require.choice("a column of data.columns", key, ("path", "label", "split"))
  names = list(table.columns)
  if any(_is_picture(name) for name in names):
    raise ValueError(
      f"{where}: its first line names a picture ({', '.join(names)[:80]}); put"
      " a line with the names of the columns above it, such as path,label."
    )
  has = f"the table has the columns {_some(names, 20)}"
  chosen = {"path": "", "label": "", "split": ""}
  for key in chosen:
    wanted = given.get(key, "")
    split = [wanted]
    if key == "label" and wanted not in names:
      split = [name.strip() for name in wanted.split(",")]
    missing = [name for name in split if name not in names]
    if wanted and not missing:
      chosen[key] = wanted
    elif wanted and strict:
      raise ValueError(
        f"{where}: data.columns.{key} is {wanted!r}, but {has}; none is named"
        f" {missing[0]!r}."
      )
  taken = set(chosen.values())
  usual = {"path": _PATHS, "label": _LABELS, "split": _SPLITS}
  for key in ("split", "label", "path"):
    if key == "split":
      usual[key] = _SPLITS + [
        name
        for name in _PERHAPS_SPLITS
        for column in _usual(names, [name])
        if {v.lower() for v in table.columns[column]} <= set(_PARTS)
      ]
    found = [name for name in _usual(names, usual[key]) if name not in taken]
    if chosen[key] or not found:
      continue
    if key == "label":
      found = _of_one_meaning(table, found)
    if key == "label" and len(found) > 1 and strict:
      raise ValueError(
        f"{where}: the columns {_some(found)} could be the class; set"
        " data.columns.label to one of them."
      )
    if key != "label" or len(found) == 1:
      chosen[key] = found[0]
      taken.add(found[0])
  if not chosen["path"]:
    raise ValueError(
      f"{where}: no column is named as paths usually are ({_some(_PATHS)} ...);"
      f" set data.columns.path. {has.capitalize()}."
    )
  if not chosen["label"] and strict:
    ones = ({"0", "1"}, {"0.0", "1.0"})
    binary = [n for n in names if set(table.columns[n]) in ones]
    hint = "set data.columns.label"
    if len(binary) > 1:
      hint += (
        f" to one of them, or, if {_some(binary)} are classes with a 1 in"
        " one of them, to their names joined by commas,"
        f' "{",".join(binary[:9])}"'
      )
    raise ValueError(
      f"{where}: no column is named as classes usually are"
      f" ({_some(_LABELS)} ...), and {has}; {hint}."
    )
  return chosen


def _usual(names: Sequence[str], usual: Sequence[str]) -> list[str]:
  """Returns the columns of usual names, in the order of these."""
  plain = {name: re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names}
  return [name for word in usual for name in names if plain[name] == word]


def _of_one_meaning(table: files.Table, found: list[str]) -> list[str]:
  """Of columns that tell the same classes, as number and name, keeps one."""
  first = table.columns[found[0]]
  kept = [found[0]]
  for name in found[1:]:
    pairs = set(zip(first, table.columns[name]))
    alike = len(pairs) == len(set(first)) == len(set(table.columns[name]))
    if not alike:
      kept.append(name)
    elif all(map(_WHOLE.fullmatch, first)):
      kept[0] = name  # Names say more than numbers.
  return kept


def _labels(
  where: str, table: files.Table, column: str
) -> tuple[list[str], list[str]]:
  """Returns the class of each row, "" for none, and what to tell of them."""
  if column not in table.columns:
    return _one_hot(where, table, [n.strip() for n in column.split(",")]), []
  told = []
  labels = [unicodedata.normalize("NFC", x) for x in table.columns[column]]
  labels = ["" if x.lower() == "nan" else x for x in labels]
  if all(_WHOLE.fullmatch(x) for x in labels if x):
    whole = [str(int(x.partition(".")[0])) if x else "" for x in labels]
    several = Counter(b for _, b in set(zip(labels, whole)) if b)
    more = [name for name, count in several.items() if count > 1]
    if more:
      ways = sorted({a for a, b in zip(labels, whole) if b == more[0]})
      told.append(f"{' and '.join(ways)} are the same class")
    labels = ["" if x.startswith("-") else x for x in whole]
  elif all(_is_number(x) for x in labels if x):
    i = next(i for i, x in enumerate(labels) if x and not _WHOLE.fullmatch(x))
    raise ValueError(
      f"{where}, line {table.lines[i]}: the class in column {column!r} is"
      f" {labels[i]}, no whole number; set data.columns.label to the column of"
      " the classes."
    )
  else:
    folded: dict[str, set[str]] = defaultdict(set)
    for name in set(labels):
      folded[name.casefold()].add(name)
    pairs = [sorted(names) for names in folded.values() if len(names) > 1]
    for pair in sorted(pairs)[:1]:
      told.append(f"{' and '.join(pair)} are different classes")
  return labels, told


def _one_hot(where: str, table: files.Table, names: list[str]) -> list[str]:
  """Returns the column with a 1 of each row; of a row of zeros, ""."""
  labels = []
  columns = [table.columns[name] for name in names]
  for line, values in zip(table.lines, zip(*columns)):
    plain = [re.sub(r"\.0+$", "", value) for value in values]
    ones = [name for name, value in zip(names, plain) if value == "1"]
    if set(plain) - {"0", "1", ""} or len(ones) > 1:
      raise ValueError(
        f"{where}, line {line}: of the columns {_some(names)} of"
        f" data.columns.label, one must be 1 and the others 0; they are"
        f" {', '.join(values)}. Images of several classes are not supported."
      )
    labels.append(ones[0] if ones else "")
  return labels


def _rows(
  where: str,
  table: files.Table,
  chosen: Mapping[str, str],
  labels: list[str],
  by_column: str,
  base: pathlib.Path,
) -> tuple[list[_Row], int]:
  """Returns a row for each picture, and how many rows said it once more."""
  parts = ["train"] * len(labels)
  if chosen["split"]:
    written = table.columns[chosen["split"]]
    parts = [_PARTS.get(value.lower(), "") for value in written]
    for i, label in enumerate(labels):
      if not written[i] and not label:
        parts[i] = "unlabeled"
    wrong = sorted({w for w, part in zip(written, parts) if not part})
    if wrong:
      line = table.lines[parts.index("")]
      raise ValueError(
        f"{where}, line {line}: column {chosen['split']!r} has the values"
        f" {_some([repr(w) for w in wrong])}; it may have train, val, test and"
        " unlabeled."
      )
  groups = table.columns[by_column] if by_column else [""] * len(labels)
  without = [
    line
    for line, group, label, part in zip(table.lines, groups, labels, parts)
    if by_column and label and part != "unlabeled" and not group
  ]
  if without:
    raise ValueError(
      f"{where}, line {without[0]}: column {by_column!r} of data.group_by is"
      f" empty in {len(without):,} rows; each labeled picture needs its group."
    )
  written = table.columns[chosen["path"]]
  for line, path in zip(table.lines, written):
    if not path:
      raise ValueError(
        f"{where}, line {line}: column {chosen['path']!r} is empty."
      )
  paths = _find(where, written, base)
  rows: dict[pathlib.Path, _Row] = {}
  merged = 0
  for row in map(_Row, paths, labels, parts, groups, table.lines):
    first = rows.setdefault(row.file, row)
    if first is row:
      continue
    merged += 1
    for field in ("label", "part", "group"):
      if getattr(first, field) != getattr(row, field):
        what = {"label": "class", "part": "split"}.get(field, field)
        raise ValueError(
          f"{where}: {row.file} has the {what} {getattr(first, field)!r} in"
          f" line {first.line} and {getattr(row, field)!r} in line {row.line};"
          " keep one of them."
        )
  return list(rows.values()), merged


def _check_labeled(
  where: str, rows: Sequence[_Row], parts: Mapping[str, Sequence[_Row]]
) -> None:
  """Raises a ValueError unless rows for training and testing have classes."""
  for name in ("test", "validation"):
    without = [r.line for r in rows if r.part == name and not r.label]
    if without:
      raise ValueError(
        f"{where}, line {without[0]}: {len(without):,} {name} rows have no"
        " class; add it, or call them unlabeled where the split is told."
      )
  if not parts.get("train"):
    raise ValueError(f"{where}: no row is for training and has a class.")


def _names(where: str, train: Sequence[_Row]) -> tuple[str, ...]:
  """Returns the names of the classes, in their order."""
  counts = Counter(row.label for row in train)
  if len(counts) < 2 or len(counts) == len(train) > 2:
    kind = f"one class, {train[0].label!r}"
    if len(counts) > 1:
      kind = f"{len(train):,} classes of one picture each"
    raise ValueError(
      f"{where}: its training rows have {kind}; is data.columns.label the"
      " column of the classes?"
    )
  if all(name.isdecimal() for name in counts):
    return tuple(sorted(counts, key=int))
  return tuple(sorted(counts))


def _find(
  where: str, written: Sequence[str], base: pathlib.Path
) -> list[pathlib.Path]:
  """Returns the file of each path; those missing are a FileNotFoundError.

  A path may lack its suffix. One without folder, that is not in `base`, is
  looked for below it.
  """
  below: dict[str, list[pathlib.Path]] | None = None
  found = []
  for path in written:
    file = base / path
    if not file.is_file():
      if below is None:
        below = _below(base)
      plain = path.replace("\\", "/")
      there = below.get(plain) or below.get(plain.removeprefix("./")) or [file]
      if len(there) > 1:
        raise ValueError(
          f"{where}: {path!r} may be {there[0]} or {there[1]}; write the folder"
          f" before it, from {base} on."
        )
      file = there[0]
    found.append(file)
  lists.check_exist(found, where)
  return found


def _below(base: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """The pictures below a folder by path and by name, with and without suffix.

  Those in the folder itself come before others of the same name.
  """
  exact: dict[str, list[pathlib.Path]] = defaultdict(list)
  loose: dict[str, list[pathlib.Path]] = defaultdict(list)
  for folder, _, names in os.walk(base):
    for name in names:
      if not _is_picture(name):
        continue
      file = pathlib.Path(folder) / name
      path = file.relative_to(base)
      stem = path.with_suffix("").as_posix()
      for key in {path.as_posix(), stem}:
        exact[key].append(file)
      for key in {path.name, path.stem}:
        loose[key].append(file)
  return loose | exact


def _understood(
  where: str,
  table: files.Table,
  chosen: Mapping[str, str],
  parts: Mapping[str, Sequence[_Row]],
  told: Sequence[str],
  group_by: str,
) -> str:
  """Returns what was made of a table, in a few lines."""
  used = ", ".join(f"{key} {name!r}" for key, name in chosen.items() if name)
  order = ("train", "validation", "test", "unlabeled")
  counts = [f"{len(parts[n]):,} {n}" for n in order if parts.get(n)]
  lines = [
    f"table        {where}: {len(table.lines):,} rows, {table.form}",
    f"columns      {used}",
    f"pictures     {', '.join(counts)}",
  ]
  lines += [f"             {line}" for line in told]
  names = list(table.columns)
  alike = [name for name in _usual(names, _GROUPS) if name != group_by]
  if alike and not group_by:
    lines.append(
      f"groups       none; data.group_by={alike[0]!r} would keep pictures of a"
      f" {alike[0]} on one side of every split"
    )
  for name in _usual(names, _WEIGHTS):
    if name not in chosen.values():
      lines.append(
        f"weights      column {name!r} is not used: no method weighs images"
      )
  return "\n".join(lines)


def _is_picture(name: str) -> bool:
  return pathlib.PurePath(name).suffix.lower() in images.SUFFIXES


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _some(names: Sequence[str], count: int = _SHOWN) -> str:
  rest = f" and {len(names) - count} more" if len(names) > count else ""
  return ", ".join(names[:count]) + rest
