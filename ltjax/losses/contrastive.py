"""Contrastive losses: tell an image's other view from other images.

Nobody needs to know a class for that. Two random views of one image are a
*positive* pair; views of other images are its *negatives*. The loss is the
cross-entropy of picking the positive out of all of them by cosine similarity,
so an embedding learns what survives the augmentation.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def info_nce_logits(
  queries: jax.Array,
  keys: jax.Array,
  queue: jax.Array,
  *,
  temperature: float = 0.2,
) -> jax.Array:
  """Similarities of each query to its key, then to all of the queue.

  `[q_i . k_i, q_i . n_1, ..., q_i . n_K] / temperature`.

  Keys and queue are constants: gradients flow into the queries only.

  Args:
    queries: q, `[B, D]`, of unit length; any float dtype.
    keys: k, `[B, D]`, of unit length; row i belongs to query i.
    queue: n, `[K, D]`, of unit length, the negatives of every query.
    temperature: above 0; the smaller, the more the nearest negatives count.

  Returns:
    fp32 `[B, 1 + K]`; the positive is in column 0.

  Raises:
    ValueError: if `temperature` is not above 0.

  Source: He et al. (2020), "Momentum contrast for unsupervised visual
    representation learning", Algorithm 1.
  """
  if not temperature > 0:
    raise ValueError(
      f"temperature is {temperature}; it must be above 0, such as 0.2."
    )
  chex.assert_rank([queries, keys, queue], 2)
  chex.assert_equal_shape([queries, keys])
  chex.assert_equal(queries.shape[1], queue.shape[1])
  chex.assert_type([queries, keys, queue], float)
  q = queries.astype(jnp.float32)
  k = jax.lax.stop_gradient(keys.astype(jnp.float32))
  n = jax.lax.stop_gradient(queue.astype(jnp.float32))
  positive = jnp.sum(q * k, axis=-1, keepdims=True)
  negative = jnp.matmul(q, n.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.concatenate([positive, negative], axis=-1) / temperature


def info_nce(
  queries: jax.Array,
  keys: jax.Array,
  queue: jax.Array,
  *,
  temperature: float = 0.2,
) -> jax.Array:
  """Cross-entropy of finding each query's key among the queue.

  `loss_i = -log(exp(q_i . k_i / t)
  / (exp(q_i . k_i / t) + sum_j exp(q_i . n_j / t)))`.

  It is `log(1 + K)` where nothing can be told apart, and 0 at best.

  Args:
    queries: q, `[B, D]`, of unit length; any float dtype.
    keys: k, `[B, D]`, of unit length; row i belongs to query i. Constants.
    queue: n, `[K, D]`, of unit length, the negatives. Constants.
    temperature: t, above 0.

  Returns:
    fp32 `[B]`, 0 or more.

  Raises:
    ValueError: if `temperature` is not above 0.

  Source: He et al. (2020), Equation 1; van den Oord et al. (2018),
    "Representation learning with contrastive predictive coding".
  """
  logits = info_nce_logits(queries, keys, queue, temperature=temperature)
  return -jax.nn.log_softmax(logits, axis=-1)[:, 0]
