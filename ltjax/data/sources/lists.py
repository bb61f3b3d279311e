"""List files: which pictures make a set, a line each.

    train/n01440764/n01440764_10026.JPEG 0
    train/n01440764/n01440764_10027.JPEG 0

A line is a path and a class number, which a list of unlabeled pictures may
lack. ImageNet-LT, ImageNet-SSLT and Places-LT are published in this form.

    list:FOLDER               FOLDER/train.txt, test.txt (optional) and
                              classes.txt (optional, a class name a line)
    list:TRAIN.txt,TEST.txt   the lists by their own names
    list:TRAIN.txt            without test pictures: a part is held out
"""

from __future__ import annotations

from collections.abc import Sequence
import os
import pathlib
import tempfile

import numpy as np

from ltjax.data.files import images
from ltjax.data.sources import arrays, contents

_SHOWN = 10


def read(
  path: str | pathlib.Path, root: str | pathlib.Path = ""
) -> contents.Listed:
  """Reads a list file; that its pictures exist is for `check_exist` to tell.

  Args:
    path: the list; empty lines are passed over.
    root: the folder that its paths start from; the list's own if empty.

  Raises:
    FileNotFoundError: if there is no such list.
    ValueError: if it is empty or no text, or a picture occurs twice in it.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such list file.")
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}: not a text in UTF-8 ({error}).") from None
  base = pathlib.Path(root).expanduser() if root else path.parent
  files, labels, seen = [], [], {}
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    name, label = _parts(line.strip())
    if name in seen:
      raise ValueError(
        f"{path}, line {number}: {name} is in line {seen[name]} already; a"
        " picture may occur once."
      )
    seen[name] = number
    files.append(base / name)
    labels.append(label)
  if not files:
    raise ValueError(f"{path}: the list names no picture.")
  return contents.Listed(files, np.asarray(labels, np.int32))


def read_set(argument: str, root: str = "") -> contents.Found:
  """Reads the lists of a labeled set; its pictures stay unread.

  The names of classes are those of classes.txt, otherwise the numbers.
  `argument` is what follows `list:` in the name of a source; `root` is as of
  `read`. Raises as `read`, and a ValueError if a picture has no label, or there
  are more classes than names.
  """
  first, *more = (pathlib.Path(p).expanduser() for p in argument.split(","))
  if len(more) > 1:
    raise ValueError(
      f"list:{argument} names {1 + len(more)} lists; give the list of the"
      " training pictures and, behind a comma, that of the test pictures."
    )
  names_file = first.parent / "classes.txt"
  if first.is_dir() and not more:
    names_file = first / "classes.txt"
    if (first / "test.txt").exists():
      more = [first / "test.txt"]
    first = first / "train.txt"
  train = _labeled(first, root)
  test = _labeled(more[0], root) if more else None
  count = 1 + max(int(part.labels.max()) for part in (train, test) if part)
  names = tuple(map(str, range(count)))
  if names_file.is_file():
    text = names_file.read_text(encoding="utf-8")
    names = arrays.class_names(text.splitlines(), str(names_file))
    if len(names) < count:
      raise ValueError(
        f"{names_file} names {len(names)} classes, but the labels go up to"
        f" {count - 1}; it needs a line for each."
      )
  return contents.Content(train, test, names)


def check_exist(files: Sequence[pathlib.Path], where: str) -> None:
  """Raises a FileNotFoundError unless all pictures of a list are there.

  It shows the first ten that are missing; if there are more, a file names all.
  """
  missing = [str(file) for file in files if not file.is_file()]
  if not missing:
    return
  shown = "\n".join(f"  {name}" for name in missing[:_SHOWN])
  rest = ""
  if len(missing) > _SHOWN:
    handle, path = tempfile.mkstemp(prefix="missing_images_", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as out:
      out.write("\n".join(missing) + "\n")
    rest = f"\n  and {len(missing) - _SHOWN:,} more; {path} names all of them."
  raise FileNotFoundError(
    f"{where}: {len(missing):,} of {len(files):,} pictures are missing. Is"
    " data.root the folder that the paths start from? Missing:\n"
    f"{shown}{rest}"
  )


def _labeled(path: pathlib.Path, root: str) -> contents.Listed:
  found = read(path, root)
  without = np.flatnonzero(found.labels < 0)
  if len(without):
    raise ValueError(
      f"{path}: {len(without)} pictures have no class number, the first is"
      f" {found.files[without[0]]}; a line is `path number`."
    )
  check_exist(found.files, str(path))
  return found


def _parts(line: str) -> tuple[str, int]:
  """Splits `path label`; a path may have spaces, and may stand alone."""
  name, _, last = line.replace("\t", " ").rpartition(" ")
  suffix = pathlib.PurePath(name).suffix.lower()
  if suffix in images.SUFFIXES and last.isdecimal():
    return name.strip(), min(int(last), np.iinfo(np.int32).max)
  return line, -1
