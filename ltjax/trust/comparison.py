"""Two runs on the same images: who is right where the other is not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ltjax.data.splits import record
from ltjax.trust import intervals

_COMPARED = 1000  # images whose pixels are looked at


class Known(NamedTuple):
  """What a table of results needs to know of a run.

  Attributes:
    class_names: one name a class.
    groups: class ids of the groups.
    split: the run's split, which has the labeled images of each class.
  """

  class_names: tuple[str, ...]
  groups: dict[str, tuple[int, ...]]
  split: record.Split


class Predictions(NamedTuple):
  """What a run predicts, and what is true.

  Attributes:
    probabilities: `[T, C]`.
    labels: `[T]` integers.
    known: the run's classes and groups.
    images: the images, to tell whether two runs have the same.
  """

  probabilities: np.ndarray
  labels: np.ndarray
  known: Known
  images: Any


def compare(first: Predictions, second: Predictions) -> dict[str, Any]:
  """Compares two runs on the same images.

  Args:
    first, second: of the two.

  Returns:
    JSON values: `both`, `only_first`, `only_second` and `neither`, images by
    who is right; `p_value` of McNemar's exact test; `difference`, of second
    minus first, by metric `[value, low, high]`, see `intervals.of_difference`.

  Raises:
    ValueError: if the classes or the images are not the same.
  """
  if first.known.class_names != second.known.class_names:
    raise ValueError(
      "The runs have other classes, or another order of them; runs can be"
      " compared that know the same."
    )
  if not np.array_equal(first.labels, second.labels) or not _same(
    first.images, second.images
  ):
    raise ValueError(
      "The runs have other images to test on; runs can be compared that were"
      " tested on the same. Name labeled pictures for both by --data."
    )
  a, b = (x.probabilities.argmax(1) for x in (first, second))
  counts = intervals.disagreement(a, b, first.labels)
  difference = intervals.of_difference(
    a,
    b,
    first.labels,
    num_classes=len(first.known.class_names),
    groups=first.known.groups,
  )
  return {
    **counts._asdict(),
    "difference": {name: list(x) for name, x in difference.items()},
  }


def text(row: dict[str, Any], first: str, second: str) -> str:
  """Draws what `compare` found.

  Args:
    row: the comparison.
    first, second: names of the runs.
  """
  lines = [
    f"A: {first}",
    f"B: {second}",
    f"both right {row['both']:,}, only A {row['only_first']:,}, only B"
    f" {row['only_second']:,}, neither {row['neither']:,}",
    f"McNemar's exact test: p = {row['p_value']:.3g}",
    "B minus A, in points, with its 95 % interval:",
  ]
  for name, (value, low, high) in row["difference"].items():
    if value is not None:
      lines.append(
        f"  {name.replace('_', ' '):<18} {100 * value:+6.1f}"
        f"  [{100 * low:+.1f}, {100 * high:+.1f}]"
      )
  return "\n".join(lines)


def _same(first: Any, second: Any) -> bool:
  """Whether images are the same, as far as can be told.

  Runs that see pictures in other sizes have other pixels of them.
  """
  if isinstance(first, list):
    return first == second
  if first.shape != second.shape:
    return len(first) == len(second)
  index = np.arange(min(len(first), _COMPARED))
  index = index * len(first) // max(len(index), 1)
  a, b = (
    x.read(index) if hasattr(x, "read") else np.asarray(x[index])
    for x in (first, second)
  )
  return np.array_equal(a, b)
