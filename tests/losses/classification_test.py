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
