"""Random start values of the convolutions.

He et al. (2015) draw a kernel `[K, K, D, F]` from a normal distribution of
variance `2 / fan`, which keeps the scale of signals (fan_in, `K K D`) or of
gradients (fan_out, `K K F`) through layers with rectifiers.

All kernels of a network are cut from one long draw. Drawing each on its own
gives the same distribution, but XLA compiles every draw, which takes a CPU
about five seconds for seven layers and half a second for one draw.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import require

FANS = ("fan_in", "fan_out")


def he_normal(key: jax.Array, params: Any, *, fan: str) -> Any:
  """Replaces every convolution kernel in a tree by a fresh one.

  Args:
    key: Random key.
    params: Tree of arrays. Its leaves of rank 4 are the kernels
      `[K, K, D, F]`; the others are returned as they are.
    fan: "fan_in" or "fan_out".

  Returns:
    The tree with new kernels, of the dtypes they had.

  Raises:
    ValueError: The fan is unknown.

  Source: He et al. (2015), "Delving deep into rectifiers", equations 10 and 14.
  """
  require.choice("fan", fan, FANS)
  leaves, structure = jax.tree.flatten(params)
  total = sum(leaf.size for leaf in leaves if leaf.ndim == 4)
  draws = jax.random.normal(key, (total,), jnp.float32)
  filled, start = [], 0
  for leaf in leaves:
    if leaf.ndim == 4:
      height, width, fan_in, fan_out = leaf.shape
      size = height * width * (fan_in if fan == "fan_in" else fan_out)
      draw = draws[start : start + leaf.size].reshape(leaf.shape)
      start += leaf.size
      leaf = (math.sqrt(2 / size) * draw).astype(leaf.dtype)
    filled.append(leaf)
  return jax.tree.unflatten(structure, filled)
