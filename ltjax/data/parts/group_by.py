"""Which images belong together: `data.group_by` and arrays of groups.

A group is a patient, a lesion, an animal's track, a video. Its images are on
one side of every split into training, validation and test, see
`ltjax.data.parts.grouped`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import pathlib
import re
from typing import Any

import numpy as np

_SHOWN = 5
_WAY_OUT = "or do without groups (an empty data.group_by)"


def by_path(
  found: Any, pattern: str, base: str | pathlib.Path, where: str
) -> Any:
  """Adds groups that a pattern finds in the paths of a set.

  Args:
    found: the set, a `contents.Found`; its pictures are files.
    pattern: a regular expression with one group in brackets, `patient_(\\d+)`.
    base: the folder of the set: of a path below it the rest is searched.
    where: what to call the set in messages.

  Raises:
    ValueError: if the pattern is none, has not one group, or does not match a
      picture; or as `number`.
  """
  compiled = _compiled(pattern)
  base = pathlib.Path(base).expanduser()

  def keys(files: Sequence[pathlib.Path]) -> list[str]:
    names = [
      (f.relative_to(base) if f.is_relative_to(base) else f).as_posix()
      for f in files
    ]
    matches = [compiled.search(name) for name in names]
    without = [
      n for n, match in zip(names, matches) if not (match and match[1])
    ]
    if without:
      raise ValueError(
        f"{where}: data.group_by is '{pattern}', which does not match"
        f" {len(without):,} of {len(names):,} pictures: {_some(without)}. Widen"
        f" it, {_WAY_OUT}."
      )
    return [match[1] for match in matches if match]

  parts = {"test": found.test, "validation": found.validation}
  return add(
    found,
    keys(found.train.files),
    {name: keys(part.files) for name, part in parts.items() if part},
    unlabeled=keys(found.unlabeled) if found.unlabeled else None,
    how=f"the pattern '{pattern}'",
    where=where,
  )


def add(
  found: Any,
  train: Sequence,
  others: dict[str, Sequence],
  *,
  unlabeled: Sequence | None = None,
  how: str,
  where: str,
) -> Any:
  """Adds groups to a set, and tells of them.

  Args:
    found: the set, a `contents.Content`.
    train: the group of each image of `train`, texts or numbers.
    others: that of each image of the `test` and the `validation` part.
    unlabeled: that of each unlabeled file; "" for none. None if not known.
      Files of groups of other parts are left out, which is told.
    how: where groups come from, for messages.
    where: what to call the set in messages.

  Raises:
    ValueError: if each image is a group of its own, or all are one group, or
      parts share groups.
  """
  names = list(dict.fromkeys(train))
  if len(names) in (1, len(train)) and len(train) > 1:
    kind = "each a group of its own" if len(names) > 1 else "all of one group"
    raise ValueError(
      f"{where}: by {how} the {len(train):,} training pictures are {kind}, such"
      f" as {_some(names)}; that keeps nothing together. Name what several"
      f" pictures have in common, {_WAY_OUT}."
    )
  parts = {"training": train, **others}
  for first, second in (
    ("training", "test"),
    ("training", "validation"),
    ("validation", "test"),
  ):
    if first in parts and second in parts:
      _check_apart(parts[first], parts[second], first, second, how, where)
  number = {name: i for i, name in enumerate(names)}
  sizes = Counter(train)
  largest = max(names, key=lambda name: sizes[name])
  told = (
    f"groups       {len(names):,} in training, by {how}; the largest,"
    f" {largest}, has {sizes[largest]:,} images"
  )
  for name, part in others.items():
    told += f"; {len(set(part)):,} in {name}"
  files, numbers = found.unlabeled, None
  if unlabeled is not None:
    held = {name for part in others.values() for name in part}
    kept = [i for i, name in enumerate(unlabeled) if name not in held]
    if len(kept) < len(unlabeled):
      told += f"; {left_out(len(unlabeled) - len(kept))}"
    files = [found.unlabeled[i] for i in kept] or None
    for i in kept:
      if unlabeled[i] != "":
        number.setdefault(unlabeled[i], len(number))
    of_each = [number.get(unlabeled[i], -1) for i in kept]
    numbers = np.array(of_each, np.int32) if kept else None
  return found._replace(
    unlabeled=files,
    groups=np.array([number[name] for name in train], np.int32),
    unlabeled_groups=numbers,
    understood="\n".join(filter(None, (found.understood, told))),
  )


def check_array(groups: np.ndarray, num_images: int, where: str) -> None:
  """Raises a ValueError unless groups are integers or texts, one an image.

  Args:
    groups: what was given.
    num_images: N.
    where: what to call them in messages.
  """
  texts = groups.dtype.kind == "O" and all(
    isinstance(name, str) for name in groups.ravel().tolist()
  )
  if groups.shape != (num_images,) or not (groups.dtype.kind in "iuU" or texts):
    raise ValueError(
      f"{where}: they are {groups.dtype} of shape {groups.shape}; give integers"
      f" or texts, one for each of the {num_images} images."
    )


def left_out(count: int) -> str:
  """Returns how to tell of unlabeled images that may not be trained on."""
  return f"{count:,} unlabeled images of groups held out are left out"


def _check_apart(
  first: Sequence,
  second: Sequence,
  first_name: str,
  second_name: str,
  how: str,
  where: str,
) -> None:
  """Raises a ValueError if two parts share groups."""
  known = set(first)
  shared = [name for name in second if name in known]
  if shared:
    raise ValueError(
      f"{where}: {100 * len(shared) / len(second):.1f} % of the {second_name}"
      f" pictures' groups are in {first_name} ({len(shared):,} of"
      f" {len(second):,} pictures, by {how}), such as"
      f" {_some(list(dict.fromkeys(shared)))}. Move all pictures of a group to"
      f" one part, leave the {second_name} part out to have it drawn by groups,"
      f" {_WAY_OUT}."
    )


def _compiled(pattern: str) -> re.Pattern[str]:
  try:
    compiled = re.compile(pattern)
  except re.error as error:
    raise ValueError(
      f"data.group_by is '{pattern}', which is no regular expression: {error}."
    ) from None
  if compiled.groups != 1:
    raise ValueError(
      f"data.group_by is '{pattern}', a pattern with {compiled.groups} groups"
      r" in brackets; it needs one around what names the group, as"
      r" 'patient_(\d+)'. (A column's name goes with csv: alone.)"
    )
  return compiled


def _some(names: Sequence) -> str:
  rest = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
  return ", ".join(map(str, names[:_SHOWN])) + rest
