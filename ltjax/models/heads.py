"""Heads: what turns a feature vector into class scores.

A long-tailed embedding is often good while its classifier is not: the weight
vectors of frequent classes grow longer, and win. Methods of this field
therefore train, replace or keep two heads on one embedding, and a head is a
pair of plain functions here, free of the backbone. Heads compute in fp32.

What a head computes can be read off its parameters, so that a head of another
structure can take the place of a network's own: whichever head made an `apply`,
parameters with `centroids` are applied as nearest class means, those with
`references` as nearest neighbors, and a `bias` is added to any logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax import require
from ltjax.geometry import neighbors as nearest

NAMES = ("linear", "cosine")
NCM_FEATURES = ("cl2n", "l2", "plain", "cosine")

HeadParams = dict[str, jax.Array]


class Head(NamedTuple):
  """A classifier on features.

  Attributes:
    init: `init(key) -> params`.
    apply: `apply(params, features [..., D]) -> logits [..., C]`, in fp32, by
      the structure of `params`.
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

  def logits(params: HeadParams, x: jax.Array) -> jax.Array:
    return x @ params["kernel"]

  return Head(init, _by_structure(logits))


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
  require.within("The scale of a cosine head", scale, "(0, inf]")

  def init(key: jax.Array) -> HeadParams:
    shape = (feature_dim, num_classes)
    return {"kernel": _unit(jax.random.normal(key, shape, jnp.float32), 0)}

  def logits(params: HeadParams, x: jax.Array) -> jax.Array:
    return scale * (_unit(x, -1) @ _unit(params["kernel"], 0))

  return Head(init, _by_structure(logits))


def ncm(
  features: jax.Array, labels: jax.Array, *, num_classes: int, kind: str
) -> HeadParams:
  """Nearest class mean: `logits_c = -|z - m_c|^2`, with nothing to train.

  The centroid `m_c` is the mean of the `z` of class `c`. As the softmax of such
  logits says, each class is a Gaussian of variance 1/2 around its mean; the
  probabilities are not calibrated.

  Args:
    features: `[N, D]` embeddings `x` of the labeled images.
    labels: integer `[N]` in [0, C); every class has at least one.
    num_classes: C.
    kind: what `z` is. `plain`: x. `l2`: x / |x|. `cl2n`: x less the mean of all
      x, then over its norm. `cosine`: x / |x|, and the centroids are brought to
      length 1, so that the nearest is the one of the greatest cosine.

  Returns:
    `{"centroids": [C, D]}`, and `"mean": [D]` where `z` has length 1: it is
    subtracted first, 0 but for `cl2n`.

  Raises:
    ValueError: The kind is unknown.

  Source: Kang et al. (2020), Section 4.2; Wang et al. (2019), "SimpleShot", for
    `cl2n`.
  """
  require.choice("features of the nearest class mean", kind, NCM_FEATURES)
  x = jnp.asarray(features, jnp.float32)
  mean = jnp.mean(x, 0) if kind == "cl2n" else jnp.zeros_like(x[0])
  z = x if kind == "plain" else _unit(x - mean[None, :], -1)
  member = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
  # Not segment_sum: on a GPU it adds in another order each time.
  sums = jnp.matmul(member.T, z, precision=jax.lax.Precision.HIGHEST)
  centroids = sums / jnp.sum(member, 0)[:, None]
  if kind == "plain":
    return {"centroids": centroids}
  if kind == "cosine":
    centroids = _unit(centroids, -1)
  return {"centroids": centroids, "mean": mean}


def knn(
  features: jax.Array, labels: jax.Array, *, num_classes: int, neighbors: int
) -> HeadParams:
  """Nearest neighbors: the logits are logarithms of the shares of their votes.

  As `neighbors.shares`, with shares of a billionth at least.

  Args:
    features: `[N, D]` embeddings of the labeled images.
    labels: integer `[N]` in [0, C).
    num_classes: C.
    neighbors: k, 1 to N.

  Returns:
    `{"references": [N, D], "classes": [N, C], "votes": [k]}`.
  """
  return {
    "references": nearest.unit(jnp.asarray(features)),
    "classes": jax.nn.one_hot(labels, num_classes, dtype=jnp.float32),
    "votes": jnp.ones(neighbors, jnp.float32),  # their number is k
  }


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


def _by_structure(
  logits: Callable[[HeadParams, jax.Array], jax.Array],
) -> Callable[[HeadParams, Any], jax.Array]:
  """Returns the `apply` of a head whose own logits, less bias, are given."""

  def apply(params: HeadParams, features: Any) -> jax.Array:
    x = jnp.asarray(features, jnp.float32)
    if "references" in params:
      result = _knn_logits(params, x)
    else:
      result = (_ncm_logits if "centroids" in params else logits)(params, x)
    if "bias" in params:
      result = result + jnp.broadcast_to(params["bias"], result.shape)
    return result

  return apply


def _knn_logits(params: HeadParams, x: jax.Array) -> jax.Array:
  classes = params["classes"]

  def one(query: jax.Array) -> jax.Array:
    return nearest.shares(
      query[None],
      params["references"],
      jnp.argmax(classes, 1),
      neighbors=len(params["votes"]),
      num_classes=classes.shape[1],
    )[0]

  # By parts: similarities to all references take N numbers a query.
  rows = jax.lax.map(one, x.reshape(-1, x.shape[-1]), batch_size=256)
  return jnp.log(jnp.maximum(rows, 1e-9)).reshape(*x.shape[:-1], -1)


def _ncm_logits(params: HeadParams, x: jax.Array) -> jax.Array:
  if "mean" in params:
    x = _unit(x - jnp.broadcast_to(params["mean"], x.shape), -1)
  centroids = params["centroids"]
  # |z - m|^2 expanded: no array [B, C, D], and one matrix product.
  products = jnp.matmul(x, centroids.T, precision=jax.lax.Precision.HIGHEST)
  squares = jnp.sum(x * x, -1, keepdims=True)
  norms = jnp.sum(centroids * centroids, -1)
  return 2 * products - squares - jnp.broadcast_to(norms, products.shape)


def _unit(x: jax.Array, axis: int) -> jax.Array:
  # rsqrt of a floored square, not a division by the norm: a zero vector (all
  # features dead) then has logits and gradients of zero, not NaN.
  square = jnp.sum(x * x, axis=axis, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))
