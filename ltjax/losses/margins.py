"""Margins by class frequency: LDAM, and its hinge.

A bound on the generalization error of each class asks for margins in proportion
to `n_c^-1/4`. They are lengths on the unit sphere, so logits must be those of
the cosine head, `z = s cos`, with its fixed scale `s`: with a linear head the
network grows its weights until the margins mean nothing, or until it overflows.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from ltjax.losses import classification, weights


def from_counts(counts: jax.Array, *, largest: float = 0.5) -> jax.Array:
  """Returns the margins of LDAM.

  `m_c = largest * (n_min / n_c)^(1/4)`, fp32 `[C]`. A class without images has
  the largest margin, and does not change those of the others.

  Args:
    counts: n, `[C]`, float, images a class, 0 or more.
    largest: The margin of the rarest class, in units of the cosine.

  Example:
    >>> margins.from_counts(jnp.array([160.0, 10.0]))
    Array([0.25, 0.5 ], dtype=float32)

  Source: Cao et al. (2019), "Learning imbalanced datasets with
    label-distribution-aware margin loss", Section 3.2; scaled as in their
    code.
  """
  chex.assert_rank(counts, 1)
  chex.assert_type(counts, float)
  counts = counts.astype(jnp.float32)
  some = counts > 0
  rarest = jnp.min(jnp.where(some, counts, jnp.inf))
  ratio = jnp.where(some, rarest / jnp.where(some, counts, 1.0), 1.0)
  return largest * ratio**0.25


def ldam(
  logits: jax.Array, labels: jax.Array, *, margins: jax.Array, scale: float
) -> jax.Array:
  """Label-distribution-aware margin loss.

  `loss_i = -log softmax(z_i - s m_y e_y)[y]`, `z = s cos`: the cross-entropy
  after the label's cosine is lowered by its margin.

  Args:
    logits: z, `[B, C]`, any float dtype: cosines times `scale`, as the cosine
      head returns them.
    labels: y, integer `[B]` in [0, C).
    margins: m, `[C]`, float, in units of the cosine.
    scale: s, the scale of the cosine head; 30 in the authors' code.

  Example:
    >>> cosines, labels = jnp.array([[0.5, 0.1], [0.5, 0.1]]), jnp.array([0, 1])
    >>> m = margins.from_counts(jnp.array([160.0, 10.0]))
    >>> margins.ldam(10.0 * cosines, labels, margins=m, scale=10.0)
    Array([0.2, 9. ], dtype=float32)

  Source: Cao et al. (2019), Section 3.2.
  """
  _check(logits, labels, margins)
  lowered = scale * margins.astype(jnp.float32)[None, :]
  lowered = lowered * jax.nn.one_hot(labels, logits.shape[1])
  return classification.cross_entropy(
    logits.astype(jnp.float32) - lowered, labels
  )


def ldam_hinge(
  logits: jax.Array, labels: jax.Array, *, margins: jax.Array, scale: float
) -> jax.Array:
  """The hinge loss that LDAM makes smooth (LDAM-HG).

  `loss_i = max(max_{j != y} z_ij - z_iy + s m_y, 0)`, `z = s cos`

  This is `s` times the hinge on the cosines of the paper, so that it lies below
  `ldam` by at most log C.

  Args:
    logits, labels, margins, scale: as of `ldam`; C of 2 or more.

  Example:
    >>> cosines, labels = jnp.array([[0.5, 0.1], [0.5, 0.1]]), jnp.array([0, 1])
    >>> m = margins.from_counts(jnp.array([160.0, 10.0]))
    >>> margins.ldam_hinge(10.0 * cosines, labels, margins=m, scale=10.0)
    Array([0., 9.], dtype=float32)

  Source: Cao et al. (2019), Section 3.2.
  """
  _check(logits, labels, margins)
  logits = logits.astype(jnp.float32)
  chosen = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
  label_logit = jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1)
  rival = jnp.max(jnp.where(chosen, -jnp.inf, logits), axis=-1)
  margin = weights.of_labels(margins.astype(jnp.float32), labels)
  return jax.nn.relu(rival - label_logit + scale * margin)


def _check(logits: jax.Array, labels: jax.Array, margins: jax.Array) -> None:
  chex.assert_rank([logits, labels, margins], [2, 1, 1])
  chex.assert_equal_shape_prefix([logits, labels], 1)
  chex.assert_type([logits, labels, margins], [float, int, float])
  chex.assert_shape(margins, (logits.shape[1],))
