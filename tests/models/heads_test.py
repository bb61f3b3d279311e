import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import heads


def test_linear_by_hand():
  head = heads.linear(2, 3)
  params = {
    "kernel": jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "bias": jnp.array([0.5, 0.0, -0.5]),
  }
  np.testing.assert_array_equal(
    head.apply(params, jnp.array([[1.0, 10.0], [0.0, 0.0]])),
    [[41.5, 52.0, 62.5], [0.5, 0.0, -0.5]],
  )


def test_cosine_by_hand():
  head = heads.cosine(2, 3, scale=10.0)
  params = {"kernel": jnp.array([[3.0, 0.0, -1.0], [4.0, 7.0, 0.0]])}
  np.testing.assert_allclose(
    head.apply(params, jnp.array([[5.0, 0.0], [0.0, 0.01]])),
    [[6.0, 0.0, -10.0], [8.0, 10.0, 0.0]],
    rtol=1e-6,
  )


def test_cosine_ignores_norms():
  head = heads.create("cosine", feature_dim=8, num_classes=5)
  params = head.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (4, 8))
  logits = head.apply(params, x)
  scaled = head.apply({"kernel": 3 * params["kernel"]}, 100 * x)
  np.testing.assert_allclose(scaled, logits, rtol=1e-4, atol=1e-5)
  assert np.abs(logits).max() <= 16 * (1 + 1e-6)


def test_cosine_of_nothing_is_zero_with_zero_gradient():
  head = heads.cosine(4, 3)
  params = head.init(jax.random.key(0))
  zero = jnp.zeros((1, 4))
  np.testing.assert_array_equal(head.apply(params, zero), np.zeros((1, 3)))
  by_params = jax.grad(lambda p: head.apply(p, zero).sum())(params)
  np.testing.assert_array_equal(by_params["kernel"], np.zeros((4, 3)))
  by_x = jax.grad(lambda x: head.apply(params, x).sum())(zero)
  assert np.isfinite(by_x).all()


@pytest.mark.parametrize("name", heads.NAMES)
def test_gradients(name):
  head = heads.create(name, feature_dim=4, num_classes=3)
  params = head.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 4))
  test_util.check_grads(head.apply, (params, x), order=1, rtol=2e-2)


@pytest.mark.parametrize("name", heads.NAMES)
@pytest.mark.parametrize("shape", [(4,), (2, 4), (3, 2, 4)])
def test_any_leading_shape_and_fp32(name, shape):
  head = heads.create(name, feature_dim=4, num_classes=3)
  params = head.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), shape)
  logits = head.apply(params, x.astype(jnp.bfloat16))
  assert logits.shape == (*shape[:-1], 3) and logits.dtype == jnp.float32
  one = head.apply(params, x.reshape(-1, 4)[0])
  np.testing.assert_allclose(
    head.apply(params, x).reshape(-1, 3)[0], one, rtol=1e-5, atol=1e-6
  )


def test_linear_start_values():
  params = heads.linear(400, 300).init(jax.random.key(0))
  for name in ("kernel", "bias"):
    values = np.asarray(params[name])
    assert np.abs(values).max() <= 1 / 20
    assert np.abs(values).max() > 0.98 / 20
    # Of U(-a, a) the standard deviation is a / sqrt(3).
    np.testing.assert_allclose(values.std(), 1 / 20 / np.sqrt(3), rtol=0.1)


def test_cosine_start_values_are_directions():
  params = heads.cosine(400, 300).init(jax.random.key(0))
  assert set(params) == {"kernel"}
  norms = np.linalg.norm(np.asarray(params["kernel"]), axis=0)
  np.testing.assert_allclose(norms, np.ones(300), rtol=1e-5)
  np.testing.assert_allclose(params["kernel"].mean(), 0.0, atol=1e-3)


@pytest.mark.parametrize("name", heads.NAMES)
def test_a_fresh_head_depends_on_its_key_only(name):
  head = heads.create(name, feature_dim=4, num_classes=3)
  one, same, other = (head.init(jax.random.key(k)) for k in (1, 1, 2))
  np.testing.assert_array_equal(one["kernel"], same["kernel"])
  assert not np.array_equal(one["kernel"], other["kernel"])


def test_errors():
  with pytest.raises(ValueError, match="Unknown head 'mlp'; .*linear, cosine"):
    heads.create("mlp", feature_dim=4, num_classes=3)
  for scale in (0.0, -1.0, float("nan")):
    with pytest.raises(ValueError, match=f"scale .* above 0, not {scale}"):
      heads.create("cosine", feature_dim=4, num_classes=3, scale=scale)
