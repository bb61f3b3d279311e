"""The votes of the nearest references, by cosine."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.jit, static_argnames=("neighbors", "num_classes"))
def shares(
  queries: jax.Array,
  references: jax.Array,
  labels: jax.Array,
  *,
  neighbors: int,
  num_classes: int,
) -> jax.Array:
  """Returns each class's share of the k nearest votes, float32 `[Q, C]`.

  The winner, of equally many votes the class of the nearest reference, has a
  thousandth of a vote more.

  Args:
    queries: `[Q, D]` features, of any length above 0.
    references: `[R, D]` features.
    labels: integers `[R]` in `[0, C)`.
    neighbors: k, from 1 to R.
    num_classes: C.
  """
  # As precise as fp32 is: a shorter product would exchange neighbours.
  similarity = jnp.matmul(
    unit(queries), unit(references).T, precision=jax.lax.Precision.HIGHEST
  )
  _, nearest = jax.lax.top_k(similarity, neighbors)
  member = jax.nn.one_hot(labels[nearest], num_classes, dtype=jnp.int32)
  votes = jnp.sum(member, axis=1)
  # The neighbour by which a class is met first, 0 for the nearest of all. It is
  # another one for each class with a vote, so that one of the best wins alone.
  met = jnp.argmax(member, axis=1)
  best = votes == jnp.max(votes, axis=1, keepdims=True)
  winner = jnp.argmin(jnp.where(best, met, neighbors), axis=1)
  extra = 1e-3 * jax.nn.one_hot(winner, num_classes, dtype=jnp.float32)
  return (votes.astype(jnp.float32) + extra) / (neighbors + 1e-3)


def unit(x: jax.Array) -> jax.Array:
  """Returns features `[N, D]` in fp32, brought to length 1."""
  x = x.astype(jnp.float32)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
