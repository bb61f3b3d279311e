"""Alignment: bring a prediction to its target, without negatives.

A student predicts what its teacher says of another view of the image, as a
direction: lengths do not count. Nothing pushes images apart, so all that keeps
the embedding from collapsing is that the target is constant and the predictor
the student's own.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def normalized_distance(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Squared distance of two directions: `|p/|p| - t/|t||^2 = 2 - 2 cos(p, t)`.

  No gradient flows into the target. A vector of zeros has no direction and
  stays zero: its distance to any direction is 1, its gradient finite.

  Args:
    prediction: p, `[B, D]`, any float dtype, of any length.
    target: t, `[B, D]`, any float dtype, of any length. A constant.

  Returns:
    fp32 `[B]`, in [0, 4].

  Source: Grill et al. (2020), "Bootstrap your own latent" (BYOL), Equation 2;
    Lin et al. (2023), "Frequency-aware self-supervised long-tailed learning"
    (FASSL), `L_consis` of Equation 3.
  """
  chex.assert_rank([prediction, target], 2)
  chex.assert_equal_shape([prediction, target])
  chex.assert_type([prediction, target], float)
  away = _direction(prediction) - _direction(jax.lax.stop_gradient(target))
  return jnp.sum(away * away, axis=-1)


def _direction(x: jax.Array) -> jax.Array:
  """Rows of unit length, zeros of zeros, whatever the rows' magnitudes."""
  x = x.astype(jnp.float32)
  # The direction does not depend on this factor, so its gradient neither; with
  # it no square overflows or vanishes.
  largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=-1, keepdims=True)
  x = x / jnp.where(largest > 0, largest, 1.0)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.where(square > 0, square, 1.0))
