"""What a step costs whatever its batch: launches and small kernels.

A step of a batch of B takes about a + b * B seconds. What is left as B goes to
zero, a, is spent on launching kernels and on kernels too small for the card;
beside it stand how many kernels a step has, and how long one takes on average.
Where that is a few microseconds, fewer and larger kernels, or graphs of them,
are what makes it faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import budget as budgets
from benchmarks import measure as measuring
from benchmarks import table

BATCHES = (128, 512, 2048)


def measure(
  *,
  model: str,
  image: int,
  dtype: str,
  steps: int,
  repeats: int = 5,
  batches: Sequence[int] = BATCHES,
  budget: budgets.Budget | None = None,
  say: measuring.Say = lambda line, result: None,
) -> dict[str, Any]:
  """Times an epoch at several batch sizes, on one device.

  Args:
    model: name of the network.
    image: pixels of a side.
    dtype: `float32` or `bfloat16`.
    steps: steps in an epoch, of any size.
    repeats: turns of each.
    batches: the batch sizes, growing.
    budget: when it is over, what was measured is the result.
    say: takes a line, and all that is known, whenever something new is.

  Returns:
    JSON values: the settings; `machine`; `rows`, by batch size, that of
    `measure.measure` with `seconds_per_step` and `seconds_per_kernel`; and with
    two rows or more `fixed`, a, and `per_image`, b, which fit the seconds of a
    step best by their relative errors.

  Raises:
    ValueError: if a setting is out of range.
  """
  result: dict[str, Any] = {
    "model": model,
    "image": image,
    "dtype": dtype,
    "steps": steps,
    "repeats": repeats,
    "rows": {},
  }
  for batch in batches:
    found = measuring.measure(
      model=model,
      image=image,
      dtype=dtype,
      steps=steps,
      repeats=repeats,
      batch_size=batch,
      devices=1,
      only=("epoch",),
      budget=budget,
    )
    result["machine"] = found["machine"]
    if "epoch" not in found["loops"]:
      result["stopped"] = found["stopped"]
      break
    row = found["loops"]["epoch"]
    row["seconds_per_step"] = batch / row["images_per_second"]["median"]
    row["seconds_per_kernel"] = (
      row["seconds_per_step"] / row["made_of"]["kernels"]
    )
    result["rows"][str(batch)] = row
    if len(result["rows"]) > 1:
      result["fixed"], result["per_image"] = fit(result["rows"])
    say(f"batch {batch}: {1000 * row['seconds_per_step']:.2f} ms", result)
  return result


def fit(rows: Mapping[str, Any]) -> tuple[float, float]:
  """Returns a and b of `seconds_per_step = a + b * batch`.

  Args:
    rows: of `measure`, at least two.
  """
  batches = np.array([float(batch) for batch in rows])
  seconds = np.array([row["seconds_per_step"] for row in rows.values()])
  per_image, fixed = np.polyfit(batches, seconds, 1, w=1 / seconds)
  return float(fixed), float(per_image)


def text(result: Mapping[str, Any]) -> str:
  """Draws what `measure` found.

  Args:
    result: of `measure`.
  """
  rows = [
    [
      batch,
      f"{row['images_per_second']['median']:,.1f}",
      f"{1000 * row['seconds_per_step']:,.3f}",
      f"{row['made_of']['kernels']:g}",
      f"{1e6 * row['seconds_per_kernel']:,.1f}",
      f"{100 * row['mfu']:.1f}%" if "mfu" in row else "",
      f"{100 * row['mfu_of_card']:.1f}%" if "mfu_of_card" in row else "",
    ]
    for batch, row in result["rows"].items()
  ]
  lines = [
    f"{result['model']}, {result['dtype']}, on {result['machine']['device']}"
    f" (load {result['machine']['load']}); medians of {result['repeats']} turns"
    f" of {result['steps']} steps.",
    *table.grid(
      (
        *("batch", "images/s", "ms a step", "kernels", "us a kernel"),
        *("MFU", "of the card"),
      ),
      rows,
    ),
  ]
  if "fixed" in result:
    least = next(iter(result["rows"].values()))["seconds_per_step"]
    lines.append(
      f"A step takes {1000 * result['fixed']:.3f} ms and"
      f" {1e6 * result['per_image']:.3f} us an image: whatever the batch,"
      f" {100 * result['fixed'] / least:.0f}% of the smallest."
    )
  if result["rows"]:
    made = next(iter(result["rows"].values()))["made_of"]
    lines.append(f"A step: {table.of_program(made)}.")
  if "stopped" in result:
    lines.append(f"Not all was measured: {result['stopped']}.")
  return "\n".join(lines)
