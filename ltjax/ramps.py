"""Ramps: how a number changes over a stage.

Early in training the targets of a consistency term are noise. Its weight
therefore starts near 0 and reaches its value over a share of the stage. The
temperature of a contrastive loss may go up and down all along.
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


def cosine_wave(
  t: jax.Array, *, low: float, high: float, period: float
) -> jax.Array:
  """A wave between two values, from the high one down and back.

  `low + (high - low) (1 + cos(2 pi t / period)) / 2`

  It is `high` at t = 0 and `low` half a period later. As the temperature of a
  contrastive loss, the high end groups images by class and the low end tells
  one image from the other; the alternation serves head and tail in turn. The
  published code names half the period `t_max`.

  Args:
    t: `[]`, time, such as epochs done, from 0; integer or float.
    low: the lowest value.
    high: the highest value.
    period: the time from one `high` to the next, above 0, in the units of t.

  Returns:
    fp32 `[]`, in [low, high].

  Raises:
    ValueError: if `period` is not above 0.

  Source: Kukleva et al. (2023), "Temperature schedules for self-supervised
    contrastive methods on long-tail data".
  """
  if not period > 0:
    raise ValueError(
      f"period is {period}; it must be above 0, such as 400 epochs."
    )
  share = jnp.mod(jnp.asarray(t, jnp.float32), period) / period
  up = (1.0 + jnp.cos(2.0 * jnp.pi * share)) / 2.0
  # Weighed this way round, both ends are exact.
  return low * (1.0 - up) + high * up
