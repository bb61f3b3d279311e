"""DARP's solver, against convex solvers in float64 and its own conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from ltjax.semi_supervised import darp

refine = jax.jit(
  darp.refine,
  static_argnames=("variant", "iterations", "sweeps", "tolerance"),
)
keep = jax.jit(darp.keep_confident, static_argnames="alpha")
M, C = 60, 4


def softmaxes(num=M, num_classes=C, scale=1.0, seed=0):
  z = np.random.default_rng(seed).normal(size=(num, num_classes))
  z[:, 0] += 1  # a head class
  return special.softmax(scale * z, axis=1).astype(np.float32)


def targets(num=M, num_classes=C, ratio=0.3):
  shares = ratio ** np.arange(num_classes)
  return (num * shares / shares.sum()).astype(np.float32)


def floored(p):
  p = p.astype(np.float64) + 1e-6
  return p / p.sum(1, keepdims=True)


def objective(x, p):
  """`sum_i w_i KL(x_i || p_i)`, in float64."""
  weights = 1 / special.entr(p).sum(1)
  return (weights * special.rel_entr(x, p).sum(1)).sum()


def test_equals_a_solver_of_the_problem_as_it_is_posed():
  """By SLSQP on all entries, under both constraints, without the dual."""
  p, q = softmaxes(6, 3, seed=1), targets(6, 3, 0.5)
  exact, gap = refine(p, q)
  p64 = floored(p)
  rows = {"type": "eq", "fun": lambda v: v.reshape(6, 3).sum(1) - 1}
  columns = {"type": "eq", "fun": lambda v: (v.reshape(6, 3).sum(0) - q)[:2]}
  slow = optimize.minimize(
    lambda v: objective(v.reshape(6, 3), p64),
    np.tile(q / 6, (6, 1)).reshape(-1),
    bounds=[(1e-9, 1)] * 18,
    constraints=[rows, columns],
    options={"ftol": 1e-12, "maxiter": 500},
  )
  assert slow.success
  np.testing.assert_allclose(exact, slow.x.reshape(6, 3), atol=2e-4)
  np.testing.assert_allclose(gap, 0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_equals_a_solver_of_the_dual(scale):
  p, q = softmaxes(scale=scale), targets().astype(np.float64)
  q *= M / q.sum()  # else the dual has no least
  p64 = floored(p)
  h = special.entr(p64).sum(1)

  def dual(b):
    exponents = np.log(p64) + h[:, None] * b
    excess = special.softmax(exponents, axis=1).sum(0) - q
    return (special.logsumexp(exponents, 1) / h).sum() - q @ b, excess

  slow = optimize.minimize(
    dual, np.zeros(C), jac=True, method="BFGS", options={"gtol": 1e-7}
  )
  expected = special.softmax(np.log(p64) + h[:, None] * slow.x, axis=1)
  np.testing.assert_allclose(expected.sum(0), q, atol=1e-3)
  found, _ = refine(p, q.astype(np.float32))
  np.testing.assert_allclose(found, expected, atol=2e-4)


def test_conditions_of_the_least():
  """`w_i log(x_ij / p_ij)` is a number a row and a number a column."""
  p, q = softmaxes(), targets()
  x, gap = refine(p, q)
  x = np.asarray(x, np.float64)
  np.testing.assert_allclose(x.sum(1), 1, atol=1e-6)
  np.testing.assert_allclose(x.sum(0), q, atol=2e-4)
  np.testing.assert_allclose(gap, np.abs(x.sum(0) - q).max(), atol=1e-5)
  p64 = floored(p)
  weighted = np.log(x / p64) / special.entr(p64).sum(1, keepdims=True)
  columns = weighted - weighted.mean(1, keepdims=True)
  assert columns.std(0).max() < 1e-4 < columns.std(1).max()


def test_nothing_does_better():
  p, q = softmaxes(), targets()
  x = np.asarray(refine(p, q)[0], np.float64)
  least = objective(x, floored(p))
  rng = np.random.default_rng(0)
  for _ in range(20):
    (i, k), (a, b) = rng.choice(M, 2, False), rng.choice(C, 2, False)
    other = x.copy()
    other[[i, k], [a, b]] += 1e-3
    other[[i, k], [b, a]] -= 1e-3  # the same sums
    if other.min() > 0:
      assert objective(other, floored(p)) > least


@pytest.mark.parametrize("variant", darp.VARIANTS)
def test_numbers_that_are_right_leave_pseudo_labels_alone(variant):
  p = softmaxes()
  x, gap = refine(p, p.sum(0), variant=variant)
  np.testing.assert_allclose(x, p, atol=1e-5)
  assert gap < 1e-3


def test_targets_are_scaled_to_the_number_of_images():
  p, q = softmaxes(), targets()
  np.testing.assert_allclose(refine(p, q)[0], refine(p, q / 7)[0], atol=1e-5)


def test_images_that_are_sure_keep_their_label():
  """All that moves is the uncertain half."""
  p = softmaxes()
  p[::2] = np.eye(C)[np.arange(M // 2) % C]
  q = p.sum(0) + np.array([-4, 1, 1, 2], np.float32)
  x, gap = refine(p, q)
  assert gap < 1e-3
  np.testing.assert_allclose(x[::2], p[::2], atol=1e-3)
  assert np.abs(x[1::2] - p[1::2]).max() > 0.1


@pytest.mark.parametrize("case", ["sure", "unseen", "unwanted", "one"])
def test_extremes(case):
  """One class too often and all sure; none of a class; a class of target 0."""
  p, q = softmaxes(), targets()
  if case == "sure":
    p = np.eye(C, dtype=np.float32)[np.arange(M) % 2]
  elif case == "unseen":
    p[:, 3] = 0
    p /= p.sum(1, keepdims=True)
  elif case == "unwanted":
    q[3] = 0
  else:
    q[1:] = 0
  x, gap = refine(p, q)
  assert np.isfinite(x).all() and gap < 1e-3
  np.testing.assert_allclose(np.sum(x, 0), q * M / q.sum(), atol=2e-3)


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_sharp_pseudo_labels_and_reversed_numbers(scale):
  """Nearly every image is sure, and nearly every one must be another's."""
  p = softmaxes(2000, 10, scale, seed=2)
  p = p[np.argsort(p.argmax(1))]  # in order of class: the hardest sums
  q = targets(2000, 10, 1.7)
  x, gap = refine(p, q)
  assert gap <= 2e-5 * 2000
  np.testing.assert_allclose(np.asarray(x).sum(0), q, atol=0.05)


def test_iterations_are_bounded():
  p, q = softmaxes(scale=3.0), targets(ratio=3.0)
  gaps = [float(refine(p, q, iterations=n)[1]) for n in (1, 2, 100)]
  np.testing.assert_allclose(gaps[0], np.abs(p.sum(0) - q).max(), rtol=1e-4)
  assert gaps[0] > gaps[1] > 100 * gaps[2]
  loose = float(refine(p, q, tolerance=0.01)[1])
  assert gaps[2] < loose <= 0.01 * M


def test_the_authors_way_is_that_of_a_slow_loop():
  p, q = softmaxes(), targets()
  p64 = floored(p)
  h = special.entr(p64).sum(1)
  b = np.zeros(C)
  for _ in range(3):
    rows = 1 / (p64 * np.exp(h[:, None] * b)).sum(1)
    for k in range(C):
      b[k] = optimize.brentq(
        lambda v, k=k, rows=rows: (
          (p64[:, k] * rows * np.exp(h * v)).sum() - q[k]
        ),
        -50,
        50,
      )
  expected = special.softmax(np.log(p64) + h[:, None] * b, axis=1)
  found, _ = refine(p, q, variant="author_code", sweeps=3)
  np.testing.assert_allclose(found, expected, atol=2e-3)
  # It is on its way to the least.
  exact, _ = refine(p, q)
  further, _ = refine(p, q, variant="author_code", sweeps=100)
  gaps = [np.abs(x - exact).max() for x in (found, further)]
  assert gaps[1] < 2e-3 < gaps[0]


def test_the_most_confident_are_kept():
  """Golden: of two classes 1.5 times 2 and 1 images, so 3 and 1."""
  p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], np.float32)
  found = keep(p, jnp.array([2.0, 1.0]), alpha=1.5)
  left = np.array([[0.9, 0], [0.8, 0], [0, 0.7], [0.6, 0]])
  left = left * np.array([2 / 2.3, 1 / 0.7]) + 1e-6
  expected = left / left.sum(1, keepdims=True)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert expected.min() > 0


def test_as_many_are_kept_where_all_are_equal():
  p = np.full((10, 2), 0.5, np.float32)
  found = np.asarray(keep(p, jnp.array([2.0, 3.0]), alpha=1.0))
  kept = [[0.5, 0.5]] * 2 + [[0, 1]] + [[0.5, 0.5]] * 7  # the last by 1e-6
  np.testing.assert_allclose(found, kept, atol=1e-5)


def test_infinite_alpha_keeps_all():
  p, q = softmaxes(), targets()
  scaled = p * (q / p.sum(0))
  expected = floored(scaled)
  np.testing.assert_allclose(keep(p, q, alpha=jnp.inf), expected, atol=1e-6)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"variant": "newton"}, "variant is 'newton'; choose one of exact, author"),
    ({"iterations": 0}, "iterations is 0; it must be 1 or more"),
    ({"sweeps": 0}, "sweeps is 0; it must be 1 or more"),
    ({"tolerance": -1.0}, "tolerance is -1.0; it must be 0 or more"),
  ],
)
def test_bad_settings(change, message):
  with pytest.raises(ValueError, match=message):
    darp.refine(jnp.ones((2, 2)) / 2, jnp.ones(2), **change)


def test_bad_alpha_and_shapes():
  p, q = jnp.ones((2, 2)) / 2, jnp.ones(2)
  with pytest.raises(ValueError, match="alpha is 0.0; it must be above 0"):
    darp.keep_confident(p, q, alpha=0.0)
  for function in (darp.refine, darp.keep_confident):
    with pytest.raises(AssertionError):
      function(p, jnp.ones(3))
