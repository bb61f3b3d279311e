"""A guard before a program: does it fit on the device, and if not, what would?

The guard compiles the program for its first call, which the call then uses, so
that nothing is compiled twice; it compares what XLA needs with what the device
has; and where XLA runs out of memory all the same, it says so in the same words.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.devices import memory
from ltjax.training import prefetch


class Guard:
  """A jitted function that says what it needs before it runs the first time.

  Args:
    call: of `jax.jit`; what it compiles is compiled once, for this and for use.
    batch: how its batch is called; `lower` is set here.
    states: so many of its first arguments are state, the others are data.
    index: the number of the argument that holds the batch's index
      `[..., size]`.
    mesh: the devices.
    limit_gib: see `memory.limit`.
    results: bytes kept of earlier calls while it runs.
    at_other_sizes: whether the function takes batches of other sizes.
  """

  def __init__(
    self,
    call: Callable[..., Any],
    batch: memory.Batch,
    *,
    states: int,
    index: int,
    mesh: jax.sharding.Mesh,
    limit_gib: float = 0.0,
    results: int = 0,
    at_other_sizes: bool = True,
  ):
    self._call, self._batch, self._results = call, batch, results
    self._states, self._index = states, index
    self._limit_gib, self._flexible = limit_gib, at_other_sizes
    here = jax.process_index()
    self._device = next(d for d in mesh.devices.flat if d.process_index == here)
    self._checked = False

  def __call__(self, *args: Any, **options: Any) -> Any:
    """Calls the function.

    Args:
      *args: its arguments.
      **options: its static arguments.

    Raises:
      OutOfMemoryError: if it does not fit, before it runs or when it does.
    """
    try:
      if not self._checked and not _traced(args):
        self.compile(*args, **options)
      return self._call(*args, **options)
    except jax.errors.JaxRuntimeError as error:
      if not memory.exhausted(error):
        raise
      # The device held less than it said: no size is known to fit.
      estimate, batch = self._estimate(args, options)
      raise OutOfMemoryError(message(estimate, batch, None)) from error

  def compile(self, *args: Any, **options: Any) -> None:
    """Compiles the function for a call, which then compiles nothing.

    Args:
      *args: its arguments, or their shapes with their shardings.
      **options: its static arguments.

    Raises:
      OutOfMemoryError: if it does not fit.
      JaxRuntimeError: if XLA cannot compile it.
    """
    estimate, batch = self._estimate(args, options)
    most = memory.limit(self._device, self._limit_gib)
    check(estimate, batch, most)
    self._checked = True

  def program(self, *args: Any, **options: Any) -> Any:
    """Returns what tells programs apart: the function and all shapes.

    Args:
      *args: as for `compile`.
      **options: likewise.
    """
    leaves, structure = jax.tree.flatten(args)
    shapes = [(jnp.shape(x), getattr(x, "dtype", x)) for x in leaves]
    return self._call, str(structure), str(shapes), str(options)

  def _estimate(
    self, args: Any, options: Any
  ) -> tuple[memory.Estimate, memory.Batch]:
    """Returns what a call needs, and how to ask for less."""
    lower = self._call.lower  # type: ignore[attr-defined]
    state = memory.bytes_of(args[: self._states])
    data = memory.bytes_of(args[self._states :])
    estimate = memory.Estimate(
      data=data,
      state=state,
      temporaries=memory.temporaries(lower(*args, **options)),
      held=max(memory.in_use(self._device) - data - state, 0) + self._results,
    )
    if not self._flexible:
      return estimate, self._batch
    resized = dataclasses.replace(
      self._batch,
      lower=lambda size: lower(*self._at(size, args), **options),
    )
    return estimate, resized

  def _at(self, size: int, args: Any) -> list[Any]:
    """Returns the shapes of the arguments with a batch of another size."""

    def rows(leaf):
      if not isinstance(leaf, prefetch.Gathered):
        return leaf
      return jax.tree.map(lambda x: _like(x, (size, *x.shape[1:])), leaf)

    resized = [
      jax.tree.map(rows, a, is_leaf=lambda x: isinstance(x, prefetch.Gathered))
      for a in args
    ]
    index = args[self._index]
    resized[self._index] = _like(index, (*index.shape[:-1], size))
    return resized


def _traced(args: Any) -> bool:
  """Whether a call is part of a program that is being traced."""
  return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(args))


def _like(array: Any, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, array.dtype, sharding=array.sharding)


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
