"""Seconds of calls, and what many of them say together.

A number on its own says little about a machine that does other things as well:
a result is the median over turns, beside the least and the greatest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import statistics
import time
from typing import Any

import jax

Spread = dict[str, float]


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
  """Returns the wall and the processor seconds of a call, its results ready.

  Args:
    run: what to call; it may return arrays, which are waited for.
  """
  wall, processor = time.perf_counter(), time.process_time()
  jax.block_until_ready(run())
  return time.perf_counter() - wall, time.process_time() - processor


def spread(values: Sequence[float]) -> Spread:
  """Returns the `median`, `min` and `max` of measured values.

  Args:
    values: at least one.
  """
  return {
    "median": statistics.median(values),
    "min": min(values),
    "max": max(values),
  }


def ratios(fast: Sequence[float], slow: Sequence[float]) -> Spread:
  """Returns how many times faster the one was, turn by turn.

  Args:
    fast: seconds of each turn.
    slow: seconds of the same turns.
  """
  return spread([s / f for f, s in zip(fast, slow, strict=True)])
