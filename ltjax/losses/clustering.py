"""Swapped prediction: one view tells the cluster that the other one has.

The clusters are prototypes; a view's *code* says how much it belongs to each.
Codes are made from all of a batch at once, which keeps them from falling into
one cluster, and are then targets like soft labels.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def codes(
  scores: jax.Array,
  *,
  epsilon: float = 0.05,
  iterations: int = 3,
  marginal: jax.Array | None = None,
) -> jax.Array:
  """Soft assignments of images to prototypes.

  `Q = diag(u) exp(scores / epsilon) diag(v)`, fp32 `[B, K]`: rows sum to 1,
  columns, with enough iterations, in proportion to `marginal`.

  An iteration scales the columns first and the rows second, as SwAV does, so
  that rows are exact whenever it stops. In logarithms, no score overflows.

  Args:
    scores: `[B, K]`, similarities of images to prototypes, any float dtype.
      Constants: no gradient flows through the codes.
    epsilon: above 0; the smaller, the nearer each code is to a single
      prototype, and the more iterations the columns need.
    iterations: at least 1, else a ValueError, as for `epsilon`.
    marginal: `[K]`, the portion of each prototype, 0 or more, of any scale and
      a sum above 0. None: equal portions.

  Example:
    >>> cosines = jnp.array([[0.9, 0.1], [0.8, 0.2]])
    >>> clustering.codes(cosines)
    Array([[0.88, 0.12],
           [0.12, 0.88]], dtype=float32)

  Source: Cuturi (2013), "Sinkhorn distances"; Caron et al. (2020),
    "Unsupervised learning of visual features by contrasting cluster
    assignments" (SwAV), Section 3.1, with equal portions, epsilon 0.05 and 3
    iterations.
  """
  if not epsilon > 0:
    raise ValueError(f"epsilon is {epsilon}; it must be above 0, such as 0.05.")
  if iterations < 1:
    raise ValueError(
      f"iterations is {iterations}; Sinkhorn needs 1 or more, such as 3."
    )
  chex.assert_rank(scores, 2)
  chex.assert_type(scores, float)
  num_prototypes = scores.shape[1]
  if marginal is None:
    marginal = jnp.ones(num_prototypes)
  chex.assert_shape(marginal, (num_prototypes,))
  log_portions = jnp.log(jnp.asarray(marginal, jnp.float32))
  logits = jax.lax.stop_gradient(scores.astype(jnp.float32)) / epsilon

  def scale(_: jax.Array, log_columns: jax.Array) -> jax.Array:
    log_rows = -jax.nn.logsumexp(logits + log_columns[None, :], axis=1)
    return log_portions - jax.nn.logsumexp(logits + log_rows[:, None], axis=0)

  # The first columns' step sees the similarities as they are: rows of scale 1.
  log_columns = log_portions - jax.nn.logsumexp(logits, axis=0)
  log_columns = jax.lax.fori_loop(1, iterations, scale, log_columns)
  return jax.nn.softmax(logits + log_columns[None, :], axis=1)


def swapped_prediction(
  first_scores: jax.Array,
  second_scores: jax.Array,
  first_codes: jax.Array,
  second_codes: jax.Array,
  *,
  temperature: float | jax.Array,
) -> jax.Array:
  """Cross-entropy of each view's softmax with the other view's code.

  `loss_i = -1/2 sum_k (q2_ik log p1_ik + q1_ik log p2_ik)`,
  `p = softmax(scores / t)`

  Args:
    first_scores: `[B, K]`, similarities of the first views to the prototypes,
      cosines as a rule; any float dtype.
    second_scores: as `first_scores`, of the second views.
    first_codes, second_codes: q1 and q2, `[B, K]`, rows sum to 1. Constants.
    temperature: t, above 0; a number or a traced fp32 `[]`; else a ValueError.

  Example:
    >>> one, other = jnp.array([[0.9, 0.1]]), jnp.array([[0.2, 0.4]])
    >>> q = jnp.array([[1.0, 0.0]])
    >>> clustering.swapped_prediction(one, other, q, q, temperature=0.1)
    Array([1.06], dtype=float32)

  Source: Caron et al. (2020), SwAV, Equation 2; its code takes the mean
    of the two terms, the paper their sum.
  """
  if not isinstance(temperature, jax.Array) and not temperature > 0:
    raise ValueError(
      f"temperature is {temperature}; it must be above 0, such as 0.1."
    )
  arrays = [first_scores, second_scores, first_codes, second_codes]
  chex.assert_rank(arrays, 2)
  chex.assert_equal_shape(arrays)
  chex.assert_type(arrays, float)

  def cross_entropy(scores: jax.Array, codes: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(
      scores.astype(jnp.float32) / temperature, axis=-1
    )
    codes = jax.lax.stop_gradient(codes.astype(jnp.float32))
    return -jnp.sum(codes * log_probs, axis=-1)

  one = cross_entropy(first_scores, second_codes)
  other = cross_entropy(second_scores, first_codes)
  return (one + other) / 2.0
