import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import classification


def reference(logits, labels):
  losses = []
  for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
    row = row - row.max()
    losses.append(np.log(np.exp(row).sum()) - row[label])
  return np.array(losses)


def test_golden():
  logits = jnp.array([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
  loss = classification.cross_entropy(logits, jnp.array([2, 0]))
  np.testing.assert_allclose(loss, [1.3862944, 3.4401897], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_slow_reference(seed):
  rng = np.random.default_rng(seed)
  logits, labels = 5 * rng.normal(size=(17, 6)), rng.integers(0, 6, 17)
  got = jax.jit(classification.cross_entropy)(
    jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.int32)
  )
  assert got.shape == (17,)
  np.testing.assert_allclose(got, reference(logits, labels), rtol=1e-5)


def test_gradient_is_softmax_minus_one_hot():
  logits = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
  labels = jnp.array([2, 1])

  def total(x):
    return classification.cross_entropy(x, labels).sum()

  expected = jax.nn.softmax(logits) - jax.nn.one_hot(labels, 3)
  np.testing.assert_allclose(jax.grad(total)(logits), expected, atol=1e-6)
  test_util.check_grads(total, (logits,), order=1, rtol=2e-2)


def test_huge_logits():
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  labels = jnp.array([0, 1])

  def total(x):
    return classification.cross_entropy(x, labels).sum()

  np.testing.assert_array_equal(
    classification.cross_entropy(logits, labels), [0.0, 2e4]
  )
  np.testing.assert_array_equal(
    jax.grad(total)(logits), [[0.0, 0.0], [1.0, -1.0]]
  )


def test_bfloat16_is_widened_first():
  logits = jnp.array([[3.0, 1.0, 0.25, 0.125]], jnp.bfloat16)
  labels = jnp.array([1])
  loss = classification.cross_entropy(logits, labels)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, reference(logits, [1]), rtol=1e-6)


def test_label_outside_is_nan_and_only_there():
  loss = classification.cross_entropy(
    jnp.zeros((5, 3)), jnp.array([-1, 0, 2, 3, -3])
  )
  np.testing.assert_array_equal(
    np.isnan(loss), [True, False, False, True, True]
  )


def test_non_finite_logits_show():
  loss = classification.cross_entropy(
    jnp.array([[0.0, jnp.nan], [0.0, 0.0]]), jnp.array([0, 0])
  )
  np.testing.assert_array_equal(np.isnan(loss), [True, False])


@pytest.mark.parametrize(
  "logits, labels",
  [
    (jnp.zeros((3,)), jnp.zeros((3,), int)),
    (jnp.zeros((3, 2)), jnp.zeros((3, 2), int)),
    (jnp.zeros((3, 2)), jnp.zeros((2,), int)),
    (jnp.zeros((3, 2)), jnp.zeros((3,))),
    (jnp.zeros((3, 2), int), jnp.zeros((3,), int)),
  ],
)
def test_wrong_shapes_and_types(logits, labels):
  with pytest.raises(AssertionError):
    classification.cross_entropy(logits, labels)


def focal_reference(logits, labels, gamma):
  losses = []
  for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
    odds = np.exp(row - row.max())
    p = odds[label] / odds.sum()
    losses.append(-((1 - p) ** gamma) * np.log(p))
  return np.array(losses)


def draw(seed, batch=13, classes=5):
  rng = np.random.default_rng(seed)
  logits = jnp.asarray(3 * rng.normal(size=(batch, classes)), jnp.float32)
  return logits, jnp.asarray(rng.integers(0, classes, batch), jnp.int32)


def total(labels, gamma):
  return lambda z: classification.focal(z, labels, gamma=gamma).sum()


def test_golden_focal():
  logits = jnp.array([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
  # 0.75^2 log 4, and (1 - 0.0320586)^2 * 3.4401897
  loss = classification.focal(logits, jnp.array([2, 0]), gamma=2.0)
  np.testing.assert_allclose(loss, [0.77979061, 3.22315061], rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_equals_a_slow_reference(gamma):
  logits, labels = draw(0)
  got = jax.jit(lambda z, y: classification.focal(z, y, gamma=gamma))(
    logits, labels
  )
  assert got.shape == (13,)
  np.testing.assert_allclose(
    got, focal_reference(logits, labels, gamma), rtol=2e-5, atol=1e-7
  )


def test_gamma_0_is_the_cross_entropy_with_its_gradient():
  logits, labels = draw(1)
  np.testing.assert_array_equal(
    classification.focal(logits, labels, gamma=0.0),
    classification.cross_entropy(logits, labels),
  )
  expected = jax.nn.softmax(logits) - jax.nn.one_hot(labels, 5)
  np.testing.assert_allclose(
    jax.grad(total(labels, 0.0))(logits), expected, atol=1e-6
  )


def test_a_larger_gamma_is_a_smaller_loss():
  logits, labels = draw(2)
  losses = [
    classification.focal(logits, labels, gamma=g) for g in (0.0, 0.5, 1.0, 2.0)
  ]
  assert np.all(np.diff(losses, axis=0) < 0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_check_gradients(gamma):
  logits, labels = draw(3, batch=2)
  test_util.check_grads(
    total(labels, gamma), (logits,), order=1, rtol=2e-2, eps=1e-2
  )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_sure_and_right_or_wrong(gamma):
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  labels = jnp.array([0, 1])
  np.testing.assert_array_equal(
    classification.focal(logits, labels, gamma=gamma), [0.0, 2e4]
  )
  np.testing.assert_array_equal(
    jax.grad(total(labels, gamma))(logits), [[0.0, 0.0], [1.0, -1.0]]
  )


def test_nearly_right_keeps_its_digits():
  # Taken as a difference in fp32, 1 - exp(-1e-8) would be 0.
  loss = classification.modulate(jnp.array([1e-8, 1e-4]), gamma=1.0)
  np.testing.assert_allclose(loss, [1e-16, 9.9995e-9], rtol=1e-5)


def test_modulate_after_weights_is_not_weights_after_focal():
  losses = jnp.array([0.5, 2.0])
  weights = jnp.array([4.0, 0.25])
  got = classification.modulate(weights * losses, gamma=1.0)
  # (1 - exp(-2)) * 2, (1 - exp(-0.5)) * 0.5
  np.testing.assert_allclose(got, [1.7293294, 0.1967347], rtol=1e-6)
  assert not np.allclose(
    got, weights * classification.modulate(losses, gamma=1.0)
  )
  np.testing.assert_array_equal(
    classification.modulate(jnp.zeros(2), gamma=0.5), np.zeros(2)
  )


def test_focal_widens_bfloat16_first():
  logits = jnp.array([[3.0, 1.0, 0.25, 0.125]], jnp.bfloat16)
  loss = classification.focal(logits, jnp.array([1]), gamma=1.0)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, focal_reference(logits, [1], 1.0), rtol=1e-6)


def test_label_outside_and_non_finite_logits_show():
  logits = jnp.zeros((4, 3)).at[3, 0].set(jnp.nan)
  loss = classification.focal(logits, jnp.array([-1, 0, 3, 1]))
  np.testing.assert_array_equal(np.isnan(loss), [True, False, True, True])


@pytest.mark.parametrize("gamma", [-0.1, float("nan"), float("inf")])
def test_gamma_out_of_range(gamma):
  with pytest.raises(ValueError, match="gamma is .*0 or more"):
    classification.focal(jnp.zeros((1, 2)), jnp.array([0]), gamma=gamma)


@pytest.mark.parametrize("losses", [jnp.zeros((2, 2)), jnp.zeros(2, int)])
def test_modulate_wrong_shapes_and_types(losses):
  with pytest.raises(AssertionError):
    classification.modulate(losses, gamma=1.0)
