"""Losses that hold a prediction near an earlier one of the same example.

The target is a constant: an average, a teacher, or, in alternate sampling, the
softmax which the same head gave to the same example one epoch ago. No gradient
flows into it.
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
  cross-entropy to the same target: the two differ by the entropy of the target,
  a constant. A row of zeros, which marks an example that has no stored
  prediction yet, therefore has loss and gradient of exactly 0.

  Args:
    target_probs: p, `[B, C]`; rows sum to 1, or are all zero. Treated as a
      constant.
    logits: `[B, C]`, any float dtype.

  Returns:
    fp32 `[B]`, 0 or more up to rounding.

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
