"""Exponential moving averages of a pytree, such as the weights of a teacher."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from ltjax import require

PyTree = Any


def decay_at(step: jax.Array, *, decay: float) -> jax.Array:
  """The decay of a step, fp32 `[]`, which is lower at first.

  `min(decay, 1 - 1 / (t + 1))`: the average over the first steps is the plain
  mean of the values so far, the start among them.

  Args:
    step: `[]` integer t, updates of the average with this one, from 1.
    decay: the decay in the long run, in [0, 1).

  Source: the published code of Tarvainen & Valpola (2017), "Mean teachers are
    better role models".
  """
  t = jnp.asarray(step, jnp.float32)
  return jnp.minimum(jnp.float32(decay), 1.0 - 1.0 / (t + 1.0))


def cosine_decay(step: jax.Array, *, start: float, total: int) -> jax.Array:
  """A decay that rises from `start` to 1 over half a cosine, fp32 `[]`.

  `1 - (1 - start) (cos(pi k / K) + 1) / 2`

  Args:
    step: `[]` integer k, steps done, from 0; past K the decay stays 1.
    start: the first decay, in [0, 1], else a ValueError.
    total: K, steps until the decay is 1, at least 1, else a ValueError.

  Source: Grill et al. (2020), "Bootstrap your own latent" (BYOL), Section 3.3.
  """
  require.within("start", start, "[0, 1]", "such as 0.99")
  if total < 1:
    raise ValueError(f"total is {total}; the decay needs 1 step or more.")
  share = jnp.minimum(jnp.asarray(step, jnp.float32) / total, 1.0)
  return 1.0 - (1.0 - start) * (jnp.cos(jnp.pi * share) + 1.0) / 2.0


def update(average: PyTree, new: PyTree, *, decay: jax.Array | float) -> PyTree:
  """Moves an average a step: `decay * average + (1 - decay) * new`.

  Args:
    average: arrays, as `new`; averaged in fp32, and given back in their dtypes.
    new: arrays. One that is not of a float dtype, such as a counter, has no
      average: the new one is taken as it is.
    decay: `[]`, in [0, 1]; 0 gives exactly `new`, 1 exactly `average`.
  """
  chex.assert_trees_all_equal_shapes_and_dtypes(average, new)

  def move(old: jax.Array, fresh: jax.Array) -> jax.Array:
    if not jnp.issubdtype(fresh.dtype, jnp.floating):
      return fresh
    a, b = old.astype(jnp.float32), fresh.astype(jnp.float32)
    return (decay * a + (1.0 - decay) * b).astype(old.dtype)

  return jax.tree.map(move, average, new)
