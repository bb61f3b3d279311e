import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluation import monitors

feature_std = jax.jit(monitors.feature_std)
effective_rank = jax.jit(monitors.effective_rank)
ALL = (feature_std, effective_rank)


def normal(rows, dim, seed=0):
  return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def test_std_equals_numpy():
  x = normal(50, 7) + 1.5
  u = x / np.linalg.norm(x, axis=1, keepdims=True)
  expected = np.mean(np.std(u, axis=0)) * np.sqrt(7)
  found = feature_std(x)
  assert found.shape == () and found.dtype == jnp.float32
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_std_of_even_directions_is_1():
  both = np.concatenate([np.eye(6), -np.eye(6)]).astype(np.float32)
  np.testing.assert_allclose(feature_std(both), 1.0, rtol=1e-6)
  np.testing.assert_allclose(feature_std(normal(20000, 16)), 1.0, atol=0.01)
  corner = feature_std(np.maximum(normal(20000, 64), 0))
  np.testing.assert_allclose(corner, np.sqrt(1 - 1 / np.pi), atol=0.02)


def test_std_of_one_direction_is_0():
  """Lengths do not count."""
  x = np.outer([1.0, 2.0, 30.0], [0.6, 0.8, 0.1]).astype(np.float32)
  assert float(feature_std(x)) < 1e-6


def participation(x):
  x = np.float64(x) - np.float64(x).mean(0)
  values = np.linalg.eigvalsh(x.T @ x)
  return values.sum() ** 2 / (values**2).sum()


@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (9, 9)])
def test_effective_rank_equals_numpy(shape):
  """By whichever of the two matrices is smaller."""
  x = normal(*shape) * np.linspace(0.1, 2, shape[1], dtype=np.float32) + 3
  found = effective_rank(x)
  assert found.shape == () and found.dtype == jnp.float32
  np.testing.assert_allclose(found, participation(x), rtol=1e-3)


@pytest.mark.parametrize("directions", [1, 3, 5])
def test_effective_rank_counts_even_directions(directions):
  both = np.concatenate([np.eye(8), -np.eye(8)])[:, :8]
  both = both[np.abs(both[:, :directions]).sum(1) > 0].astype(np.float32)
  for offset in (0.0, 5.0):
    found = effective_rank(both + offset)
    np.testing.assert_allclose(found, directions, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 7e20])
def test_effective_rank_of_one_point_is_0(value):
  x = jnp.full((333, 5), value, jnp.float32)
  assert float(effective_rank(x)) == 0.0


@pytest.mark.parametrize("monitor", ALL)
def test_zeros_are_0(monitor):
  assert float(monitor(jnp.zeros((4, 3)))) == 0.0


@pytest.mark.parametrize("monitor", ALL)
@pytest.mark.parametrize("scale", [1e-9, 1e15])
def test_scale_does_not_matter(monitor, scale):
  x = normal(30, 5)
  found = monitor(jnp.asarray(scale * x, jnp.float32))
  np.testing.assert_allclose(found, monitor(x), rtol=1e-4)


@pytest.mark.parametrize("monitor", ALL)
def test_rotation_and_bfloat16(monitor):
  x = normal(30, 5)
  half = jnp.asarray(x, jnp.bfloat16)
  found = monitor(half)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, monitor(x), rtol=0.02)
  if monitor is not ALL[0]:
    turn, _ = np.linalg.qr(normal(5, 5, seed=1))
    np.testing.assert_allclose(monitor(x @ turn), monitor(x), rtol=1e-4)


def test_watching_leaves_no_gradient():
  for monitor in ALL[:2]:
    assert not np.any(jax.grad(monitor)(jnp.asarray(normal(6, 3))))
