"""How cost grows with size: a case timed at several sizes, and an exponent.

Where the time is `a * size^p`, p is the slope of its logarithm over that of the
size. Small sizes tell of overheads only, so the slope is that of the larger half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import tracemalloc
from typing import Any

import jax
import numpy as np

from ltjax.benchmarks import clock, usage

SLACK = 0.25  # Caches and allocators bend the line by so much.


@dataclasses.dataclass(frozen=True)
class Work:
  """What is done at one size.

  Attributes:
    run: does it; results are waited for.
    memory_bytes: what it needs at its peak.
  """

  run: Callable[[], Any]
  memory_bytes: int


@dataclasses.dataclass(frozen=True)
class Done:
  """What was done and timed at one size already.

  Attributes:
    seconds: that it took.
    memory_bytes: what it needed at its peak.
  """

  seconds: float
  memory_bytes: int


@dataclasses.dataclass(frozen=True)
class Case:
  """Something whose cost grows with a size.

  Attributes:
    name: what is done.
    variable: what grows.
    sizes: the values to try, ascending.
    make: `size -> Work`, or `Done`.
    limit: the exponent that time should not exceed: 1 for linear, 0 where it
      should not grow.
  """

  name: str
  variable: str
  sizes: tuple[int, ...]
  make: Callable[[int], Work | Done]
  limit: float = 1.0


def on_host(run: Callable[[], Any]) -> Work:
  """Returns work of NumPy, with the memory it allocates.

  Args:
    run: what to do.
  """
  tracemalloc.start()
  try:
    kept = run()  # The result counts.
    memory = tracemalloc.get_traced_memory()[1]
    del kept
  finally:
    tracemalloc.stop()
  return Work(run, memory)


def on_device(function: Callable[..., Any], *args: Any) -> Work:
  """Returns work of a jitted function, with the memory that XLA plans.

  Args:
    function: of arrays.
    *args: the arrays.
  """
  call = jax.jit(function)
  compiled = call.lower(*args).compile()
  return Work(lambda: call(*args), usage.of_compiled(compiled))


def measure(case: Case, *, repeats: int) -> dict[str, Any]:
  """Times a case at each of its sizes.

  Args:
    case: what to do.
    repeats: the least seconds of so many runs count, after one to warm up; work
      that is done already is not repeated.

  Returns:
    JSON values: `name`, `variable`, `sizes`; `seconds` and `memory_bytes` at
    each; `exponent` and `memory_exponent`; the `limit`, and whether the
    exponent of time keeps it, `as_it_should`.
  """
  seconds, memory = [], []
  for size in case.sizes:
    work = case.make(size)
    if isinstance(work, Done):
      seconds.append(work.seconds)
    else:
      clock.seconds(work.run)
      seconds.append(min(clock.seconds(work.run)[0] for _ in range(repeats)))
    memory.append(work.memory_bytes)
  power = exponent(case.sizes, seconds)
  return {
    "name": case.name,
    "variable": case.variable,
    "sizes": list(case.sizes),
    "seconds": seconds,
    "memory_bytes": memory,
    "exponent": power,
    "memory_exponent": exponent(case.sizes, memory),
    "limit": case.limit,
    "as_it_should": power <= case.limit + SLACK,
  }


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
  """Fits p of `cost = a * size^p` to the larger half of the sizes.

  Args:
    sizes: ascending, at least two.
    costs: as many; those of 0 count as the least positive number.
  """
  first = min(len(sizes) // 2, len(sizes) - 2)
  x = np.log(np.asarray(sizes[first:], np.float64))
  floor = np.maximum(np.asarray(costs[first:], np.float64), 1e-12)
  slope = np.polyfit(x, np.log(floor), 1)[0]
  return float(slope)


def sizes(least: int, largest: int, *, points: int = 4) -> tuple[int, ...]:
  """Returns sizes in equal ratios.

  Args:
    least: the first.
    largest: the last.
    points: how many, at most.
  """
  spaced = np.geomspace(least, max(least, largest), points)
  return tuple(dict.fromkeys(int(round(size)) for size in spaced))
