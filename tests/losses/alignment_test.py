import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import consistency

distance = jax.jit(consistency.normalized_distance)


def draw(rows, dim, seed):
  return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def reference(p, t):
  p, t = np.float64(p), np.float64(t)
  cosines = [a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a, b in zip(p, t)]
  return 2 - 2 * np.array(cosines)


def test_equals_numpy():
  p, t = draw(6, 5, 0), draw(6, 5, 1)
  found = distance(p, t)
  assert found.shape == (6,) and found.dtype == jnp.float32
  np.testing.assert_allclose(found, reference(p, t), rtol=1e-5)


def test_by_hand():
  """The same direction, a right angle, the opposite, and 60 degrees."""
  p = jnp.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
  t = jnp.array([[5.0, 0.0], [0.0, 0.1], [-3.0, 0.0], [1.0, 3**0.5]])
  found = distance(p, t)
  np.testing.assert_allclose(found, [0.0, 2.0, 4.0, 1.0], rtol=1e-6)


def test_of_equal_vectors_is_exactly_zero_and_never_below():
  x = draw(500, 33, 2)
  np.testing.assert_array_equal(distance(x, x), 0.0)
  near = distance(x, x * (1 + 1e-6))
  assert np.all(np.asarray(near) >= 0)


def test_lengths_do_not_matter():
  p, t = draw(4, 3, 0), draw(4, 3, 1)
  scaled = distance(7.5 * p, 0.01 * t)
  np.testing.assert_allclose(scaled, distance(p, t), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge(scale):
  p, t = draw(4, 3, 0), draw(4, 3, 1)
  found = distance(scale * p, scale * t)
  np.testing.assert_allclose(found, reference(p, t), rtol=1e-4)


def test_gradient_is_that_of_the_reference():
  p, t = draw(2, 3, 0), draw(2, 3, 1)
  grad = jax.grad(lambda p: jnp.sum(distance(p, t)))(p)
  for i in range(2):
    for d in range(3):
      moved = np.zeros((2, 3))
      moved[i, d] = 1e-5
      ends = reference(p + moved, t).sum(), reference(p - moved, t).sum()
      slope = (ends[0] - ends[1]) / 2e-5
      np.testing.assert_allclose(grad[i, d], slope, rtol=1e-3, atol=1e-4)
  # A step along the vector changes nothing.
  np.testing.assert_allclose(np.sum(grad * p, axis=1), 0.0, atol=1e-5)


def test_target_is_a_constant():
  p, t = draw(4, 3, 0), draw(4, 3, 1)
  to_p, to_t = jax.grad(lambda p, t: jnp.sum(distance(p, t)), argnums=(0, 1))(
    p, t
  )
  assert np.abs(to_p).max() > 0.01
  assert not np.any(to_t)


def test_a_zero_vector_is_safe():
  zero, x = jnp.zeros((2, 3)), jnp.asarray(draw(2, 3, 0))
  for p, t in ((zero, x), (x, zero)):
    loss, grad = jax.value_and_grad(lambda p, t: jnp.sum(distance(p, t)))(p, t)
    np.testing.assert_allclose(loss, 2.0, rtol=1e-6)
    assert np.abs(grad).max() <= 2.0
  np.testing.assert_array_equal(distance(zero, zero), 0.0)


def test_bfloat16_is_computed_in_fp32():
  p = jnp.asarray(draw(4, 3, 0), jnp.bfloat16)
  t = jnp.asarray(draw(4, 3, 1), jnp.bfloat16)
  found = distance(p, t)
  assert found.dtype == jnp.float32
  exact = distance(p.astype(jnp.float32), t.astype(jnp.float32))
  np.testing.assert_array_equal(found, exact)


def test_shapes_must_fit():
  with pytest.raises(AssertionError):
    consistency.normalized_distance(jnp.ones((2, 3)), jnp.ones((3, 3)))
  with pytest.raises(AssertionError):
    consistency.normalized_distance(jnp.ones(3), jnp.ones(3))
