"""Swapped prediction: one view tells the cluster that the other one has.

The clusters are prototypes; a view's *code* says how much it belongs to each.
Codes are made from all of a batch at once (`ltjax.sinkhorn`), which keeps them
from falling into one cluster, and are then targets like soft labels.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


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
    second_scores: `[B, K]`, of the second views.
    first_codes: q1, `[B, K]`, rows sum to 1; of the first views. Constants.
    second_codes: q2, `[B, K]`, of the second views. Constants.
    temperature: t, above 0; a number or a traced fp32 `[]`.

  Returns:
    fp32 `[B]`, 0 or more; `log K` where the scores tell nothing.

  Raises:
    ValueError: if a number `temperature` is not above 0.

  Source: Caron et al. (2020), "Unsupervised learning of visual features by
    contrasting cluster assignments" (SwAV), Equation 2; its code takes the mean
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
