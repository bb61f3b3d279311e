"""Class weights from class counts.

A weighted loss lets an example of class `c` count `w_c` times. Weights `[C]`
are fp32 and sum to the number of classes, C: a balanced set then has weights of
1, and the learning rate keeps its meaning. A class without images, as pseudo
labels may leave one, has weight 0: it takes no share from the others.
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp


def effective_number(counts: jax.Array, *, beta: float = 0.9999) -> jax.Array:
  """Weights by the inverse of the effective number of images.

  `w_c ~ 1 / E_c`, `E_c = (1 - beta^n_c) / (1 - beta)`, scaled to sum to C.

  The effective number saturates at 1 / (1 - beta) images: beta = 0 weighs all
  classes alike, beta -> 1 is `inverse`.

  Args:
    counts: n, `[C]`, float, images a class, 0 or more.
    beta: In [0, 1), else a ValueError.

  Example:
    >>> weights.effective_number(jnp.array([90.0, 10.0]), beta=0.99)
    Array([0.28, 1.72], dtype=float32)

  Source: Cui et al. (2019), "Class-balanced loss based on effective number of
    samples", Sections 3 and 4; scaled as in their code.
  """
  check_beta(beta)
  counts = _counts(counts)
  # Through expm1 and a log in double precision: in fp32, 1 - 0.9999 is already
  # off in the fourth digit, and 1 - beta^n for n = 1 with it.
  log_beta = math.log(beta) if beta > 0 else -math.inf
  some = counts > 0
  number = -jnp.expm1(jnp.where(some, counts, 1.0) * log_beta) / (1.0 - beta)
  return normalize(jnp.where(some, 1.0 / number, 0.0))


def inverse(counts: jax.Array) -> jax.Array:
  """Weights by inverse frequency: `w_c ~ 1 / n_c`, scaled to sum to C.

  `counts` is n, `[C]`, float, images a class.

  Example:
    >>> weights.inverse(jnp.array([30.0, 10.0]))
    Array([0.5, 1.5], dtype=float32)
  """
  counts = _counts(counts)
  some = counts > 0
  return normalize(jnp.where(some, 1.0 / jnp.where(some, counts, 1.0), 0.0))


def power(counts: jax.Array, *, exponent: float) -> jax.Array:
  """Weights by a power of the frequency: `w_c ~ n_c^-k`, scaled to sum to C.

  Args:
    counts: n, `[C]`, float, images a class, 0 or more.
    exponent: k; 0 weighs all classes alike, 1 is `inverse`.

  Example:
    >>> weights.power(jnp.array([90.0, 10.0]), exponent=0.5)
    Array([0.5, 1.5], dtype=float32)

  Source: Zhang et al. (2021), "Distribution alignment", Equation 9; Du et al.
    (2023), GLMC, Equation 7.
  """
  counts = _counts(counts)
  some = counts > 0
  return normalize(
    jnp.where(some, jnp.where(some, counts, 1.0) ** -exponent, 0.0)
  )


def normalize(values: jax.Array) -> jax.Array:
  """Scales numbers `[C]`, 0 or more, to a sum of C; zeros stay.

  Example:
    >>> weights.normalize(jnp.array([3.0, 1.0]))
    Array([1.5, 0.5], dtype=float32)
  """
  chex.assert_rank(values, 1)
  chex.assert_type(values, float)
  values = values.astype(jnp.float32)
  total = jnp.sum(values)
  return values * (values.shape[0] / jnp.where(total > 0, total, 1.0))


def of_labels(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns `values[labels]`, `[B]`; NaN for a label outside [0, C).

  Example:
    >>> weights.of_labels(jnp.array([0.5, 1.5]), jnp.array([1, 1, 0]))
    Array([1.5, 1.5, 0.5], dtype=float32)
  """
  chex.assert_rank([values, labels], [1, 1])
  chex.assert_type([values, labels], [float, int])
  # A negative index would count from the end; send it out of range instead.
  index = jnp.where(labels < 0, values.shape[0], labels)
  return jnp.take(values, index, mode="fill", fill_value=jnp.nan)


def check_beta(beta: float) -> None:
  """Raises ValueError unless `beta` lies in [0, 1)."""
  if not 0 <= beta < 1:
    raise ValueError(
      f"beta is {beta}; it must lie in [0, 1): 0.9999 is usual, and nearer to 1"
      " is nearer to inverse frequency."
    )


def _counts(counts: jax.Array) -> jax.Array:
  chex.assert_rank(counts, 1)
  chex.assert_type(counts, float)
  return counts.astype(jnp.float32)


def mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
  """Plain mean of weighted losses `[B]`: `sum_i w_i l_i / B`, fp32 `[]`.

  Example:
    >>> weights.mean(jnp.array([1.0, 3.0]), jnp.array([1.5, 0.5]))
    Array(1.5, dtype=float32)
  """
  losses, weights = _widen(losses, weights)
  return jnp.mean(weights * losses)


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
  """Weighted mean, PyTorch's: `sum_i w_i l_i / sum_i w_i`, fp32 `[]`.

  It is 0 where all weights are 0.

  Example:
    >>> weights.weighted_mean(jnp.array([1.0, 3.0]), jnp.array([3.0, 1.0]))
    Array(1.5, dtype=float32)
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
