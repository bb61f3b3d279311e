"""DARP: pseudo labels moved to given numbers of the classes, but no further.

Confident images keep their pseudo labels and uncertain ones give way: of all
`x` whose rows sum to 1 and whose columns to the numbers q, it is the one with
the least `sum_i w_i KL(x_i || p_i)`, where `w_i = 1 / H(p_i)`.

The least is `x_ij ~ p_ij exp(h_i b_j)` with `h_i = H(p_i)`, and the `C` numbers
b minimise the convex `sum_i w_i log sum_j p_ij exp(h_i b_j) - q . b`, whose
gradient is by how much the columns exceed q.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ltjax import require

VARIANTS = ("exact", "author_code")

_FLOOR = 1e-6  # added to each probability


def refine(
  probabilities: jax.Array,
  target: jax.Array,
  *,
  variant: str = "exact",
  iterations: int = 100,
  tolerance: float = 1e-6,
  sweeps: int = 10,
) -> tuple[jax.Array, jax.Array]:
  """Moves pseudo labels to given numbers of the classes.

  1e-6 is added to each probability and the rows are scaled back to sum 1, as in
  the authors' code. So a row that is sure of its class still has an entropy,
  and a class that no image is taken for can be reached.

  Args:
    probabilities: p, float `[M, C]`, rows of sum 1.
    target: q, float `[C]`, 0 or more; scaled to sum M.
    variant: "exact", by Newton's method in all b at once; or "author_code",
      which scales rows and columns in turn, each column by Newton's method to a
      step of 0.1 in b (the logarithm of the equation, where the authors take
      the equation itself by secants, which may fail).
    iterations: most evaluations of "exact", 1 or more, else a ValueError.
    tolerance: ends "exact": the largest gap, as a share of M, 0 or more.
    sweeps: of "author_code", 1 or more, else a ValueError.

  Returns:
    x, float32 `[M, C]`; and the largest gap between a column's sum and its
    target, float32 `[]`, in images.

  Source: Kim et al. (2020), "Distribution aligning refinery of pseudo-label for
    imbalanced semi-supervised learning", Section 3.
  """
  chex.assert_rank([probabilities, target], [2, 1])
  chex.assert_type(probabilities, float)
  num, num_classes = probabilities.shape
  chex.assert_shape(target, (num_classes,))
  require.choice("variant", variant, VARIANTS)
  require.at_least("iterations", iterations, 1)
  require.at_least("sweeps", sweeps, 1)
  require.at_least("tolerance", tolerance, 0)
  p = _floored(probabilities.astype(jnp.float32))
  q = target.astype(jnp.float32)
  q = q * (num / jnp.sum(q))
  log_p = jnp.log(p)
  entropy = -jnp.sum(p * log_p, axis=-1)
  if variant == "exact":
    bias = _newton(log_p, entropy, q, iterations, tolerance)
  else:
    bias = _in_turn(log_p, entropy, q, sweeps)
  x = _biased(log_p, entropy, bias)
  return x, jnp.max(jnp.abs(_excess(x, q)))


def keep_confident(
  probabilities: jax.Array, target: jax.Array, *, alpha: float = 2.0
) -> jax.Array:
  """Removes small probabilities, before `refine`.

  Of class k the `alpha q_k` largest probabilities, rounded down, are kept and
  multiplied by `(q_k + 1e-6) / (their sum + 1e-6)`; the others become 0. Then
  1e-6 is added to all, and the rows are scaled to sum 1.

  Args:
    probabilities: p, float `[M, C]`, rows of sum 1.
    target: q, float `[C]`, images of each class.
    alpha: above 0, else a ValueError; infinity keeps all.

  Source: Kim et al. (2020), Section 3; the numbers from the authors' code.
  """
  chex.assert_rank([probabilities, target], [2, 1])
  num, num_classes = probabilities.shape
  chex.assert_shape(target, (num_classes,))
  require.within("alpha", alpha, "(0, inf]")
  q = target.astype(jnp.float32)
  order = jnp.argsort(probabilities, axis=0, descending=True)
  place = jnp.arange(num, dtype=jnp.float32)[:, None]
  kept = place < jnp.floor(alpha * q)[None]
  columns = jnp.arange(num_classes)[None]
  mask = jnp.zeros(kept.shape, bool).at[order, columns].set(kept)
  left = jnp.where(mask, probabilities.astype(jnp.float32), 0)
  scale = (q + _FLOOR) / (jnp.sum(left, axis=0) + _FLOOR)
  return _floored(left * scale[None])


class _State(NamedTuple):
  """Of Newton's method: where it is, and where it tries to go next.

  Attributes:
    bias: b, `[C]`.
    step: `[C]`.
    slope: `[]`, the derivative along the step, below 0.
    gap: `[]`, the largest gap there.
    count: `[]`, evaluations until now.
  """

  bias: jax.Array
  step: jax.Array
  slope: jax.Array
  gap: jax.Array
  count: jax.Array


def _newton(
  log_p: jax.Array,
  entropy: jax.Array,
  q: jax.Array,
  iterations: int,
  tolerance: float,
) -> jax.Array:
  """Returns b; a step is taken unless it goes far past the least on its line.

  Such a step is cut to a quarter. On a line the function is convex: past its
  least, the derivative, which does not suffer from rounding as the function's
  values do, is above 0.
  """
  longest = 10 / jnp.min(entropy)  # all that b can need is not much more

  def body(at: _State) -> _State:
    bias = at.bias + at.step
    x = _biased(log_p, entropy, bias)
    excess = _excess(x, q)
    step = -_solve(_weights(x, entropy), excess)
    step *= jnp.minimum(1, longest / jnp.max(jnp.abs(step)))
    count = at.count + 1
    there = _State(
      bias, step, jnp.dot(excess, step), jnp.max(jnp.abs(excess)), count
    )
    shorter = at._replace(step=at.step / 4, slope=at.slope / 4, count=count)
    good = jnp.dot(excess, at.step) <= -at.slope / 2
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), there, shorter)

  def unfinished(at: _State) -> jax.Array:
    return (at.count < iterations) & (at.gap > tolerance * len(log_p))

  start = jnp.zeros_like(q)
  zero, infinite = jnp.float32(0), jnp.float32(jnp.inf)
  first = _State(start, start, zero, infinite, jnp.int32(0))
  return jax.lax.while_loop(unfinished, body, first).bias


def _weights(x: jax.Array, entropy: jax.Array) -> jax.Array:
  """Returns `sum_i h_i x_ij x_ik` where j is not k: the Hessian, negated.

  On its diagonal it has minus the sums of the other entries, as all sums of
  rows are 0. Without a difference of large numbers it is exact where x is sure.
  """
  exact = jax.lax.Precision.HIGHEST
  weights = jnp.matmul((entropy[:, None] * x).T, x, precision=exact)
  return jnp.where(jnp.eye(len(weights), dtype=bool), 0, weights)


def _solve(weights: jax.Array, excess: jax.Array) -> jax.Array:
  """Solves `Hessian step = excess`, at unit diagonal and a little above it.

  Adding a number to all of b changes nothing: the eigenvector of 0 is raised.
  """
  diagonal = jnp.maximum(jnp.sum(weights, axis=1), 1e-30)
  scale = jax.lax.rsqrt(diagonal)
  still = jnp.sqrt(diagonal / jnp.sum(diagonal))
  matrix = (
    (1 + 1e-7) * jnp.eye(len(weights))
    - scale[:, None] * weights * scale[None]
    + still[:, None] * still[None]
  )
  return scale * jax.scipy.linalg.solve(matrix, scale * excess, assume_a="pos")


def _in_turn(
  log_p: jax.Array, entropy: jax.Array, q: jax.Array, sweeps: int
) -> jax.Array:
  """Returns b after so many sweeps, each column's with the rows as they are."""
  log_q = jnp.log(jnp.maximum(q, _FLOOR))
  h = entropy[:, None]

  def sweep(_, bias: jax.Array) -> jax.Array:
    rows = log_p - jax.nn.logsumexp(log_p + h * bias[None], -1, keepdims=True)

    def body(at: tuple[jax.Array, jax.Array, jax.Array]):
      bias, moving, count = at
      terms = rows + h * bias[None]
      sums = jax.nn.logsumexp(terms, axis=0)
      slope = jnp.sum(h * jnp.exp(terms - sums[None]), axis=0)
      step = jnp.where(moving, (log_q - sums) / slope, 0)
      return bias + step, jnp.abs(step) > 0.1, count + 1

    moving = jnp.ones(q.shape, bool)
    return jax.lax.while_loop(
      lambda at: jnp.any(at[1]) & (at[2] < 30),
      body,
      (bias, moving, jnp.int32(0)),
    )[0]

  return jax.lax.fori_loop(0, sweeps, sweep, jnp.zeros_like(q))


def _floored(p: jax.Array) -> jax.Array:
  """Adds a little to each entry, rows of sum 1."""
  p = p + _FLOOR
  return p / jnp.sum(p, axis=-1, keepdims=True)


def _biased(log_p: jax.Array, entropy: jax.Array, bias: jax.Array) -> jax.Array:
  return jax.nn.softmax(log_p + entropy[:, None] * bias[None], axis=-1)


def _excess(x: jax.Array, q: jax.Array) -> jax.Array:
  """Returns by how much columns exceed q: sums of small numbers, not large."""
  return jnp.sum(x - q[None] / len(x), axis=0)
