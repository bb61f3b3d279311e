"""List files: which pictures make a set, a line each.

    train/n01440764/n01440764_10026.JPEG 0
    train/n01440764/n01440764_10027.JPEG 0

A line is a path and the number or the name of a class, behind a tab or the last
space; a name with spaces needs the tab. A list of unlabeled pictures may do
without. ImageNet-LT, ImageNet-SSLT and Places-LT are published in this form.

    list:FOLDER               FOLDER/train.txt, val.txt and test.txt (optional)
                              and classes.txt (optional, a class name a line)
    list:TRAIN.txt,TEST.txt   the lists by their own names
    list:TRAIN.txt,VAL.txt,TEST.txt    the same, with validation pictures
    list:TRAIN.txt            without test pictures: a part is held out
"""

from __future__ import annotations

from collections.abc import Sequence
import pathlib
import re
from typing import NamedTuple

import numpy as np

from ltjax.data.files import images, tree
from ltjax.data.parts import arrays, contents

# A number that is no class: -1 is as good as none.
_NUMBER = re.compile(r"[-+]\d+|[-+]?\d*\.\d+")


class _Lines(NamedTuple):
  """A list as it is written: pictures, and classes, "" where there is none."""

  path: pathlib.Path
  files: list[pathlib.Path]
  classes: list[str]

  @property
  def named(self) -> str:
    """The first class that is a name, or ""."""
    return next((c for c in self.classes if c and not c.isdecimal()), "")


def read(
  path: str | pathlib.Path,
  root: str | pathlib.Path = "",
  names: Sequence[str] = (),
) -> contents.Listed:
  """Reads a list file; that its pictures exist is for `check_exist` to tell.

  Args:
    path: the list; empty lines are passed over.
    root: the folder that its paths start from; the list's own if empty.
    names: of the classes; names that are not among them count as no label.

  Raises:
    FileNotFoundError: if there is no such list.
    ValueError: if it is empty or no text, a picture occurs twice in it, or it
      has numbers and names of classes.
  """
  lines = _read(path, root)
  number = {name: c for c, name in enumerate(names)}
  if not lines.named:
    return contents.Listed(lines.files, _numbers(lines.classes))
  found = [number.get(name, -1) for name in lines.classes]
  return contents.Listed(lines.files, np.asarray(found, np.int32))


def read_set(argument: str, root: str = "") -> contents.Found:
  """Reads the lists of a labeled set; its pictures stay unread.

  The names of classes are those of classes.txt, otherwise those in the list of
  the training pictures, sorted, or the numbers. `argument` is what follows
  `list:` in the name of a source; `root` is as of `read`. Raises as `read`, and
  a ValueError if a picture has no label, there are more classes than names, or
  a name is unknown.
  """
  paths, names_file = _paths(argument)
  parts = {name: _labeled(path, root) for name, path in paths.items()}
  given = ()
  if names_file.is_file():
    text = names_file.read_text(encoding="utf-8")
    given = arrays.class_names(text.splitlines(), str(names_file))
  train = parts["train"]
  if any(bool(part.named) != bool(train.named) for part in parts.values()):
    raise ValueError(
      f"list:{argument}: one list has names of classes and another has numbers;"
      " write all of them in one manner."
    )
  if train.named:
    names = given or tuple(sorted(set(train.classes)))
    listed = {
      key: contents.Listed(part.files, _known(part, names, given, names_file))
      for key, part in parts.items()
    }
  else:
    listed = {
      key: contents.Listed(part.files, _numbers(part.classes))
      for key, part in parts.items()
    }
    count = 1 + max(int(part.labels.max()) for part in listed.values())
    names = given or tuple(map(str, range(count)))
    if len(names) < count:
      raise ValueError(
        f"{names_file} names {len(names)} classes, but the labels go up to"
        f" {count - 1}; it needs a line for each."
      )
  return contents.Content(
    listed["train"],
    listed.get("test"),
    names,
    validation=listed.get("validation"),
  )


def base(argument: str, root: str = "") -> pathlib.Path:
  """Returns the folder that the paths in the lists of a set start from.

  Args:
    argument, root: as of `read_set`.
  """
  return pathlib.Path(root or _paths(argument)[1].parent).expanduser()


def check_exist(files: Sequence[pathlib.Path], where: str) -> None:
  """Raises a FileNotFoundError unless all pictures of a list are there.

  It shows the first ten that are missing; if there are more, a file names all.
  """
  missing = [str(file) for file in files if not file.is_file()]
  if not missing:
    return
  raise FileNotFoundError(
    f"{where}: {len(missing):,} of {len(files):,} pictures are missing. Is"
    " data.root the folder that the paths start from? Missing:\n"
    f"{tree.listed(missing, 'missing_images_')}"
  )


def _paths(argument: str) -> tuple[dict[str, pathlib.Path], pathlib.Path]:
  """Returns the list of each part, and where the names of classes may be."""
  first, *more = (pathlib.Path(p).expanduser() for p in argument.split(","))
  if len(more) > 2:
    raise ValueError(
      f"list:{argument} names {1 + len(more)} lists; give the list of the"
      " training pictures and, behind commas, that of the validation pictures,"
      " if there are some, and that of the test pictures."
    )
  if first.is_dir() and not more:
    paths = {"train": first / "train.txt"}
    for name, file in (("validation", "val.txt"), ("test", "test.txt")):
      if (first / file).exists():
        paths[name] = first / file
    return paths, first / "classes.txt"
  keys = ("train", "validation", "test") if len(more) > 1 else ("train", "test")
  return dict(zip(keys, (first, *more))), first.parent / "classes.txt"


def _labeled(path: pathlib.Path, root: str) -> _Lines:
  found = _read(path, root)
  without = [f for f, c in zip(found.files, found.classes) if not c]
  if without:
    raise ValueError(
      f"{path}: {len(without)} pictures have no class number, the first is"
      f" {without[0]}; a line is `path class`, or `path`, a tab and a name"
      " with spaces."
    )
  check_exist(found.files, str(path))
  return found


def _known(
  part: _Lines,
  names: tuple[str, ...],
  given: tuple[str, ...],
  names_file: pathlib.Path,
) -> np.ndarray:
  """Returns the numbers of named classes, int32; an unknown one is an error."""
  number = {name: c for c, name in enumerate(names)}
  unknown = sorted(set(part.classes) - set(names))
  if unknown:
    where = names_file if given else "the list of training pictures"
    raise ValueError(
      f"{part.path}: class {unknown[0]!r} is not in {where}, and neither are"
      f" {len(unknown) - 1} others; correct the name, or add the class."
    )
  return np.array([number[name] for name in part.classes], np.int32)


def _numbers(classes: list[str]) -> np.ndarray:
  most = np.iinfo(np.int32).max
  return np.array([min(int(c), most) if c else -1 for c in classes], np.int32)


def _read(path: str | pathlib.Path, root: str | pathlib.Path) -> _Lines:
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such list file.")
  try:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}: not a text in UTF-8 ({error}).") from None
  folder = pathlib.Path(root).expanduser() if root else path.parent
  files, classes, seen = [], [], {}
  first: dict[bool, int] = {}  # lines of a number and of a name
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    name, label = _parts(line)
    if name in seen:
      raise ValueError(
        f"{path}, line {number}: {name} is in line {seen[name]} already; a"
        " picture may occur once."
      )
    seen[name] = number
    files.append(folder / name)
    classes.append(label)
    if label:
      first.setdefault(label.isdecimal(), number)
  if not files:
    raise ValueError(f"{path}: the list names no picture.")
  if len(first) > 1:
    raise ValueError(
      f"{path}: line {first[True]} has the number of a class and line"
      f" {first[False]} a name; write all of them in one manner."
    )
  return _Lines(path, files, classes)


def _parts(line: str) -> tuple[str, str]:
  """Splits `path class`; a path may have spaces, and may stand alone."""
  name, _, label = (text.strip() for text in line.rpartition("\t"))
  if name:
    return name, "" if _NUMBER.fullmatch(label) else label
  line = line.strip()
  name, _, label = (text.strip() for text in line.rpartition(" "))
  suffix = pathlib.PurePath(name).suffix.lower()
  is_path = pathlib.PurePath(label).suffix.lower() in images.SUFFIXES
  if suffix not in images.SUFFIXES or is_path or _NUMBER.fullmatch(label):
    return line, ""
  return name, label
