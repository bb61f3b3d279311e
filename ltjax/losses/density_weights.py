"""Density weights: more for images that are rare, without a label.

A score of how frequent an image is, given its embedding z and prototypes P,
`[K, D]`, can stand in for the class counts of supervised learning:

*   `paper`, `s = sum_k z . p_k`, of FASSL. The loss that learns the prototypes
    compares `h = P z` by cosines, which are the same for `-P`, but `s` changes
    sign with P: from a random start, it is chance whether the rare or the
    frequent images get more weight.
*   `energy`, `s = -|P z|^2`, for which the sign does not matter. On toy data,
    images of frequent kinds are left with the smaller `|P z|`.

`correlation` of the weights with 1 / count tells which way they went.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from ltjax.models import projections

SCORES = ("paper", "energy", "uniform")

# Differences below this share of the magnitude are rounding, not differences.
_ROUNDING = 1e-6


def scores(
  z: jax.Array,
  prototypes: jax.Array,
  *,
  score: str,
  normalize: bool = True,
) -> jax.Array:
  """How frequent an image's kind seems, fp32 `[B]`: more means less weight.

  `paper`: `sum_k z . p_k`; `energy`: `-sum_k (z . p_k)^2`; `uniform`: 0. None
  has a gradient.

  Args:
    z: `[B, D]`, embeddings of the teacher, any float dtype.
    prototypes: `[K, D]`, any float dtype.
    score: `paper`, `energy` or `uniform`, else a ValueError.
    normalize: whether lengths are left out. z is then of unit length; so is
      each prototype for `paper`, while `energy` scales all of P by one number
      (to a Frobenius norm of 1), for row by row `P^T P` would not be kept.

  Example:
    >>> z, prototypes = jnp.eye(2), jnp.array([[0.6, 0.8]])
    >>> density_weights.scores(z, prototypes, score="energy")
    Array([-0.36, -0.64], dtype=float32)

  Source: `paper`: Lin et al. (2023), "Frequency-aware self-supervised
    long-tailed learning" (FASSL), Equation 3, whose weight is `exp(-s)`.
  """
  if score not in SCORES:
    raise ValueError(
      f"score is {score!r}; it must be one of {', '.join(SCORES)}."
    )
  chex.assert_rank([z, prototypes], 2)
  chex.assert_equal(z.shape[1], prototypes.shape[1])
  chex.assert_type([z, prototypes], float)
  if score == "uniform":
    return jnp.zeros(len(z))
  z, p = jax.lax.stop_gradient((z, prototypes))
  z, p = z.astype(jnp.float32), p.astype(jnp.float32)
  if normalize:
    z = projections.unit(z)
    whole = score == "energy"
    p = (
      projections.unit(p.reshape(-1)).reshape(p.shape)
      if whole
      else (projections.unit(p))
    )
  highest = jax.lax.Precision.HIGHEST
  if score == "paper":
    # One product with the sum of the prototypes instead of K.
    return jnp.matmul(z, jnp.sum(p, axis=0), precision=highest)
  h = jnp.matmul(z, p.T, precision=highest)
  return -jnp.sum(h * h, axis=-1)


def weights(
  scores: jax.Array,
  *,
  clip: float = 3.0,
  temperature: float = 1.0,
  standardize: bool = True,
) -> jax.Array:
  """Weights that fall with the score, of mean 1 in the batch.

  `w = B softmax(-c / T)`, `c = clip((s - mean s) / std s, -clip, clip)`

  That is a reading of the paper: `exp(-s)`, its outliers clipped, normalised in
  the batch; fp32 `[B]`, without a gradient. Without `standardize` c is s, and
  the weights are finite for any s; but where scores differ by tens, one image
  has all the weight.

  Args:
    scores: s, `[B]`, finite, any float dtype. Where all are equal, up to
      rounding, all weights are exactly 1.
    clip: the largest distance from the mean, in standard deviations; above 0,
      infinity for none. Only of standardised scores.
    temperature: T, above 0, else a ValueError, as for `clip`.
    standardize: whether scores are standardised in the batch, and clipped.

  Example:
    >>> density_weights.weights(jnp.array([1.0, 2.0, 3.0]))
    Array([2.17, 0.64, 0.19], dtype=float32)

  Source: Lin et al. (2023), Section 4.2: "clip outliers and normalize the
    weights in each mini-batch"; how is not said there.
  """
  for name, value in (("clip", clip), ("temperature", temperature)):
    if not value > 0:
      raise ValueError(f"{name} is {value}; it must be above 0.")
  chex.assert_rank(scores, 1)
  chex.assert_type(scores, float)
  s = jax.lax.stop_gradient(scores.astype(jnp.float32))
  even, centered = _centered(s, jnp.ones(len(s)))
  if standardize:
    square = jnp.mean(centered * centered)
    s = centered * jax.lax.rsqrt(jnp.where(even, 1.0, square))
    s = jnp.clip(s, -clip, clip)
  w = len(s) * jax.nn.softmax(-s / temperature)
  return jnp.where(even, 1.0, w)


def effective_sample_size(w: jax.Array) -> jax.Array:
  """How many even weights are worth as much: `(sum w)^2 / sum w^2`, in [1, B].

  `w` is `[B]`, float, 0 or more; weights that are all 0 give 0.

  Example:
    >>> density_weights.effective_sample_size(jnp.array([1.0, 1.0, 0.0]))
    Array(2., dtype=float32)

  Source: Kish (1965), "Survey sampling".
  """
  chex.assert_rank(w, 1)
  chex.assert_type(w, float)
  w = w.astype(jnp.float32)
  largest = jnp.max(w)
  w = w / jnp.where(largest > 0, largest, 1.0)
  square = jnp.sum(w * w)
  return jnp.sum(w) ** 2 / jnp.where(square > 0, square, 1.0)


def correlation(w: jax.Array, x: jax.Array, mask: jax.Array) -> jax.Array:
  """Pearson's correlation of two numbers an image, fp32 `[]`.

  It is 0 where it is not defined: for fewer than two images, or one of the
  numbers the same for all, up to rounding.

  Args:
    w: `[B]`, float, such as the weights.
    x: `[B]`, float, such as 1 / count of the image's class.
    mask: bool `[B]`, which images count, such as those with a label.

  Example:
    >>> w, x = jnp.array([1.0, 2.0, 9.0]), jnp.array([0.1, 0.3, 0.0])
    >>> density_weights.correlation(w, x, jnp.array([True, True, False]))
    Array(1., dtype=float32)
  """
  chex.assert_rank([w, x, mask], 1)
  chex.assert_equal_shape([w, x, mask])
  chex.assert_type([w, x], float)
  count = mask.astype(jnp.float32)
  even_w, w = _centered(w.astype(jnp.float32), count)
  even_x, x = _centered(x.astype(jnp.float32), count)
  undefined = even_w | even_x
  square = jnp.sum(w * w) * jnp.sum(x * x)
  r = jnp.sum(w * x) * jax.lax.rsqrt(jnp.where(undefined, 1.0, square))
  return jnp.where(undefined, 0.0, jnp.clip(r, -1.0, 1.0))


def _centered(x: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Whether numbers `[B]` are all equal, and their distances to the mean.

  `count` is 1 for those that count. Distances are scaled to a range of 1, which
  keeps squares from overflowing.
  """
  some = count > 0
  low = jnp.min(jnp.where(some, x, jnp.inf))
  span = jnp.max(jnp.where(some, x, -jnp.inf)) - low
  even = ~(span > _ROUNDING * jnp.max(jnp.where(some, jnp.abs(x), 0.0)))
  x = jnp.where(some & ~even, (x - low) / jnp.where(even, 1.0, span), 0.0)
  mean = jnp.sum(x) / jnp.maximum(jnp.sum(count), 1.0)
  return even, jnp.where(some & ~even, x - mean, 0.0)
