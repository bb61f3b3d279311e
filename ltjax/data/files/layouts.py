"""How folders of pictures are laid out: parts, classes, and what is neither.

    PATH/CLASS/*.jpg            one set, to be split
    PATH/train/CLASS/*.jpg      parts: train, and test, val, unlabeled beside it

Parts may be spelled otherwise (`training`, `valid`, `validation`, `dev`,
`testing`, `unlabelled`, `Test_images` ...), and all may lie in one folder in
PATH. With `val` and no `test`, `val` is what is tested on, as is usual for
ImageNet. A layout that could mean two things is a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import pathlib
import re
from typing import NamedTuple, NoReturn
import unicodedata

import numpy as np

from ltjax.data.files import images, tree

_PARTS = {
  "train": "train|training",
  "val": "val|valid|validation|dev",
  "test": "test|testing",
  "unlabeled": "un-?labell?ed",
}
_LABELED = ("train", "val", "test")
_AFTER = (
  r"([ _-]?(set|data|split|part|images?|imgs?|pictures?|photos?|20\d\d))?"
)
_SHOWN = 5
_LISTED = (
  "Whoever has the classes in a list or a table names that instead (list:PATH)"
)


class Listed(NamedTuple):
  """Files of pictures, and their labels, int32 `[N]`."""

  files: list[pathlib.Path]
  labels: np.ndarray


class Layout(NamedTuple):
  """What a folder is understood to be.

  Attributes:
    names: a name a class.
    train: the pictures to train on.
    test: those to test on; None where a share of `train` has to be held out.
    validation: those to choose by, if there are some.
    unlabeled: pictures without a class, if there are some and they are wanted.
    understood: a line for each part, notes, and what is passed over.
  """

  names: tuple[str, ...]
  train: Listed
  test: Listed | None = None
  validation: Listed | None = None
  unlabeled: list[pathlib.Path] | None = None
  understood: str = ""


def understand(path: str | pathlib.Path, *, unlabeled: bool = True) -> Layout:
  """Finds the parts and classes of a folder with one walk; opens no picture.

  Args:
    path: The folder.
    unlabeled: Whether pictures without label are wanted; otherwise they are
      told and left out.

  Raises:
    FileNotFoundError: No such folder.
    OSError: A folder that cannot be listed.
    ValueError: No classes or pictures, a class of another part that is not
      among those for training, or a layout that could mean two things.
  """
  top, passed = tree.walk(path)
  try:
    return _understand(top, passed, unlabeled)
  except ValueError as error:
    unread = "".join(f"\n  {line}" for line in passed.unread(top.path))
    raise ValueError(f"{error}{unread}") from None


def _understand(
  top: tree.Folder, passed: tree.Passed, unlabeled: bool
) -> Layout:
  """As `understand`, of a folder that was walked over."""
  root = _inside(top)
  inside = "" if root is top else f" (in {root.path.relative_to(top.path)})"
  roles = {folder.name: _role(folder.name) for folder in root.folders}
  is_class = _is_class(root, roles)
  if is_class:
    roles = dict.fromkeys(roles)
  parts: dict[str, tree.Folder] = {}
  for folder in root.folders:
    role = roles[folder.name]
    if role and role in parts:
      _refuse(
        root,
        f"{parts[role].name} and {folder.name} both read as the part {role}",
        "rename or remove one of them",
      )
    if role:
      parts[role] = folder
  parts = {role: parts[role] for role in _PARTS if role in parts}
  rest = [folder for folder in root.folders if not roles[folder.name]]
  where = f"{top.path}{inside}"
  if parts.keys() & set(_LABELED):
    names = ", ".join(folder.name for folder in parts.values())
    title = f"{where}: the parts {names}, with a folder for each class"
    told, found = _of_parts(root, parts, rest, passed)
  else:
    told, found = _of_classes(root, rest)
    title = f"{where}: {len(found.names)} classes, a folder each"
  if is_class:
    told.append("  note: the folder train is taken for a class, not for a part")
  told += _loose(root)
  if "unlabeled" in parts:
    folder = parts["unlabeled"]
    if not folder.count:
      _refuse(root, f"{folder.name}/ has no pictures", "fill it or remove it")
    told.append(
      f"  {folder.name}: {tree.counted(folder.count)} without a class"
    )
    if unlabeled:
      found = found._replace(unlabeled=folder.all())
    else:
      told[-1] += ", not used: --config.data.unlabeled.source=found"
  lines = [title, *told, *passed.lines(top.path)]
  return found._replace(understood="\n".join(lines))


def _inside(top: tree.Folder) -> tree.Folder:
  """Returns the folder that has the parts, or the classes, of a set."""
  here = top
  while len(here.holding) == 1 and not here.pictures:
    (below,) = here.holding
    if any(map(_role, (folder.name for folder in here.folders))):
      break
    has_parts = any(_role(f.name) in _LABELED for f in below.folders)
    alone = len(here.folders) == 1 and not below.pictures
    if not has_parts and not (alone and below.holding):
      break
    here = below
  return here if here.holding and _is_set(here) else top


def _is_set(folder: tree.Folder) -> bool:
  return len(folder.holding) > 1 or any(_role(f.name) for f in folder.folders)


def _is_class(root: tree.Folder, roles: dict[str, str | None]) -> bool:
  """Whether the one folder that reads as a part is a class, as of vehicles."""
  parts = [f for f in root.holding if roles[f.name]]
  return (
    len(parts) == 1
    and roles[parts[0].name] == "train"
    and not parts[0].holding
    and bool([f for f in root.holding if not roles[f.name]])
    and not [f for f in root.folders if roles[f.name] and f not in parts]
  )


def _of_classes(
  root: tree.Folder, folders: Sequence[tree.Folder]
) -> tuple[list[str], Layout]:
  """Understands class folders without parts."""
  if not folders:
    loose = root.pictures
    raise ValueError(
      f"{root.path}: no class sub-folders. Expected {root.path}/CLASS/*.jpg."
      + (
        f" {tree.counted(len(loose))} lie directly in it. {_LISTED}."
        * bool(loose)
      )
    )
  ends = {_role(re.split("[ _-]", folder.name)[-1]) for folder in folders}
  if "train" in ends and ends & {"val", "test"}:
    _refuse(
      root,
      f"the folders {_some([f.name for f in folders])} may be parts or classes",
      "call parts train, val and test; rename or move what is neither",
    )
  names, train = _labeled(root, root, folders)
  told = [
    f"  {tree.counted(len(train.files))}; a share of each class is held out to"
    " test on (data.test_fraction)"
  ]
  return told + _notes(folders), Layout(names, train)


def _of_parts(
  root: tree.Folder,
  parts: dict[str, tree.Folder],
  rest: Sequence[tree.Folder],
  passed: tree.Passed,
) -> tuple[list[str], Layout]:
  """Understands the parts of a set that is split already."""
  names = ", ".join(folder.name for folder in parts.values())
  beside = [folder.name for folder in rest if folder.count]
  if beside:
    _refuse(
      root,
      f"folders that read as parts ({names}) lie beside others with pictures"
      f" ({_some(beside)})",
      "move the class folders into the parts, or rename what is a class and not"
      " a part",
    )
  if "train" not in parts:
    _refuse(
      root,
      f"the parts {names} have no train beside them",
      f"expected {root.path}/train/CLASS/*.jpg",
    )
  for folder in rest:
    passed.add("folder without pictures", folder.path)
  classes, train = _labeled(root, parts["train"], parts["train"].folders)
  told = [_line(parts["train"], train, classes)]
  told += _notes(parts["train"].folders) + _loose(parts["train"])
  others = {
    role: _other(root, parts, role, classes, passed)
    for role in ("val", "test")
    if role in parts
  }
  tested = "test" if "test" in others else "val"
  for role, part in others.items():
    told.append(_line(parts[role], part, classes))
    if role == tested == "val":
      told[-1] += ", to test on, as there is no test folder"
    told += _loose(parts[role])
  if tested not in others:
    told.append(
      "  no test folder: a share of each class is held out to test on"
      " (data.test_fraction)"
    )
    return told, Layout(classes, train)
  counts = np.bincount(others[tested].labels, minlength=len(classes))
  if 0 in counts:
    lacking = [classes[c] for c in np.flatnonzero(counts == 0)]
    told.append(f"  no test pictures of {_some(lacking)}")
  validation = others.get("val") if tested == "test" else None
  return told, Layout(classes, train, others[tested], validation)


def _labeled(
  root: tree.Folder, part: tree.Folder, folders: Sequence[tree.Folder]
) -> tuple[tuple[str, ...], Listed]:
  """Returns the classes and pictures of the folders to train on."""
  number = tree.counted(len(part.pictures))
  if not folders:
    _refuse(
      root,
      f"{part.name}/ has {number} and no class folders",
      f"expected {part.path}/CLASS/*.jpg. {_LISTED}",
    )
  if not any(folder.count for folder in folders):
    raise ValueError(
      f"{part.path}: no pictures in {len(folders)} class folders. Suffixes that"
      f" count: {', '.join(sorted(images.readable()))}."
    )
  empty = [folder.name for folder in folders if not folder.count]
  if empty:
    _refuse(
      root,
      f"{len(empty)} of {len(folders)} class folders of {part.path} have no"
      f" pictures that can be read: {_some(empty)}",
      "fill or remove them, and whatever is no class",
    )
  names = tuple(folder.name for folder in folders)
  composed = [unicodedata.normalize("NFC", name) for name in names]
  twice = [name for name in composed if composed.count(name) > 1]
  if twice:
    _refuse(
      root,
      f"two class folders of {part.path} look the same, {twice[0]!r}: their"
      " accents are written in two ways (Unicode NFC and NFD)",
      "join them",
    )
  for folder in folders:
    below = {_role(inside.name) for inside in folder.holding}
    if "train" in below and below & {"val", "test"}:
      _refuse(
        root,
        f"the class folder {folder.name} holds parts"
        f" ({_some([inside.name for inside in folder.holding])})",
        f"parts come first: {root.path}/train/{folder.name}/*.jpg",
      )
  return names, _listed(enumerate(folders))


def _other(
  root: tree.Folder,
  parts: dict[str, tree.Folder],
  role: str,
  classes: Sequence[str],
  passed: tree.Passed,
) -> Listed:
  """Returns the pictures of `val` or `test`, of classes to train on."""
  part = parts[role]
  if not part.holding:
    _refuse(
      root,
      f"{part.name}/ has no pictures in class folders, and"
      f" {len(part.pictures)} directly in it",
      f"expected {part.path}/CLASS/*.jpg; rename a folder of pictures without"
      " classes to unlabeled, and move others elsewhere",
    )
  known = {name: c for c, name in enumerate(classes)}
  alike = {_folded(name): name for name in classes}
  for folder in part.folders:
    if folder.name in known:
      continue
    if not folder.count:
      passed.add("folder without pictures", folder.path)
      continue
    near = alike.get(_folded(folder.name))
    raise ValueError(
      f"{folder.path}: this class has no folder in {parts['train'].path}."
      + (
        f" {near!r} there differs by case, or by how its accents are written:"
        " give both one name."
        if near
        else " Add it there, or remove it here."
      )
    )
  return _listed((known[f.name], f) for f in part.holding)


def _listed(folders: Iterable[tuple[int, tree.Folder]]) -> Listed:
  """Returns the files of class folders, and their labels."""
  files, labels = [], []
  for label, folder in folders:
    inside = folder.all()
    files += inside
    labels += [label] * len(inside)
  return Listed(files, np.asarray(labels, np.int32))


def _role(name: str) -> str | None:
  """Returns the part that a folder's name reads as, if any."""
  for role, words in _PARTS.items():
    if re.fullmatch(f"({words}){_AFTER}", name.casefold()):
      return role
  return None


def _folded(name: str) -> str:
  return unicodedata.normalize("NFC", name).casefold()


def _notes(folders: Sequence[tree.Folder]) -> list[str]:
  """Tells of class folders with pictures in sub-folders."""
  deep = [folder for folder in folders if folder.holding]
  if not deep:
    return []
  name, below = deep[0].name, deep[0].holding[0].name
  return [
    f"  note: sub-folders of class folders ({len(deep)} of {len(folders)} have"
    f" some) are no classes of their own: all of {name}/{below} is {name}"
  ]


def _loose(part: tree.Folder) -> list[str]:
  """Tells of pictures beside the class folders of a part."""
  if not part.pictures:
    return []
  return [
    f"  passed over: {tree.counted(len(part.pictures))} in no class folder,"
    f" such as {part.name}/{part.pictures[0].name}"
  ]


def _line(part: tree.Folder, listed: Listed, classes: Sequence[str]) -> str:
  there = len(np.unique(listed.labels))
  of = f"{there}" if there == len(classes) else f"{there} of {len(classes)}"
  return f"  {part.name}: {tree.counted(len(listed.files))} of {of} classes"


def _some(names: Sequence[str]) -> str:
  more = len(names) - _SHOWN
  return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _refuse(root: tree.Folder, found: str, way_out: str) -> NoReturn:
  raise ValueError(f"{root.path}: {found}; {way_out}.")
