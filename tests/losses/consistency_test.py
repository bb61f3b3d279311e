import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import consistency


def reference(target, logits):
  losses = []
  for p, z in zip(
    np.asarray(target, np.float64), np.asarray(logits, np.float64), strict=True
  ):
    q = np.exp(z - z.max())
    q /= q.sum()
    losses.append(
      sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q) if a > 0)
    )
  return np.array(losses)


def draw(seed, batch=9, classes=5):
  rng = np.random.default_rng(seed)
  target = rng.dirichlet(0.3 * np.ones(classes), batch)
  logits = 3 * rng.normal(size=(batch, classes))
  return jnp.asarray(target, jnp.float32), jnp.asarray(logits, jnp.float32)


def total(target):
  return lambda z: consistency.kl_divergence(target, z).sum()


def test_golden():
  target = jnp.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
  logits = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5], [0.25, 0.75]]))
  loss = consistency.kl_divergence(target, logits)
  np.testing.assert_allclose(loss, [0.14384104, 0.6931472, 0.0], atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_slow_reference(seed):
  target, logits = draw(seed)
  loss = jax.jit(consistency.kl_divergence)(target, logits)
  assert loss.shape == (9,)
  np.testing.assert_allclose(
    loss, reference(target, logits), rtol=1e-5, atol=1e-6
  )


def test_gradient_is_that_of_cross_entropy_to_the_stored_softmax():
  # As the authors' released code trains: the same step, another loss value.
  target, logits = draw(0)

  def cross_entropy(z):
    return -jnp.sum(target * jax.nn.log_softmax(z))

  ours = jax.grad(total(target))(logits)
  np.testing.assert_allclose(ours, jax.grad(cross_entropy)(logits), atol=1e-6)
  np.testing.assert_allclose(ours, jax.nn.softmax(logits) - target, atol=1e-6)
  entropy = -np.sum(jax.scipy.special.xlogy(target, target))
  np.testing.assert_allclose(
    cross_entropy(logits) - total(target)(logits), entropy, rtol=1e-5
  )


def test_check_gradients():
  target, logits = draw(1, batch=2)
  # In fp32 the default step of 5e-4 is drowned by the rounding of the loss.
  test_util.check_grads(total(target), (logits,), order=1, rtol=2e-2, eps=1e-2)


def test_row_of_zeros_has_no_loss_and_no_gradient():
  target, logits = draw(2)
  target = target.at[3].set(0.0)
  loss = consistency.kl_divergence(target, logits)
  grad = jax.grad(total(target))(logits)
  assert loss[3] == 0.0 and np.all(np.asarray(grad[3]) == 0.0)
  others = np.arange(9) != 3
  assert np.all(np.asarray(loss)[others] > 0)
  assert np.all(np.abs(grad).sum(-1)[others] > 0)
  huge = jnp.array([[1e4, -1e4], [jnp.inf, 0.0]])[:1]
  zero = jnp.zeros((1, 2))
  assert total(zero)(huge) == 0.0
  np.testing.assert_array_equal(jax.grad(total(zero))(huge), zero)


def test_zero_at_its_own_softmax():
  _, logits = draw(3)
  target = jax.nn.softmax(logits)
  np.testing.assert_allclose(
    consistency.kl_divergence(target, logits), np.zeros(9), atol=1e-6
  )
  np.testing.assert_allclose(
    jax.grad(total(target))(logits), np.zeros((9, 5)), atol=1e-6
  )


def test_target_is_a_constant():
  target, logits = draw(4)
  grad = jax.grad(lambda p: consistency.kl_divergence(p, logits).sum())(target)
  np.testing.assert_array_equal(grad, np.zeros((9, 5)))


def test_huge_logits_and_impossible_classes():
  target = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  np.testing.assert_array_equal(
    consistency.kl_divergence(target, logits), [0.0, 2e4]
  )
  np.testing.assert_array_equal(
    jax.grad(total(target))(logits), [[0.0, 0.0], [1.0, -1.0]]
  )
  masked = jnp.array([[0.0, -jnp.inf]])
  assert consistency.kl_divergence(target[:1], masked)[0] == 0.0
  assert np.isfinite(jax.grad(total(target[:1]))(masked)).all()


def test_bfloat16_is_widened_first():
  target, logits = (a.astype(jnp.bfloat16) for a in draw(5))
  loss = consistency.kl_divergence(target, logits)
  assert loss.dtype == jnp.float32
  expected = consistency.kl_divergence(
    target.astype(jnp.float32), logits.astype(jnp.float32)
  )
  np.testing.assert_array_equal(loss, expected)


@pytest.mark.parametrize(
  "target, logits",
  [
    (jnp.zeros((3,)), jnp.zeros((3,))),
    (jnp.zeros((3, 2)), jnp.zeros((3, 4))),
    (jnp.zeros((1, 2)), jnp.zeros((3, 2))),
    (jnp.zeros((3, 2), int), jnp.zeros((3, 2))),
  ],
)
def test_wrong_shapes_and_types(target, logits):
  with pytest.raises(AssertionError):
    consistency.kl_divergence(target, logits)


def squared(target):
  return lambda z: consistency.mean_squared_error(target, z).sum()


def test_mean_squared_error_golden():
  target = jnp.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
  logits = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5], [0.4, 0.6]]))
  loss = consistency.mean_squared_error(target, logits)
  np.testing.assert_allclose(loss, [0.5625, 0.0, 0.16], atol=1e-6)


def test_mean_squared_error_equals_a_slow_reference():
  target, logits = draw(6)
  loss = jax.jit(consistency.mean_squared_error)(target, logits)
  assert loss.shape == (9,) and loss.dtype == jnp.float32
  for found, p, z in zip(loss, target, np.asarray(logits, float), strict=True):
    q = [np.exp(a) / sum(np.exp(b) for b in z) for a in z]
    expected = sum((a - float(b)) ** 2 for a, b in zip(q, p)) / len(q)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mean_squared_error_is_symmetric_with_gradients_to_both():
  _, a = draw(7)
  _, b = draw(8)

  def loss(a, b):
    return consistency.mean_squared_error(jax.nn.softmax(a), b).sum()

  np.testing.assert_allclose(loss(a, b), loss(b, a), rtol=1e-6)
  by_a, by_b = jax.grad(loss, (0, 1))(a, b)
  swapped = jax.grad(loss, (1, 0))(b, a)
  assert np.abs(by_a).sum() > 0 and np.abs(by_b).sum() > 0
  np.testing.assert_allclose(by_a, swapped[0], atol=1e-7)
  np.testing.assert_allclose(by_b, swapped[1], atol=1e-7)


def test_mean_squared_error_checks_gradients():
  target, logits = draw(9, batch=2)
  test_util.check_grads(
    squared(target), (logits,), order=1, rtol=2e-2, eps=1e-2
  )


def test_mean_squared_error_is_bounded():
  """At most 2 / C, also for huge logits, in bf16 too."""
  target = jnp.array([[1.0, 0.0, 0.0, 0.0]])
  logits = jnp.array([[-1e4, 1e4, 0.0, 0.0]])
  for dtype in (jnp.float32, jnp.bfloat16):
    loss = consistency.mean_squared_error(
      target.astype(dtype), logits.astype(dtype)
    )
    np.testing.assert_array_equal(loss, [0.5])
  assert np.isfinite(jax.grad(squared(target))(logits)).all()


@pytest.mark.parametrize(
  "target, logits",
  [
    (jnp.zeros((3,)), jnp.zeros((3,))),
    (jnp.zeros((2, 3)), jnp.zeros((3, 2))),
    (jnp.zeros((2, 3), int), jnp.zeros((2, 3))),
  ],
)
def test_mean_squared_error_refuses_wrong_shapes(target, logits):
  with pytest.raises(AssertionError):
    consistency.mean_squared_error(target, logits)


distance = jax.jit(consistency.normalized_distance)


def draw_points(rows, dim, seed):
  return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def cosine_reference(p, t):
  p, t = np.float64(p), np.float64(t)
  cosines = [a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a, b in zip(p, t)]
  return 2 - 2 * np.array(cosines)


def test_equals_numpy():
  p, t = draw_points(6, 5, 0), draw_points(6, 5, 1)
  found = distance(p, t)
  assert found.shape == (6,) and found.dtype == jnp.float32
  np.testing.assert_allclose(found, cosine_reference(p, t), rtol=1e-5)


def test_by_hand():
  """The same direction, a right angle, the opposite, and 60 degrees."""
  p = jnp.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
  t = jnp.array([[5.0, 0.0], [0.0, 0.1], [-3.0, 0.0], [1.0, 3**0.5]])
  found = distance(p, t)
  np.testing.assert_allclose(found, [0.0, 2.0, 4.0, 1.0], rtol=1e-6)


def test_of_equal_vectors_is_exactly_zero_and_never_below():
  x = draw_points(500, 33, 2)
  np.testing.assert_array_equal(distance(x, x), 0.0)
  near = distance(x, x * (1 + 1e-6))
  assert np.all(np.asarray(near) >= 0)


def test_lengths_do_not_matter():
  p, t = draw_points(4, 3, 0), draw_points(4, 3, 1)
  scaled = distance(7.5 * p, 0.01 * t)
  np.testing.assert_allclose(scaled, distance(p, t), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge(scale):
  p, t = draw_points(4, 3, 0), draw_points(4, 3, 1)
  found = distance(scale * p, scale * t)
  np.testing.assert_allclose(found, cosine_reference(p, t), rtol=1e-4)


def test_gradient_is_that_of_the_reference():
  p, t = draw_points(2, 3, 0), draw_points(2, 3, 1)
  grad = jax.grad(lambda p: jnp.sum(distance(p, t)))(p)
  for i in range(2):
    for d in range(3):
      moved = np.zeros((2, 3))
      moved[i, d] = 1e-5
      ends = (
        cosine_reference(p + moved, t).sum(),
        cosine_reference(p - moved, t).sum(),
      )
      slope = (ends[0] - ends[1]) / 2e-5
      np.testing.assert_allclose(grad[i, d], slope, rtol=1e-3, atol=1e-4)
  # A step along the vector changes nothing.
  np.testing.assert_allclose(np.sum(grad * p, axis=1), 0.0, atol=1e-5)


def test_target_of_the_distance_is_a_constant():
  p, t = draw_points(4, 3, 0), draw_points(4, 3, 1)
  to_p, to_t = jax.grad(lambda p, t: jnp.sum(distance(p, t)), argnums=(0, 1))(
    p, t
  )
  assert np.abs(to_p).max() > 0.01
  assert not np.any(to_t)


def test_a_zero_vector_is_safe():
  zero, x = jnp.zeros((2, 3)), jnp.asarray(draw_points(2, 3, 0))
  for p, t in ((zero, x), (x, zero)):
    loss, grad = jax.value_and_grad(lambda p, t: jnp.sum(distance(p, t)))(p, t)
    np.testing.assert_allclose(loss, 2.0, rtol=1e-6)
    assert np.abs(grad).max() <= 2.0
  np.testing.assert_array_equal(distance(zero, zero), 0.0)


def test_bfloat16_is_computed_in_fp32():
  p = jnp.asarray(draw_points(4, 3, 0), jnp.bfloat16)
  t = jnp.asarray(draw_points(4, 3, 1), jnp.bfloat16)
  found = distance(p, t)
  assert found.dtype == jnp.float32
  exact = distance(p.astype(jnp.float32), t.astype(jnp.float32))
  np.testing.assert_array_equal(found, exact)


def test_shapes_must_fit():
  with pytest.raises(AssertionError):
    consistency.normalized_distance(jnp.ones((2, 3)), jnp.ones((3, 3)))
  with pytest.raises(AssertionError):
    consistency.normalized_distance(jnp.ones(3), jnp.ones(3))
