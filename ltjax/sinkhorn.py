"""Sinkhorn: share images out among prototypes, each with a given portion.

Left to themselves, all images could go to the prototype that is nearest to most
of them. Scaling rows and columns of the similarities in turn until both sums
are as wanted gives the soft assignment that follows the similarities as far as
the portions allow (optimal transport with an entropy term).
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

  `Q = diag(u) exp(scores / epsilon) diag(v)`, rows that sum to 1 and columns
  whose sums are, with enough iterations, proportional to `marginal`.

  An iteration scales the columns first and the rows second, as SwAV does, so
  that rows are exact whenever it stops. All is done with logarithms: no score
  overflows, and a scale of exp(-1e5) is as good as any.

  Args:
    scores: `[B, K]`, similarities of images to prototypes, any float dtype.
      Constants: no gradient flows through the codes.
    epsilon: above 0; the smaller, the nearer each code is to a single
      prototype, and the more iterations the columns need.
    iterations: at least 1.
    marginal: `[K]`, the portion of each prototype, 0 or more with a sum above
      0; of any scale. A prototype of portion 0 gets nothing. None: equal
      portions.

  Returns:
    fp32 `[B, K]`, 0 or more; each row sums to 1.

  Raises:
    ValueError: if `epsilon` is not above 0 or `iterations` below 1.

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
