"""Losses against a known class.

Logits `[B, C]` are unnormalised log-probabilities. They are widened to fp32
first: in bfloat16, log-sum-exp over ten classes is wrong in the third digit.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Negative log-likelihood of the label.

  `loss_i = -log softmax(logits_i)[labels_i]`

  Args:
    logits: `[B, C]`, any float dtype.
    labels: Integer `[B]` in [0, C). A label outside gives NaN, rather than
      silently the loss of another class.

  Returns:
    fp32 `[B]`, 0 or more.
  """
  chex.assert_rank([logits, labels], [2, 1])
  chex.assert_equal_shape_prefix([logits, labels], 1)
  chex.assert_type([logits, labels], [float, int])
  num_classes = logits.shape[1]
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  # A negative index would count from the end; send it out of range instead.
  index = jnp.where(labels < 0, num_classes, labels)[:, None]
  picked = jnp.take_along_axis(
    log_probs, index, axis=-1, mode="fill", fill_value=jnp.nan
  )
  return -picked[:, 0]
