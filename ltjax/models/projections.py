"""Projections: from features to the space where views are compared.

What a contrastive loss makes invariant (colour, place) may still be of use to a
classifier. A small network between the features and the loss takes that damage;
it is dropped after the pre-training and the features before it are kept.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ltjax.models import heads


def mlp(feature_dim: int, *, hidden: int, dim: int) -> heads.Head:
  """Two linear layers with a rectifier between: `relu(x W1 + b1) W2 + b2`.

  Args:
    feature_dim: D.
    hidden: width between the layers.
    dim: width of the result, at least 1.

  Returns:
    A head with params `{"first": ..., "second": ...}`, each
    `{"kernel", "bias"}` as of `heads.linear`.

  Raises:
    ValueError: if `dim` or `hidden` is below 1.

  Source: Chen et al. (2020), "Improved baselines with momentum contrastive
    learning" (MoCo v2), whose hidden layer is as wide as the features.
  """
  if min(hidden, dim) < 1:
    raise ValueError(
      f"A projection to {dim} numbers with {hidden} hidden ones is impossible;"
      " dim and hidden must be 1 or more, such as 128."
    )
  first = heads.linear(feature_dim, hidden)
  second = heads.linear(hidden, dim)

  def init(key: jax.Array) -> Any:
    k_first, k_second = jax.random.split(key)
    return {"first": first.init(k_first), "second": second.init(k_second)}

  def apply(params: Any, features: Any) -> jax.Array:
    hidden_units = jax.nn.relu(first.apply(params["first"], features))
    return second.apply(params["second"], hidden_units)

  return heads.Head(init, apply)


def unit(x: jax.Array) -> jax.Array:
  """Scales each row to length 1; a row of zeros stays zero.

  Args:
    x: `[..., D]`, any float dtype.

  Returns:
    fp32 `[..., D]`; at a row of zeros its gradient is finite.
  """
  x = x.astype(jnp.float32)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
