"""Heads: what turns a feature vector into class scores.

A long-tailed embedding is often good while its classifier is not: the weight
vectors of frequent classes grow longer, and win. Methods of this field
therefore train, replace or keep two heads on one embedding, and a head is a
pair of plain functions here, free of the backbone. Heads compute in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

NAMES = ("linear", "cosine")

HeadParams = dict[str, jax.Array]


class Head(NamedTuple):
  """A classifier on features.

  Attributes:
    init: `init(key) -> params`.
    apply: `apply(params, features [..., D]) -> logits [..., C]`, in fp32.
  """

  init: Callable[[jax.Array], HeadParams]
  apply: Callable[[HeadParams, Any], jax.Array]


def linear(feature_dim: int, num_classes: int) -> Head:
  """Inner products and a bias: `logits = x W + b`.

  Both are drawn from U(-a, a), a = 1 / sqrt(D), as PyTorch's linear layer.

  Args:
    feature_dim: D.
    num_classes: C.

  Returns:
    A head with params `{"kernel": [D, C], "bias": [C]}`.
  """
  bound = feature_dim**-0.5

  def init(key: jax.Array) -> HeadParams:
    k_kernel, k_bias = jax.random.split(key)
    shape = (feature_dim, num_classes)
    return {
      "kernel": jax.random.uniform(
        k_kernel, shape, jnp.float32, minval=-bound, maxval=bound
      ),
      "bias": jax.random.uniform(
        k_bias, shape[1:], jnp.float32, minval=-bound, maxval=bound
      ),
    }

  def apply(params: HeadParams, features: Any) -> jax.Array:
    logits = jnp.asarray(features, jnp.float32) @ params["kernel"]
    return logits + jnp.broadcast_to(params["bias"], logits.shape)

  return Head(init, apply)


def cosine(feature_dim: int, num_classes: int, *, scale: float = 16.0) -> Head:
  """Scaled cosines: `logits = s * <x / |x|, w_c / |w_c|>`.

  Every class has the same norm, so frequency cannot express itself in it. The
  scale is a fixed number, not a parameter: a learned one grows without bound
  on a separable set. Cosines lie in [-1, 1], so with C classes the largest
  probability is 1 / (1 + (C - 1) exp(-2 s)).

  Args:
    feature_dim: D.
    num_classes: C.
    scale: s, the inverse temperature of the softmax.

  Returns:
    A head with params `{"kernel": [D, C]}` and no bias; columns start as
    directions drawn evenly from the unit sphere.

  Source: Gidaris & Komodakis (2018), "Dynamic few-shot visual learning without
    forgetting"; the default scale is of Liu et al. (2019), "Large-scale
    long-tailed recognition in an open world".
  """
  if not scale > 0:
    raise ValueError(
      f"The scale of a cosine head must be above 0, not {scale}."
    )

  def init(key: jax.Array) -> HeadParams:
    shape = (feature_dim, num_classes)
    return {"kernel": _unit(jax.random.normal(key, shape, jnp.float32), 0)}

  def apply(params: HeadParams, features: Any) -> jax.Array:
    x = _unit(jnp.asarray(features, jnp.float32), -1)
    return scale * (x @ _unit(params["kernel"], 0))

  return Head(init, apply)


def create(
  name: str, *, feature_dim: int, num_classes: int, scale: float = 16.0
) -> Head:
  """Returns the head called `name`.

  Args:
    name: "linear" or "cosine".
    feature_dim: D.
    num_classes: C.
    scale: Of the cosine head; the linear head has none.

  Raises:
    ValueError: The name is unknown, or the scale is not positive.
  """
  if name == "linear":
    return linear(feature_dim, num_classes)
  if name == "cosine":
    return cosine(feature_dim, num_classes, scale=scale)
  raise ValueError(f"Unknown head {name!r}; choose one of {', '.join(NAMES)}.")


def _unit(x: jax.Array, axis: int) -> jax.Array:
  # rsqrt of a floored square, not a division by the norm: a zero vector (all
  # features dead) then has logits and gradients of zero, not NaN.
  square = jnp.sum(x * x, axis=axis, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
