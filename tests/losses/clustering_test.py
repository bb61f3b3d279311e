import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import clustering


def draw(seed, rows=4, prototypes=3):
  return np.random.default_rng(seed).normal(size=(rows, prototypes))


def drawn():
  """Scores of two views and codes whose rows sum to 1."""
  codes = [np.exp(draw(seed)) for seed in (2, 3)]
  codes = [c / c.sum(1, keepdims=True) for c in codes]
  return [np.float32(x) for x in (draw(0), draw(1), *codes)]


def reference(s1, s2, q1, q2, temperature):
  def cross_entropy(scores, codes):
    e = np.exp(np.float64(scores) / temperature)
    return -np.sum(codes * np.log(e / e.sum(1, keepdims=True)), 1)

  return (cross_entropy(s1, q2) + cross_entropy(s2, q1)) / 2


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equals_numpy(temperature):
  arrays = drawn()
  found = clustering.swapped_prediction(*arrays, temperature=temperature)
  assert found.shape == (4,) and found.dtype == jnp.float32
  expected = reference(*arrays, temperature)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_each_view_answers_for_the_other_one():
  """Views sure of different prototypes: right where codes are swapped."""
  one = jnp.array([[1.0, 0.0]])
  other = jnp.array([[0.0, 1.0]])
  right = clustering.swapped_prediction(
    one, other, other, one, temperature=0.05
  )
  wrong = clustering.swapped_prediction(
    one, other, one, other, temperature=0.05
  )
  assert right[0] < 1e-6
  np.testing.assert_allclose(wrong, [20.0], rtol=1e-6)


def test_scores_that_tell_nothing_are_chance():
  _, _, q1, q2 = drawn()
  same = jnp.full((4, 3), 0.7)
  found = clustering.swapped_prediction(same, same, q1, q2, temperature=0.1)
  np.testing.assert_allclose(found, math.log(3), rtol=1e-6)


def test_codes_are_constants_and_scores_move_to_them():
  arrays = drawn()

  def loss(*arrays):
    return jnp.sum(clustering.swapped_prediction(*arrays, temperature=0.5))

  s1, s2, q1, q2 = jax.grad(loss, argnums=(0, 1, 2, 3))(*arrays)
  assert not np.any(q1) and not np.any(q2)
  # Of a cross-entropy with soft labels: (softmax - codes) / t, over 2 terms.
  expected = (jax.nn.softmax(arrays[0] / 0.5, axis=1) - arrays[3]) / 0.5 / 2
  np.testing.assert_allclose(s1, expected, rtol=1e-4, atol=1e-6)
  expected = (jax.nn.softmax(arrays[1] / 0.5, axis=1) - arrays[2]) / 0.5 / 2
  np.testing.assert_allclose(s2, expected, rtol=1e-4, atol=1e-6)


def test_huge_scores_and_bfloat16():
  _, _, q1, q2 = drawn()
  scores = 1e4 * jnp.asarray(draw(0), jnp.float32)
  found = clustering.swapped_prediction(scores, scores, q1, q2, temperature=0.1)
  assert np.all(np.isfinite(found))
  half = [jnp.asarray(x, jnp.bfloat16) for x in drawn()]
  found = clustering.swapped_prediction(*half, temperature=0.1)
  wide = [x.astype(jnp.float32) for x in half]
  exact = clustering.swapped_prediction(*wide, temperature=0.1)
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, exact)


def test_takes_a_traced_temperature():
  arrays = drawn()
  found = jax.jit(
    lambda t: clustering.swapped_prediction(*arrays, temperature=t)
  )(0.3)
  np.testing.assert_allclose(found, reference(*arrays, 0.3), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(temperature):
  with pytest.raises(ValueError, match=r"must be above 0, such as 0\.1"):
    clustering.swapped_prediction(*drawn(), temperature=temperature)


def test_shapes_must_fit():
  s1, s2, q1, q2 = drawn()
  with pytest.raises(AssertionError):
    clustering.swapped_prediction(s1, s2, q1, q2[:, :2], temperature=0.1)
