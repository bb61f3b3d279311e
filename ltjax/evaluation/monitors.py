"""Monitors: whether an embedding still uses its space.

Losses without negatives are best where all images are mapped to one point, or
onto a line, so these numbers are written beside them.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from ltjax.models import projections

_HIGHEST = jax.lax.Precision.HIGHEST


def feature_std(features: jax.Array) -> jax.Array:
  """Spread of the directions of features, relative to an even one, fp32 `[]`.

  `sqrt(D) * mean_d std_i(u_id)`, `u_i = x_i / |x_i|`

  It is 1 for directions spread evenly over the sphere, 0 where all are the
  same. Normal numbers after a rectifier have `sqrt(1 - 1/pi)`, 0.83.

  Args:
    features: x, `[B, D]`, any float dtype.

  Source: Chen & He (2021), "Exploring simple Siamese representation learning"
    (SimSiam), Figure 2.
  """
  chex.assert_rank(features, 2)
  chex.assert_type(features, float)
  units = projections.unit(jax.lax.stop_gradient(features))
  return jnp.mean(jnp.std(units, axis=0)) * features.shape[1] ** 0.5


def effective_rank(features: jax.Array) -> jax.Array:
  """Number of directions that features vary in: the participation ratio.

  `tr(C)^2 / tr(C^2) = (sum_d l_d)^2 / sum_d l_d^2`, with `C` the covariance of
  the batch and `l` its eigenvalues, none of which are computed. In [1, min(D, B
  - 1)], fp32 `[]`; 0 where features do not vary, up to rounding.

  Args:
    features: `[B, D]`, any float dtype.

  Source: Gao et al. (2017), "A theory of multineuronal dimensionality, dynamics
    and measurement".
  """
  chex.assert_rank(features, 2)
  chex.assert_type(features, float)
  x = _scaled(features)
  centered = x - jnp.mean(x, axis=0, keepdims=True)
  total = jnp.sum(centered * centered)
  still = total <= 1e-12 * jnp.sum(x * x)
  # The smaller of two matrices with the same eigenvalues, but for zeros.
  wide = x.shape[1] > x.shape[0]
  a = centered if wide else centered.T
  gram = jnp.matmul(a, a.T, precision=_HIGHEST)
  square = jnp.where(still, 1.0, jnp.sum(gram * gram))
  return jnp.where(still, 0.0, total * total / square)


def _scaled(features: jax.Array) -> jax.Array:
  """fp32, of a largest magnitude of 1: no square overflows or vanishes."""
  x = jax.lax.stop_gradient(features.astype(jnp.float32))
  largest = jnp.max(jnp.abs(x))
  return x / jnp.where(largest > 0, largest, 1.0)
