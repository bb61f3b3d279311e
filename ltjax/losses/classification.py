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
    labels: Integer `[B]` in [0, C).

  Example:
    >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0]])
    >>> classification.cross_entropy(logits, jnp.array([0, 1]))
    Array([0.13, 2.13], dtype=float32)
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


def focal(
  logits: jax.Array, labels: jax.Array, *, gamma: float = 1.0
) -> jax.Array:
  """Focal loss on the softmax.

  `loss_i = (1 - p_i)^gamma * -log p_i`, `p_i = softmax(logits_i)[labels_i]`

  Args:
    logits: `[B, C]`, any float dtype.
    labels: Integer `[B]` in [0, C).
    gamma: The focusing exponent, 0 or more, else a ValueError.

  Example:
    >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0]])
    >>> classification.focal(logits, jnp.array([0, 1]), gamma=2.0)
    Array([0.  , 1.65], dtype=float32)

  Source: Lin et al. (2017), "Focal loss for dense object detection", equation
    4, on the softmax in place of the sigmoid as Cao et al. (2019) use it.
  """
  return modulate(cross_entropy(logits, labels), gamma=gamma)


def modulate(losses: jax.Array, *, gamma: float) -> jax.Array:
  """Weighs negative log-likelihoods by how wrong they are.

  `(1 - exp(-l))^gamma * l`

  The published LDAM code applies this to the cross-entropy after its class
  weights `w`: its `p = exp(-w l)` is then no probability, and the result not
  `w` times the focal loss. `modulate(w * l)` reproduces it.

  Args:
    losses: l, `[B]`, 0 or more, any float dtype.
    gamma: The focusing exponent, 0 or more, else a ValueError.

  Example:
    >>> classification.modulate(jnp.array([0.1, 2.0]), gamma=1.0)
    Array([0.01, 1.73], dtype=float32)
  """
  check_gamma(gamma)
  chex.assert_rank(losses, 1)
  chex.assert_type(losses, float)
  losses = losses.astype(jnp.float32)
  # At l = 0 the slope of x^gamma is infinite for gamma < 1, that of the product
  # 0: keep the former out of the gradient.
  right = losses <= 0
  safe = jnp.where(right, 1.0, losses)
  return jnp.where(right, 0.0, (-jnp.expm1(-safe)) ** gamma * safe)


def check_gamma(gamma: float) -> None:
  """Raises ValueError unless `gamma` is 0 or more and finite."""
  if not 0 <= gamma < float("inf"):
    raise ValueError(
      f"gamma is {gamma}; the focusing exponent must be 0 or more, and finite."
      " 0 is plain cross-entropy, 1 or 2 are usual."
    )
