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
