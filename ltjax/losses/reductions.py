"""Reductions: from one loss an example to one of the batch.

With weights there are two means, and published code mixes them up. Dividing by
the number of examples keeps the weights' scale: a batch of rare classes has a
large loss. Dividing by the sum of the weights, as PyTorch does where a
cross-entropy is given class weights, takes that scale out of each batch, and
with batches of one example the weights out altogether.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
  """Plain mean of the weighted losses: `sum_i w_i l_i / B`.

  Args:
    losses: l, `[B]`, float.
    weights: w, `[B]`, float, 0 or more.

  Returns:
    fp32 `[]`.
  """
  losses, weights = _widen(losses, weights)
  return jnp.mean(weights * losses)


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
  """Weighted mean, PyTorch's: `sum_i w_i l_i / sum_i w_i`.

  Args:
    losses: l, `[B]`, float.
    weights: w, `[B]`, float, 0 or more.

  Returns:
    fp32 `[]`; 0 where all weights are 0.
  """
  losses, weights = _widen(losses, weights)
  total = jnp.sum(weights)
  return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1.0)


def _widen(
  losses: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
  chex.assert_rank([losses, weights], 1)
  chex.assert_equal_shape([losses, weights])
  chex.assert_type([losses, weights], float)
  return losses.astype(jnp.float32), weights.astype(jnp.float32)
