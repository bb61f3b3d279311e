"""Sigmoid losses: one yes-or-no question a class, without competition.

Each logit is that of a binary classifier "this class or not". No softmax ties
the classes together, so frequent ones cannot push a rare one down; but every
example asks for a "no" of C - 1 classes. The head's bias therefore best starts
at `-log(C - 1)`, where each answer begins at 1 / C.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from ltjax.losses import classification


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Binary cross-entropy, summed over the classes.

  `loss_i = -log s(z_iy) - sum_{j != y} log(1 - s(z_ij))`, s the sigmoid

  Args:
    logits: z, `[B, C]`, any float dtype.
    labels: y, integer `[B]` in [0, C).

  Example:
    >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0]])
    >>> sigmoid.cross_entropy(logits, jnp.array([0, 1]))
    Array([0.82, 2.82], dtype=float32)

  Source: Cui et al. (2019), "Class-balanced loss based on effective number of
    samples", Section 4, without its weight.
  """
  return focal_cross_entropy(logits, labels, gamma=0.0)


def focal_cross_entropy(
  logits: jax.Array, labels: jax.Array, *, gamma: float = 1.0
) -> jax.Array:
  """Binary focal loss, summed over the classes.

  `loss_i = -sum_j (1 - p_ij)^gamma log p_ij`, where `p_ij` is the probability
  of the right answer about class j: `s(z_ij)` for the label, `1 - s(z_ij)` for
  the others.

  Args:
    logits: z, `[B, C]`, any float dtype.
    labels: integer `[B]` in [0, C).
    gamma: The focusing exponent, 0 or more, else a ValueError.

  Example:
    >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0]])
    >>> sigmoid.focal_cross_entropy(logits, jnp.array([0, 1]))
    Array([0.36, 2.22], dtype=float32)

  Source: Lin et al. (2017), "Focal loss for dense object detection", equation
    4; Cui et al. (2019), Section 4, without its weight.
  """
  classification.check_gamma(gamma)
  chex.assert_rank([logits, labels], [2, 1])
  chex.assert_equal_shape_prefix([logits, labels], 1)
  chex.assert_type([logits, labels], [float, int])
  num_classes = logits.shape[1]
  is_label = labels[:, None] == jnp.arange(num_classes)[None, :]
  # How far each answer is on the wrong side: 1 - p = s(wrong).
  wrong = logits.astype(jnp.float32)
  wrong = jnp.where(is_label, -wrong, wrong)
  weights = jnp.exp(gamma * jax.nn.log_sigmoid(wrong))
  losses = jnp.sum(weights * jax.nn.softplus(wrong), axis=-1)
  inside = (labels >= 0) & (labels < num_classes)
  return jnp.where(inside, losses, jnp.nan)
