"""Losses that tell the softmax of the class prior.

A network trained on a long tail learns `P(y | x)`, prior included. Adding the
log-prior to the logits in the loss lets the logits themselves leave it out:
unadjusted, they rank classes as on a balanced set. `pairwise` is the general
form: `delta = prior` is logit adjustment, `delta = 1` balanced cross-entropy.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from ltjax.losses import classification, weights


def prior(counts: jax.Array) -> jax.Array:
  """Returns the shares of the classes: `pi_c = n_c / N`, fp32 `[C]`.

  A class without images is taken to have one, so that its log-prior is finite.

  Args:
    counts: n, `[C]`, float, images a class, 0 or more.

  Example:
    >>> adjustment.prior(jnp.array([30.0, 10.0]))
    Array([0.75, 0.25], dtype=float32)
  """
  counts = _at_least_some(counts)
  return counts / jnp.sum(counts)


def logit_adjustment(
  logits: jax.Array, labels: jax.Array, *, prior: jax.Array, tau: float = 1.0
) -> jax.Array:
  """Logit-adjusted cross-entropy; with tau = 1 the balanced softmax.

  `loss_i = -log softmax(z_i + tau log pi)[y]`
  `= log(1 + sum_{j != y} (pi_j / pi_y)^tau exp(z_ij - z_iy))`

  Args:
    logits: z, `[B, C]`, any float dtype.
    labels: y, integer `[B]` in [0, C).
    prior: pi, `[C]`, float, above 0, of any scale, so counts will do.
    tau: Strength; 0 is the cross-entropy.

  Example:
    >>> pi = jnp.array([0.9, 0.1])
    >>> logits, labels = jnp.zeros((2, 2)), jnp.array([0, 1])
    >>> adjustment.logit_adjustment(logits, labels, prior=pi)
    Array([0.11, 2.3 ], dtype=float32)

  Source: Menon et al. (2021), "Long-tail learning via logit adjustment",
    equation 10; Ren et al. (2020), "Balanced meta-softmax", for tau = 1.
  """
  _check(logits, labels, prior)
  return classification.cross_entropy(
    logits.astype(jnp.float32) + (tau * _log(prior))[None, :], labels
  )


def pairwise(
  logits: jax.Array, labels: jax.Array, *, delta: jax.Array, prior: jax.Array
) -> jax.Array:
  """Pairwise margin losses, whose minimizers are right for balanced error.

  `loss_i = alpha_y log(1 + sum_{j != y} exp(Delta_yj) exp(z_ij - z_iy))`,
  `alpha_y = delta_y / pi_y`, `Delta_yj = log(delta_j / delta_y)`

  Args:
    logits: z, `[B, C]`, any float dtype.
    labels: y, integer `[B]` in [0, C).
    delta: `[C]`, float, above 0. Its scale is that of the loss: where it sums
      to 1, the weights alpha average 1 over the training set.
    prior: pi, `[C]`, float, above 0, summing to 1.

  Example:
    >>> pi = jnp.array([0.9, 0.1])
    >>> logits, labels = jnp.zeros((2, 2)), jnp.array([0, 1])
    >>> even = jnp.array([0.5, 0.5])
    >>> adjustment.pairwise(logits, labels, delta=even, prior=pi)
    Array([0.39, 3.47], dtype=float32)

  Source: Menon et al. (2021), equation 11 and Theorem 1.
  """
  _check(logits, labels, prior)
  chex.assert_equal_shape([delta, prior])
  alpha = delta.astype(jnp.float32) / prior.astype(jnp.float32)
  # The sum over the others is a softmax over z + log delta.
  losses = logit_adjustment(logits, labels, prior=delta)
  return weights.of_labels(alpha, labels) * losses


def vs(
  logits: jax.Array,
  labels: jax.Array,
  *,
  counts: jax.Array,
  gamma: float = 0.3,
  tau: float = 1.0,
) -> jax.Array:
  """Vector scaling: a factor and an offset for each class's logit.

  `loss_i = -log softmax((n / n_max)^gamma * z_i + tau log pi)[y]`

  The offset acts early in training, the factor once the training set is fitted.
  `gamma = 0` leaves logit adjustment, `tau = 0` CDT.

  Args:
    logits: z, `[B, C]`, any float dtype.
    labels: y, integer `[B]` in [0, C).
    counts: n, `[C]`, float, images a class; without any, one.
    gamma, tau: Exponent of the factors, strength of the offsets.

  Example:
    >>> logits, labels = jnp.ones((2, 2)), jnp.array([0, 1])
    >>> adjustment.vs(logits, labels, counts=jnp.array([90.0, 10.0]))
    Array([0.07, 2.75], dtype=float32)

  Source: Kini et al. (2021), "Label-imbalanced and group-sensitive
    classification under overparameterization"; Ye et al. (2020),
    "Identifying and compensating for feature deviation in imbalanced deep
    learning", for CDT.
  """
  counts = _at_least_some(counts)
  _check(logits, labels, counts)
  factors = (counts / jnp.max(counts)) ** gamma
  return logit_adjustment(
    logits.astype(jnp.float32) * factors[None, :],
    labels,
    prior=prior(counts),
    tau=tau,
  )


def _at_least_some(counts: jax.Array) -> jax.Array:
  chex.assert_rank(counts, 1)
  chex.assert_type(counts, float)
  counts = counts.astype(jnp.float32)
  return jnp.where(counts > 0, counts, 1.0)


def _log(values: jax.Array) -> jax.Array:
  return jnp.log(values.astype(jnp.float32))


def _check(logits: jax.Array, labels: jax.Array, prior: jax.Array) -> None:
  chex.assert_rank([logits, labels, prior], [2, 1, 1])
  chex.assert_type([logits, labels, prior], [float, int, float])
  chex.assert_equal_shape_prefix([logits, labels], 1)
  chex.assert_shape(prior, (logits.shape[1],))
