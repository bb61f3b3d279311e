"""Contrastive losses: tell an image's other view from other images.

Two random views of one image are a *positive* pair; views of other images are
its *negatives*. The loss is the cross-entropy of picking the positive out of
all of them by cosine similarity. `info_nce` keeps a queue of negatives. The
others take the batch: its B images have 2B views, each of which is an *anchor*
once and picks among the 2B - 1 others.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from ltjax.losses import classification


def info_nce_logits(
  queries: jax.Array,
  keys: jax.Array,
  queue: jax.Array,
  *,
  temperature: float | jax.Array = 0.2,
) -> jax.Array:
  """Similarities of each query to its key, then to all of the queue.

  `[q_i . k_i, q_i . n_1, ..., q_i . n_K] / temperature`, fp32 `[B, 1 + K]`.
  Keys and queue are constants: gradients flow into the queries only.

  Args:
    queries: q, `[B, D]`, of unit length; any float dtype.
    keys: k, `[B, D]`, of unit length; row i belongs to query i.
    queue: n, `[K, D]`, of unit length, the negatives of every query.
    temperature: above 0, a number or a traced fp32 `[]`; the smaller, the more
      the nearest negatives count; 0 or less is a ValueError.

  Example:
    >>> q, k = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
    >>> queue = jnp.array([[0.0, 1.0], [0.8, 0.6]])
    >>> contrastive.info_nce_logits(q, k, queue)
    Array([[3., 0., 4.]], dtype=float32)

  Source: He et al. (2020), "Momentum contrast for unsupervised visual
    representation learning", Algorithm 1.
  """
  _check_temperature(temperature)
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
  temperature: float | jax.Array = 0.2,
) -> jax.Array:
  """Cross-entropy of finding each query's key among the queue.

  `loss_i = -log(exp(q_i . k_i / t)
  / (exp(q_i . k_i / t) + sum_j exp(q_i . n_j / t)))`.

  It is `log(1 + K)` where nothing can be told apart.

  Args:
    queries, keys, queue, temperature: as of `info_nce_logits`, as are errors.

  Example:
    >>> q, k = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
    >>> queue = jnp.array([[0.0, 1.0], [0.8, 0.6]])
    >>> contrastive.info_nce(q, k, queue)
    Array([1.33], dtype=float32)

  Source: He et al. (2020), Equation 1; van den Oord et al. (2018),
    "Representation learning with contrastive predictive coding".
  """
  logits = info_nce_logits(queries, keys, queue, temperature=temperature)
  return -jax.nn.log_softmax(logits, axis=-1)[:, 0]


def nt_xent(
  first: jax.Array, second: jax.Array, *, temperature: float | jax.Array
) -> jax.Array:
  """Cross-entropy of finding an image's other view among the batch.

  With z the 2B views and i' the other view of i:

  `l(i) = -log(exp(z_i . z_i' / t) / sum_{j != i} exp(z_i . z_j / t))`, 2B - 1
  terms in the sum; `loss_b` is the mean of `l` over the two views of image b.

  It is `log(2B - 1)` where nothing can be told apart.

  Args:
    first, second: `[B, D]`, two views of each image, of unit length; B is 2 or
      more, else a ValueError.
    temperature: t, above 0; a number or a traced fp32 `[]`, of a schedule; 0 or
      less is a ValueError.

  Example:
    >>> first, second = jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]])
    >>> contrastive.nt_xent(first, second, temperature=0.5)
    Array([0.46, 0.59], dtype=float32)

  Source: Chen et al. (2020), "A simple framework for contrastive learning of
    visual representations" (SimCLR), Equation 1 and Algorithm 1.
  """
  log_probs = _log_probabilities(first, second, temperature)
  return _mean_of_views(_of_own_view(log_probs))


def focal_nt_xent(
  first: jax.Array,
  second: jax.Array,
  *,
  temperature: float | jax.Array,
  gamma: float = 2.0,
) -> jax.Array:
  """NT-Xent with less weight for pairs that are found already.

  `l(i) = -(1 - p_i)^gamma log p_i`, `p_i` the probability of the other view
  among the 2B - 1; `loss_b` is the mean over the two views of image b. Images
  of rare classes, learned late, keep their weight. `gamma = 0` is `nt_xent`.

  Args:
    first, second, temperature: as of `nt_xent`, as are errors.
    gamma: the focusing exponent, 0 or more, else a ValueError.

  Example:
    >>> first, second = jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]])
    >>> contrastive.focal_nt_xent(first, second, temperature=0.5)
    Array([0.06, 0.15], dtype=float32)

  Source: Lin et al. (2017), "Focal loss for dense object detection", applied to
    NT-Xent as in the published code of Zhou et al. (2023), "Combating
    representation learning disparity with geometric harmonization".
  """
  log_probs = _log_probabilities(first, second, temperature)
  losses = classification.modulate(_of_own_view(log_probs), gamma=gamma)
  return _mean_of_views(losses)


def sup_con(
  first: jax.Array,
  second: jax.Array,
  labels: jax.Array,
  *,
  temperature: float | jax.Array,
) -> jax.Array:
  """NT-Xent in which all views of the anchor's class are positives.

  `l(i) = -1/|P(i)| sum_{p in P(i)} log(exp(z_i . z_p / t)
  / sum_{j != i} exp(z_i . z_j / t))`

  P(i) holds the other view of the image and both views of each other image with
  the same known label. With no label known, or none twice, it is `nt_xent`. The
  published code multiplies the loss by a second temperature over the first.

  Args:
    first, second, temperature: as of `nt_xent`, as are errors.
    labels: integer `[B]`; below 0, such as -1: unknown.

  Example:
    >>> first, second = jnp.eye(2), jnp.array([[1.0, 0.0], [0.6, 0.8]])
    >>> y = jnp.array([1, 1])
    >>> contrastive.sup_con(first, second, y, temperature=0.5)
    Array([1.39, 1.26], dtype=float32)

  Source: Khosla et al. (2020), "Supervised contrastive learning", Equation 2,
    with the sum outside of the logarithm.
  """
  log_probs = _log_probabilities(first, second, temperature)
  chex.assert_shape(labels, (len(first),))
  chex.assert_type(labels, int)
  labels = jnp.tile(labels, 2)
  same = (labels[:, None] == labels[None, :]) & (labels >= 0)[:, None]
  images = jnp.tile(jnp.arange(len(first)), 2)
  same |= images[:, None] == images[None, :]
  positives = same & ~jnp.eye(len(labels), dtype=bool)
  # Masked before the sum: the anchor's own log-probability is -inf.
  total = jnp.sum(jnp.where(positives, log_probs, 0.0), axis=1)
  count = jnp.sum(positives, axis=1).astype(jnp.float32)
  return _mean_of_views(-total / count)


def _log_probabilities(
  first: jax.Array, second: jax.Array, temperature: float | jax.Array
) -> jax.Array:
  """Log-probability of each view's picking each other, `[2B, 2B]`.

  The B first views come before the B second ones; the diagonal is -inf.
  """
  _check_temperature(temperature)
  chex.assert_rank([first, second], 2)
  chex.assert_equal_shape([first, second])
  chex.assert_type([first, second], float)
  if len(first) < 2:
    raise ValueError(
      f"The batch has {len(first)} image(s); a contrastive loss takes its"
      " negatives from the others of the batch, so it must have 2 or more."
    )
  z = jnp.concatenate([first, second]).astype(jnp.float32)
  logits = jnp.matmul(z, z.T, precision=jax.lax.Precision.HIGHEST) / temperature
  logits = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, logits)
  return jax.nn.log_softmax(logits, axis=1)


def _of_own_view(log_probs: jax.Array) -> jax.Array:
  """-log p of the anchors' other views: `[2B]`."""
  views = jnp.arange(len(log_probs))
  return -log_probs[views, jnp.roll(views, len(views) // 2)]


def _mean_of_views(losses: jax.Array) -> jax.Array:
  return jnp.mean(losses.reshape(2, -1), axis=0)


def _check_temperature(temperature: float | jax.Array) -> None:
  if isinstance(temperature, jax.Array):
    return  # Perhaps traced: no value to look at.
  if not temperature > 0:
    raise ValueError(
      f"temperature is {temperature}; it must be above 0, such as 0.2."
    )
