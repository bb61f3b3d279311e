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


codes = jax.jit(clustering.codes, static_argnames=("epsilon", "iterations"))


def draw_scores(rows=12, prototypes=4, seed=0):
  x = np.random.default_rng(seed).normal(size=(rows, prototypes))
  return (x / 3).astype(np.float32)


def sinkhorn_reference(scores, epsilon, iterations, marginal=None):
  """The products of SwAV, in float64: prototypes first, images second."""
  q = np.exp(np.float64(scores) / epsilon).T  # [K, B]
  num_prototypes, num_images = q.shape
  if marginal is None:
    marginal = np.ones(num_prototypes)
  marginal = np.float64(marginal) / np.sum(marginal)
  q /= q.sum()
  for _ in range(iterations):
    q *= (marginal / q.sum(axis=1))[:, None]
    q *= (1 / num_images / q.sum(axis=0))[None, :]
  return (q * num_images).T


@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
@pytest.mark.parametrize("marginal", [None, [8.0, 4.0, 2.0, 1.0]])
def test_codes_equal_numpy(iterations, marginal):
  scores = draw_scores()
  given = None if marginal is None else jnp.array(marginal)
  found = codes(scores, epsilon=0.05, iterations=iterations, marginal=given)
  assert found.shape == (12, 4) and found.dtype == jnp.float32
  expected = sinkhorn_reference(scores, 0.05, iterations, marginal)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_by_hand():
  """Two images nearer to the first prototype: the nearer one gets it."""
  scores = jnp.log(jnp.array([[4.0, 1.0], [1.0, 1.0]]))
  once = codes(scores, epsilon=1.0, iterations=1)
  # Columns: 4/5, 1/5 and 1/2, 1/2. Rows: 8/13 and 2/7.
  np.testing.assert_allclose(
    once, [[8 / 13, 5 / 13], [2 / 7, 5 / 7]], rtol=1e-5
  )
  # The limit keeps the ratio of ratios, 4, and has equal columns: 2/3, 1/3.
  limit = codes(scores, epsilon=1.0, iterations=50)
  np.testing.assert_allclose(limit, [[2 / 3, 1 / 3], [1 / 3, 2 / 3]], rtol=1e-5)


def test_rows_sum_to_one_whenever_it_stops():
  for iterations in (1, 3, 20):
    found = codes(draw_scores(), iterations=iterations)
    np.testing.assert_allclose(jnp.sum(found, axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
  "marginal", [[0.25] * 4, [0.7, 0.2, 0.07, 0.03], [5.0, 0.0, 3.0, 2.0]]
)
def test_many_iterations_reach_the_portions(marginal):
  found = codes(
    draw_scores(40), epsilon=0.2, iterations=300, marginal=jnp.array(marginal)
  )
  share = np.array(marginal) / np.sum(marginal)
  np.testing.assert_allclose(jnp.mean(found, axis=0), share, atol=1e-5)
  np.testing.assert_allclose(jnp.sum(found, axis=1), 1.0, rtol=1e-6)


def test_the_scale_of_portions_does_not_matter():
  portions = jnp.array([8.0, 4.0, 2.0, 1.0])
  one = codes(draw_scores(), marginal=portions)
  other = codes(draw_scores(), marginal=1e6 * portions)
  np.testing.assert_allclose(one, other, rtol=1e-5)
  equal = codes(draw_scores(), marginal=jnp.full(4, 7.0))
  np.testing.assert_allclose(equal, codes(draw_scores()), rtol=1e-5)


def test_constants_on_rows_and_columns_do_not_matter_in_the_end():
  scores = draw_scores()
  moved = scores + draw_scores(12, 1, seed=1) + draw_scores(1, 4, seed=2)
  one, other = (codes(s, epsilon=0.3, iterations=200) for s in (scores, moved))
  np.testing.assert_allclose(one, other, atol=1e-4)


def test_equal_scores_give_the_portions():
  portions = jnp.array([8.0, 4.0, 2.0, 2.0])
  found = codes(jnp.full((5, 4), 0.3), marginal=portions)
  np.testing.assert_allclose(
    found, np.tile([0.5, 0.25, 0.125, 0.125], (5, 1)), rtol=1e-6
  )


def test_a_small_epsilon_makes_codes_hard_and_even():
  """8 images, 4 prototypes: 2 each, though all are nearest to the first."""
  scores = jnp.asarray(draw_scores(8)) + jnp.array([[3.0, 0.0, 0.0, 0.0]])
  assert np.all(np.argmax(scores, axis=1) == 0)
  found = np.asarray(codes(scores, epsilon=0.02, iterations=1000))
  np.testing.assert_allclose(found.sum(0), 2.0, atol=0.05)
  assert np.mean(found.max(axis=1)) > 0.9


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_huge_scores_stay_finite(scale):
  found = codes(scale * jnp.asarray(draw_scores()), epsilon=0.05)
  assert np.all(np.isfinite(found))
  np.testing.assert_allclose(jnp.sum(found, axis=1), 1.0, rtol=1e-5)
  one = jnp.full((3, 4), -1.0).at[:, 2].set(1.0) * scale
  found = codes(one, epsilon=0.05)
  # Equal images share alike whatever the scores.
  np.testing.assert_allclose(found, 0.25, atol=1e-3)


def test_codes_are_constants():
  def total(scores):
    return jnp.sum(codes(scores) ** 2)

  assert not np.any(jax.grad(total)(jnp.asarray(draw_scores())))


def test_bfloat16_is_computed_in_fp32_and_jits():
  half = jnp.asarray(draw_scores(), jnp.bfloat16)
  found = jax.jit(clustering.codes)(half)
  assert found.dtype == jnp.float32
  exact = clustering.codes(half.astype(jnp.float32))
  np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("epsilon", [0.0, -0.05, float("nan")])
def test_epsilon_must_be_positive(epsilon):
  with pytest.raises(ValueError, match=r"must be above 0, such as 0\.05"):
    clustering.codes(draw_scores(), epsilon=epsilon)


def test_an_iteration_is_needed():
  with pytest.raises(ValueError, match="iterations is 0.* 1 or more"):
    clustering.codes(draw_scores(), iterations=0)


def test_shapes_of_codes_must_fit():
  with pytest.raises(AssertionError):
    clustering.codes(draw_scores(), marginal=jnp.ones(3))
