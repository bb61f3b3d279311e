"""The machine's own peak: the fastest matrix product it is seen to do.

A data sheet promises what no program reaches, and says nothing of a shared
machine. Square products of several sizes are timed, and the best one is what
the speed of training is held against (MFU, model FLOP utilization).
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

SIZES = {"cpu": (512, 1024, 2048), "gpu": (4096, 8192, 16384)}


def measure(
  *,
  dtype: str,
  device: jax.Device | None = None,
  sizes: Sequence[int] = (),
  repeats: int = 5,
  rounds: int = 8,
) -> dict[str, Any]:
  """Measures the peak of square matrix products.

  Args:
    dtype: of factors and result.
    device: where; the first one by default.
    sizes: rows of the matrices; none for those that suit the device.
    repeats: how often each size is timed; the best time counts.
    rounds: products in one timing, started one after the other.

  Returns:
    `flops_per_second`, the `size` that gave it, and `sizes` tried.
  """
  device = device or jax.devices()[0]
  sizes = tuple(sizes) or SIZES.get(device.platform, SIZES["gpu"])
  product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=dtype))
  speeds = {}
  for size in sizes:
    x = jax.device_put(jnp.full((size, size), 1 / size, dtype), device)
    product(x, x).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
      began = time.perf_counter()
      y = x
      for _ in range(rounds):
        y = product(x, y)
      y.block_until_ready()
      best = min(best, time.perf_counter() - began)
    speeds[size] = rounds * 2 * size**3 / best
  size = max(speeds, key=lambda s: speeds[s])
  return {
    "flops_per_second": speeds[size],
    "size": size,
    "sizes": list(sizes),
  }
