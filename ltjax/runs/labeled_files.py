"""Labeled pictures that are not a run's own, to test it on.

    folder:PATH   class sub-folders of pictures
    csv:FILE      a table of pictures and classes

Of a set with a part for testing that part is used, of another all pictures with
a class. Classes are matched by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltjax.data.parts import contents
from ltjax.data.sources import folders, tables

_SHOWN = 5


class Labeled(NamedTuple):
  """Pictures yet to be read, and labels, int64 `[T]`, in a run's numbers."""

  files: list
  labels: np.ndarray


def find(source: str, classes: Sequence[str]) -> Labeled:
  """Returns labeled pictures of the classes of a run.

  Args:
    source: `folder:PATH` or `csv:FILE`.
    classes: a name a class of the run; the pictures may be of some of them.

  Raises:
    FileNotFoundError: if a file or a folder is missing.
    ValueError: if the source is another, cannot be read, or has a class that
      the run does not know.
  """
  kind, _, path = source.partition(":")
  if kind not in ("folder", "csv") or not path:
    raise ValueError(
      f"--data is {source!r}; it must be folder:PATH or csv:FILE."
    )
  found: contents.Found
  if kind == "folder":
    found = folders.find_classes(path)
  else:
    found = tables.read_set(path)
  listed = found.test or found.train
  number = {name: c for c, name in enumerate(classes)}
  present = [found.names[c] for c in np.unique(listed.labels)]
  unknown = [name for name in present if name not in number]
  if unknown:
    raise ValueError(
      f"{source}: the run does not know the classes {_some(unknown)}; it has"
      f" {_some(classes)}. Rename them, or leave them out."
    )
  labels = [number.get(found.names[c], -1) for c in listed.labels]
  return Labeled(list(listed.files), np.asarray(labels, np.int64))


def _some(names: Sequence[str]) -> str:
  shown = ", ".join(map(repr, names[:_SHOWN]))
  more = len(names) - _SHOWN
  return f"{shown} and {more:,} more" if more > 0 else shown
