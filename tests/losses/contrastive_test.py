"""InfoNCE: a loop in NumPy, values by hand, and who gets a gradient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import contrastive


def units(rows, dim=5, seed=0):
  x = np.random.default_rng(seed).normal(size=(rows, dim))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def reference(queries, keys, queue, temperature):
  """One exponential after the other, in float64."""
  losses = []
  for q, k in zip(np.float64(queries), np.float64(keys)):
    positive = math.exp(q @ k / temperature)
    negatives = sum(math.exp(q @ n / temperature) for n in np.float64(queue))
    losses.append(-math.log(positive / (positive + negatives)))
  return losses


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0, 3.0])
def test_equals_numpy(temperature):
  q, k, n = units(4), units(4, seed=1), units(7, seed=2)
  losses = contrastive.info_nce(q, k, n, temperature=temperature)
  assert losses.shape == (4,) and losses.dtype == jnp.float32
  expected = reference(q, k, n, temperature)
  np.testing.assert_allclose(losses, expected, rtol=2e-5)


def test_by_hand():
  """Negatives at a right angle and opposite: e / (e + 1 + 1/e)."""
  q = jnp.array([[1.0, 0.0]])
  queue = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
  loss = contrastive.info_nce(q, q, queue, temperature=1.0)
  np.testing.assert_allclose(loss, [0.4076059644], rtol=1e-6)
  logits = contrastive.info_nce_logits(q, q, queue, temperature=0.5)
  np.testing.assert_allclose(logits, [[2.0, 0.0, -2.0]])


@pytest.mark.parametrize("size", [1, 6, 50])
def test_of_equal_embeddings_is_chance(size):
  """Where all look alike, one of 1 + K is guessed."""
  q = jnp.tile(jnp.array([[0.6, 0.8]]), (3, 1))
  queue = jnp.tile(q[:1], (size, 1))
  loss = contrastive.info_nce(q, q, queue, temperature=0.1)
  np.testing.assert_allclose(loss, math.log(1 + size), rtol=1e-6)


def test_without_negatives_is_zero():
  q = units(3)
  loss = contrastive.info_nce(q, units(3, seed=1), np.zeros((0, 5), np.float32))
  np.testing.assert_array_equal(loss, np.zeros(3))


def test_order_of_the_queue_does_not_matter():
  q, k, n = units(4), units(4, seed=1), units(7, seed=2)
  one = contrastive.info_nce(q, k, n)
  other = contrastive.info_nce(q, k, n[::-1])
  np.testing.assert_allclose(one, other, rtol=1e-6)


def test_an_example_depends_on_its_own_key_only():
  q, k, n = units(4), units(4, seed=1), units(7, seed=2)
  whole = contrastive.info_nce(q, k, n)
  k[1] = -k[1]
  changed = np.asarray(contrastive.info_nce(q, k, n) != whole)
  np.testing.assert_array_equal(changed, [False, True, False, False])


def test_gradient_is_that_of_the_reference():
  q, k, n = units(2), units(2, seed=1), units(3, seed=2)
  grad = jax.grad(lambda q: jnp.sum(contrastive.info_nce(q, k, n)))(q)
  for i in range(2):
    for d in range(5):
      ends = []
      for sign in (1, -1):
        moved = np.float64(q)
        moved[i, d] += sign * 1e-5
        ends.append(sum(reference(moved, k, n, 0.2)))
      slope = (ends[0] - ends[1]) / 2e-5
      np.testing.assert_allclose(grad[i, d], slope, rtol=1e-3, atol=1e-4)


def test_keys_and_queue_get_no_gradient():
  def loss(q, k, n):
    return jnp.sum(contrastive.info_nce(q, k, n))

  arrays = units(4), units(4, seed=1), units(7, seed=2)
  to_q, to_k, to_n = jax.grad(loss, argnums=(0, 1, 2))(*arrays)
  assert np.abs(to_q).max() > 0.01
  assert not np.any(to_k) and not np.any(to_n)


def test_smallest_temperatures_do_not_overflow():
  q = units(4)
  loss, grad = jax.value_and_grad(
    lambda q: jnp.sum(contrastive.info_nce(q, -q, q, temperature=1e-4))
  )(q)
  # The nearest negative is the query itself: a gap of 2 / temperature.
  np.testing.assert_allclose(loss, 4 * 2e4, rtol=1e-3)
  assert np.all(np.isfinite(grad))


def test_bfloat16_is_computed_in_fp32():
  as_bf16 = [
    jnp.asarray(x, jnp.bfloat16)
    for x in (units(4), units(4, seed=1), units(7, seed=2))
  ]
  loss = contrastive.info_nce(*as_bf16)
  assert loss.dtype == jnp.float32
  exact = contrastive.info_nce(*[x.astype(jnp.float32) for x in as_bf16])
  np.testing.assert_array_equal(loss, exact)


@pytest.mark.parametrize("temperature", [0.0, -0.2, float("nan")])
def test_temperature_must_be_positive(temperature):
  q = units(2)
  with pytest.raises(ValueError, match=r"must be above 0, such as 0\.2"):
    contrastive.info_nce(q, q, q, temperature=temperature)


@pytest.mark.parametrize(
  "shapes",
  [((2, 5), (3, 5), (4, 5)), ((2, 5), (2, 5), (4, 3)), ((5,), (5,), (4, 5))],
)
def test_shapes_must_fit(shapes):
  with pytest.raises(AssertionError):
    contrastive.info_nce(*[jnp.ones(shape) for shape in shapes])
