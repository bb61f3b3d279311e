"""Projections: from features to the space where views are compared.

What a contrastive loss makes invariant (colour, place) may still be of use to a
classifier. A small network between the features and the loss takes that damage;
it is dropped after the pre-training and the features before it are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.models import heads
from ltjax.models.layers import batch_norm
from ltjax.optim import ema


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


class Projection(NamedTuple):
  """A projection with BatchNorm, as functions.

  Attributes:
    init: `key -> (params, stats)`, fp32.
    apply: `(params, stats, features [B, F], train) -> (embeddings [B, D],
      stats)`, in fp32. Training normalises by the batch and returns updated
      running statistics; evaluation returns the very object it was given.
    dim: D.
  """

  init: Callable[[jax.Array], tuple[Any, Any]]
  apply: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]
  dim: int


def batch_norm_mlp(
  feature_dim: int, *, hidden: int, dim: int, last_norm: bool
) -> Projection:
  """Linear, BatchNorm, rectifier, linear without bias, and perhaps BatchNorm.

  With the last BatchNorm it is the projection of SimCLR and SDCLR, without it
  that of BYOL and the predictor of its student.

  Args:
    feature_dim: F.
    hidden: width between the layers.
    dim: D, width of the result.
    last_norm: whether the result is normalised too.

  Returns:
    A projection with params `{"first": {"kernel", "bias"}, "first_norm":
    {"scale", "bias"}, "second": {"kernel"}}` and, of the last BatchNorm,
    `"second_norm"`; stats hold `mean` and `var` for each BatchNorm.

  Raises:
    ValueError: if `dim` or `hidden` is below 1.

  Source: Jiang et al. (2021), "Self-damaging contrastive learning", their code;
    Grill et al. (2020), "Bootstrap your own latent", Section 3.3.
  """
  if min(hidden, dim) < 1:
    raise ValueError(
      f"A projection to {dim} numbers with {hidden} hidden ones is impossible;"
      " dim and hidden must be 1 or more, such as 128."
    )
  first = heads.linear(feature_dim, hidden)
  second = heads.linear(hidden, dim)

  def init(key: jax.Array) -> tuple[Any, Any]:
    k_first, k_second = jax.random.split(key)
    params = {
      "first": first.init(k_first),
      "first_norm": _norm_params(hidden),
      "second": {"kernel": second.init(k_second)["kernel"]},
    }
    stats = {"first_norm": _norm_stats(hidden)}
    if last_norm:
      params["second_norm"] = _norm_params(dim)
      stats["second_norm"] = _norm_stats(dim)
    return params, stats

  def apply(
    params: Any, stats: Any, features: jax.Array, train: bool
  ) -> tuple[jax.Array, Any]:
    x = first.apply(params["first"], features)
    updated = {}
    x, updated["first_norm"] = _norm(
      params["first_norm"], stats["first_norm"], x, train
    )
    x = second.apply(params["second"], jax.nn.relu(x))
    if last_norm:
      x, updated["second_norm"] = _norm(
        params["second_norm"], stats["second_norm"], x, train
      )
    return x, updated if train else stats

  return Projection(init, apply, dim)


def _norm_params(dim: int) -> dict[str, jax.Array]:
  return {"scale": jnp.ones(dim), "bias": jnp.zeros(dim)}


def _norm_stats(dim: int) -> dict[str, jax.Array]:
  return {"mean": jnp.zeros(dim), "var": jnp.ones(dim)}


def _norm(
  params: Any, stats: Any, x: jax.Array, train: bool
) -> tuple[jax.Array, Any]:
  """BatchNorm of `[B, D]`."""
  scale, bias = params["scale"], params["bias"]
  if not train:
    mean, var = stats["mean"], stats["var"]
    return batch_norm.with_statistics(x, scale, bias, mean, var), stats
  y, mean, var = batch_norm.normalize(x, scale, bias)
  new = {"mean": mean, "var": var}
  return y, ema.update(stats, new, decay=batch_norm.MOMENTUM)


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
