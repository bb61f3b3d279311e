"""Ramps: how the weight of a consistency term rises.

Early in training the targets of a consistency term are noise. Its weight
therefore starts near 0 and reaches its value over a share of the stage.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def sigmoid(step: jax.Array, *, length: float) -> jax.Array:
  """Half a bell curve from exp(-5) = 0.0067 to 1.

  `ramp(t) = exp(-5 (1 - t)^2)` with `t = min(step / length, 1)`.

  Args:
    step: `[]` integer, steps done, from 0.
    length: steps until the ramp reaches 1, not below 0; 0 for no ramp, which is
      1 from the first step.

  Returns:
    fp32 `[]`.

  Source: Laine & Aila (2017), "Temporal ensembling for semi-supervised
    learning", Appendix A; Mean Teacher uses the same.
  """
  assert length >= 0, length
  if length == 0:
    return jnp.ones((), jnp.float32)
  left = 1.0 - jnp.minimum(jnp.asarray(step, jnp.float32) / length, 1.0)
  return jnp.exp(-5.0 * left**2)
