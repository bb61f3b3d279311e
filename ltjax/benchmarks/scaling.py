"""Does cost grow as it should? With images, classes, prototypes, devices.

An epoch is linear in its images, whatever else grows. So what is measured is the
rest: drawing the order of an epoch, splits, pseudo labels, the memory of
predictions (a step reads and writes as many rows, however many there are), losses
over classes and prototypes, and an epoch on several devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ltjax.benchmarks import (
  growing_losses,
  growing_sets,
  growth,
  machine,
  table,
)

CASES: Mapping[str, Callable[[int], Iterator[growth.Case]]] = {
  "streams": growing_sets.streams,
  "bookkeeping": growing_sets.bookkeeping,
  "images": growing_sets.images,
  "classes": growing_losses.classes,
  "prototypes": growing_losses.prototypes,
  "devices": growing_sets.devices,
}
LARGEST = 100_000  # At least: an exponent needs sizes that differ.


def measure(
  *,
  only: Sequence[str] = tuple(CASES),
  largest: int = 10**7,
  repeats: int = 5,
) -> dict[str, Any]:
  """Times the cases.

  Args:
    only: which of `CASES`.
    largest: at which size to end.
    repeats: runs at each size, of which the fastest counts.

  Returns:
    JSON values: `machine`, and `rows`, for each case as `growth.measure`.

  Raises:
    ValueError: if a name is unknown or a number out of range.
  """
  unknown = [name for name in only if name not in CASES]
  if unknown:
    raise ValueError(
      f"--only is {','.join(only)!r}; choose from {', '.join(CASES)}."
    )
  if largest < LARGEST:
    raise ValueError(f"--largest is {largest}; it must be {LARGEST} or more.")
  if repeats < 1:
    raise ValueError(f"--repeats is {repeats}; it must be 1 or more.")
  rows = [
    growth.measure(case, repeats=repeats)
    for name in only
    for case in CASES[name](largest)
  ]
  return {"machine": machine.describe(), "rows": rows}


def text(result: Mapping[str, Any]) -> str:
  """Draws what `measure` found.

  Args:
    result: of `measure`.
  """
  lines = []
  for row in result["rows"]:
    lines.append(
      [
        row["name"],
        f"{row['sizes'][0]:,} to {row['sizes'][-1]:,} {row['variable']}",
        " ".join(f"{1000 * s:,.3g}" for s in row["seconds"]),
        f"{row['exponent']:.2f}",
        f"{row['limit']:.0f}",
        f"{row['memory_bytes'][-1] / 2**20:,.1f}",
        f"{row['memory_exponent']:.2f}",
        "" if row["as_it_should"] else "grows too fast",
      ]
    )
  header = ("", "from", "ms", "exponent", "limit", "MiB", "exponent", "")
  return "\n".join(line.rstrip() for line in table.grid(header, lines))
