"""Online probe: a linear classifier on features, beside a pretext task.

It tells while an embedding is learned without labels how well a line separates
the classes in it. The gradient stops at the features, which are brought to
length 4, so that a learning rate of contrastive learning does not make it
diverge.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax.models import projections

LENGTH = 4.0


def init(feature_dim: int, num_classes: int) -> dict[str, jax.Array]:
  """Returns the parameters before the first step, all 0."""
  return {
    "kernel": jnp.zeros((feature_dim, num_classes)),
    "bias": jnp.zeros(num_classes),
  }


def loss(
  params: dict[str, Any], features: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the mean cross-entropy and the accuracy on a batch, fp32 `[]` each.

  Both are 0 where no label is known.

  Args:
    params: `kernel` `[F, C]` and `bias` `[C]`.
    features: `[B, F]`; constants.
    labels: int32 `[B]`, -1 where unknown.
  """
  x = LENGTH * projections.unit(jax.lax.stop_gradient(features))
  logits = x @ params["kernel"] + params["bias"][None]
  known = (labels >= 0).astype(jnp.float32)
  total = jnp.maximum(jnp.sum(known), 1.0)
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.maximum(labels, 0)
  )
  right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
  return jnp.sum(known * losses) / total, jnp.sum(known * right) / total
