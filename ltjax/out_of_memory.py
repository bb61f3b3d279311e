"""A program that does not fit: refused, with the batch size that would fit."""

from __future__ import annotations

import numpy as np

from ltjax import memory


class OutOfMemoryError(ValueError):
  """A program does not fit on the device; the message says what would."""


def check(
  estimate: memory.Estimate, batch: memory.Batch, most: int | None
) -> None:
  """Raises OutOfMemoryError if a program does not fit on its device.

  Args:
    estimate: what it needs.
    batch: how to ask for less.
    most: what the device has; None if unknown.
  """
  fits = estimate.temporaries is not None
  if fits and (most is None or estimate.peak <= most):
    return
  raise OutOfMemoryError(message(estimate, batch, most))


def largest(
  estimate: memory.Estimate, batch: memory.Batch, most: int | None
) -> tuple[int, bool]:
  """Returns the largest batch size that fits, by a straight line and a check.

  Args:
    estimate: at `batch.size`.
    batch: how to lower the program at another size.
    most: bytes of the device; None if unknown.

  Returns:
    The size, 0 if none fits, and whether the program was compiled at it.
  """
  step = batch.multiple
  known = estimate.temporaries
  below = _rounded(batch.size // 2, step)
  if most is None:  # It ran out although it should not have.
    return below, False
  room = most - estimate.resting
  if room <= 0 or below < step:
    return 0, False
  if batch.lower is None:
    size = below if known is None else batch.size * room // max(known, 1)
    return _rounded(min(size, batch.size - 1), step), False
  size, points = below, [(batch.size, known)]
  for _ in range(4):
    needed = memory.temporaries(batch.lower(size), to_run=False)
    if needed is not None and needed <= room and len(points) > 1:
      return size, True
    points.append((size, needed))
    (big, more), (small, less) = points[0], points[-1]
    if more is None or less is None:
      guess = size // 2
    else:
      slope = max(more - less, 1) / (big - small)
      # A hair below the line: what is cut for the hardware makes steps.
      guess = int(0.98 * (small + (room - less) / slope))
      fits = needed is not None and needed <= room
      guess = max(guess, size) if fits else min(guess, size - step)
    size = _rounded(min(guess, batch.size - 1), step)
    if size < step:
      return 0, False
  return size, False


def _rounded(size: int, step: int) -> int:
  """Returns a size below: a multiple of `step`, and of 8 where it is large."""
  if size >= 8 * step:
    step *= 8 // np.gcd(8, step)
  return size // step * step


def message(
  estimate: memory.Estimate, batch: memory.Batch, most: int | None
) -> str:
  """Returns what does not fit, why, and what would.

  Args:
    estimate: what the program needs.
    batch: how to ask for less.
    most: what the device has; None if it has not what it said.
  """
  parts = [
    f"{memory.text(estimate.data)} of data",
    f"{memory.text(estimate.state)} of state",
  ]
  if estimate.held:
    parts.append(f"{memory.text(estimate.held)} held for other stages")
  if estimate.temporaries is not None:
    parts.append(f"{memory.text(estimate.temporaries)} of temporaries")
  needs = f"It needs about {memory.text(estimate.peak)} ({', '.join(parts)})"
  if estimate.temporaries is None:
    needs = f"XLA cannot place its temporaries beside {', '.join(parts)}"
  there = (
    "which the device did not have"
    if most is None
    else (f"and the device has {memory.text(most)}")
  )
  size, compiled = largest(estimate, batch, most)
  way = (
    f"--config.{batch.field}={size} {'fits' if compiled else 'should fit'}"
    f" (it is {batch.size} now)"
  )
  if size == 0:
    way = (
      f"No --config.{batch.field} fits (it is {batch.size} now): the images can"
      " stay on the host, --config.data.storage=host"
    )
  return (
    f"{batch.what} does not fit on the device. {needs}, {there}. {way}. Less is"
    " also needed with --config.model.dtype=bfloat16, and on each of more"
    " devices. If the device has more than it tells, say how much:"
    " --config.run.memory_limit_gib. What is saved stays; other settings need"
    " another --workdir."
  )
