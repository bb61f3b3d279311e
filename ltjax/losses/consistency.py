"""Losses that hold a prediction near another one of the same example.

The target is an average, a teacher, a second augmentation or, in alternate
sampling, the softmax that the same head gave the example one epoch ago.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax.scipy import special


def kl_divergence(target_probs: jax.Array, logits: jax.Array) -> jax.Array:
  """Kullback-Leibler divergence of the prediction from a stored one.

  `loss_i = sum_c p_ic (log p_ic - log softmax(logits_i)_c)`, with 0 log 0 = 0.

  By the logits its gradient is `sum(p_i) softmax(logits_i) - p_i`, that of the
  cross-entropy to the same target. A row of zeros, of an example without a
  stored prediction, has loss and gradient of exactly 0.

  Args:
    target_probs: p, `[B, C]`; rows sum to 1, or are all zero. A constant.
    logits: `[B, C]`, any float dtype.

  Example:
    >>> before = jnp.array([[0.5, 0.5], [0.0, 0.0]])
    >>> consistency.kl_divergence(before, jnp.array([[2.0, 0.0]] * 2))
    Array([0.43, 0.  ], dtype=float32)

  Source: Liu et al. (2021), "Semi-supervised long-tailed recognition using
    alternate sampling", the consistency term of the embedding stage.
  """
  chex.assert_rank([target_probs, logits], 2)
  chex.assert_equal_shape([target_probs, logits])
  chex.assert_type([target_probs, logits], float)
  target = jax.lax.stop_gradient(target_probs.astype(jnp.float32))
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  # A class of target 0 adds nothing, also where its log-probability is -inf.
  log_probs = jnp.where(target > 0, log_probs, 0.0)
  return jnp.sum(special.xlogy(target, target) - target * log_probs, axis=-1)


def mean_squared_error(target_probs: jax.Array, logits: jax.Array) -> jax.Array:
  """Squared distance of two predictions, a mean over the classes.

  `loss_i = 1/C sum_c (softmax(logits_i)_c - p_ic)^2`.

  Bounded by 2 / C, and symmetric. Gradients flow into both arguments; a caller
  whose target is a constant stops them.

  Args:
    target_probs: p, `[B, C]`; rows sum to 1.
    logits: `[B, C]`, any float dtype.

  Example:
    >>> before, logits = jnp.array([[1.0, 0.0]]), jnp.zeros((1, 2))
    >>> consistency.mean_squared_error(before, logits)
    Array([0.25], dtype=float32)

  Source: Laine & Aila (2017), "Temporal ensembling for semi-supervised
    learning", Algorithms 1 and 2; Tarvainen & Valpola (2017), "Mean teachers
    are better role models", whose published code divides by C, too.
  """
  chex.assert_rank([target_probs, logits], 2)
  chex.assert_equal_shape([target_probs, logits])
  chex.assert_type([target_probs, logits], float)
  probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
  return jnp.mean(jnp.square(probs - target_probs.astype(jnp.float32)), axis=-1)


def normalized_distance(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Squared distance of two directions: `|p/|p| - t/|t||^2 = 2 - 2 cos(p, t)`.

  fp32 `[B]` in [0, 4]. No gradient flows into the target. A vector of zeros
  stays zero: its distance to any direction is 1, its gradient finite.

  Args:
    prediction, target: p and t, `[B, D]`, any float dtype, any length.

  Example:
    >>> p, t = jnp.array([[2.0, 0.0]] * 2), jnp.array([[5.0, 0.0], [0.0, 1.0]])
    >>> consistency.normalized_distance(p, t)
    Array([0., 2.], dtype=float32)

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
