import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import sigmoid


def reference(logits, labels, gamma=0.0):
  losses = []
  for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
    loss = 0.0
    for j, z in enumerate(row):
      p = 1 / (1 + np.exp(-z))
      right = p if j == label else 1 - p
      loss -= (1 - right) ** gamma * np.log(right)
    losses.append(loss)
  return np.array(losses)


def draw(seed, batch=13, classes=5):
  rng = np.random.default_rng(seed)
  logits = jnp.asarray(2 * rng.normal(size=(batch, classes)), jnp.float32)
  return logits, jnp.asarray(rng.integers(0, classes, batch), jnp.int32)


def total(labels, gamma):
  def loss(z):
    return sigmoid.focal_cross_entropy(z, labels, gamma=gamma).sum()

  return loss


def test_golden():
  logits = jnp.array([[0.0, 0.0], [2.0, -1.0]])
  labels = jnp.array([0, 0])
  # 2 log 2; log(1 + e^-2) + log(1 + e^-1)
  np.testing.assert_allclose(
    sigmoid.cross_entropy(logits, labels), [1.3862944, 0.4401897], rtol=1e-6
  )
  # 2 * 0.5 log 2; 0.1192029 * 0.1269280 + 0.2689414 * 0.3132617
  np.testing.assert_allclose(
    sigmoid.focal_cross_entropy(logits, labels, gamma=1.0),
    [0.6931472, 0.0993792],
    rtol=1e-5,
  )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_equals_a_slow_reference(gamma):
  logits, labels = draw(0)
  got = jax.jit(lambda z, y: sigmoid.focal_cross_entropy(z, y, gamma=gamma))(
    logits, labels
  )
  assert got.shape == (13,)
  np.testing.assert_allclose(got, reference(logits, labels, gamma), rtol=2e-5)


def test_gamma_0_is_the_cross_entropy():
  logits, labels = draw(1)
  np.testing.assert_array_equal(
    sigmoid.focal_cross_entropy(logits, labels, gamma=0.0),
    sigmoid.cross_entropy(logits, labels),
  )


def test_gradient_of_the_cross_entropy_is_sigmoid_minus_one_hot():
  logits, labels = draw(2)
  np.testing.assert_allclose(
    jax.grad(total(labels, 0.0))(logits),
    jax.nn.sigmoid(logits) - jax.nn.one_hot(labels, 5),
    atol=1e-6,
  )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_check_gradients(gamma):
  logits, labels = draw(3, batch=2)
  test_util.check_grads(
    total(labels, gamma), (logits,), order=1, rtol=2e-2, eps=1e-2
  )


def test_classes_do_not_compete():
  # The gradient by one logit does not depend on the others.
  logits, labels = draw(4, batch=1)
  moved = logits.at[0, 0].add(3.0)
  one, two = (jax.grad(total(labels, 1.0))(z) for z in (logits, moved))
  np.testing.assert_array_equal(one[0, 1:], two[0, 1:])
  assert one[0, 0] != two[0, 0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_huge_logits(gamma):
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  labels = jnp.array([0, 1])
  np.testing.assert_array_equal(
    sigmoid.focal_cross_entropy(logits, labels, gamma=gamma), [0.0, 2e4]
  )
  np.testing.assert_array_equal(
    jax.grad(total(labels, gamma))(logits), [[0.0, 0.0], [1.0, -1.0]]
  )


def test_bfloat16_is_widened_first():
  logits = jnp.array([[3.0, 1.0, 0.25]], jnp.bfloat16)
  loss = sigmoid.cross_entropy(logits, jnp.array([1]))
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, reference(logits, [1]), rtol=1e-6)


def test_label_outside_and_non_finite_logits_show():
  logits = jnp.zeros((4, 3)).at[3, 0].set(jnp.nan)
  labels = jnp.array([-1, 0, 3, 1])
  for loss in (
    sigmoid.cross_entropy(logits, labels),
    sigmoid.focal_cross_entropy(logits, labels),
  ):
    np.testing.assert_array_equal(np.isnan(loss), [True, False, True, True])


def test_gamma_out_of_range():
  with pytest.raises(ValueError, match="gamma is -1"):
    sigmoid.focal_cross_entropy(jnp.zeros((1, 2)), jnp.array([0]), gamma=-1.0)


@pytest.mark.parametrize(
  "logits, labels",
  [
    (jnp.zeros((3,)), jnp.zeros((3,), int)),
    (jnp.zeros((3, 2)), jnp.zeros((2,), int)),
    (jnp.zeros((3, 2)), jnp.zeros((3,))),
    (jnp.zeros((3, 2), int), jnp.zeros((3,), int)),
  ],
)
def test_wrong_shapes_and_types(logits, labels):
  with pytest.raises(AssertionError):
    sigmoid.cross_entropy(logits, labels)
