"""The projection of contrastive learning, and the unit sphere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import projections


def test_equals_numpy():
  head = projections.mlp(6, hidden=4, dim=3)
  params = head.init(jax.random.key(0))
  x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
  first, second = (
    {name: np.asarray(array) for name, array in params[layer].items()}
    for layer in ("first", "second")
  )
  units = np.maximum(x @ first["kernel"] + first["bias"], 0)
  assert (units == 0).any() and (units > 0).any()
  expected = units @ second["kernel"] + second["bias"]
  np.testing.assert_allclose(head.apply(params, x), expected, rtol=1e-5)


def test_starts_as_pytorchs_linear_layers():
  params = projections.mlp(64, hidden=16, dim=200).init(jax.random.key(0))
  for layer, fan in (("first", 64), ("second", 16)):
    kernel = np.asarray(params[layer]["kernel"])
    assert kernel.shape[0] == fan
    bound = fan**-0.5
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.05)
  assert not np.array_equal(
    params["first"]["bias"], params["second"]["bias"][:16]
  )


def test_no_key_is_used_twice(key_reuse):
  projections.mlp(3, hidden=2, dim=2).init(jax.random.key(0))


@pytest.mark.parametrize("hidden, dim", [(4, 0), (0, 4), (-1, 4)])
def test_sizes_below_one(hidden, dim):
  with pytest.raises(ValueError, match="dim and hidden must be 1 or more"):
    projections.mlp(6, hidden=hidden, dim=dim)


def test_unit_has_length_one_at_every_scale():
  x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  for scale in (1e-8, 1.0, 1e12):
    out = projections.unit(jnp.asarray(x * scale))
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, rtol=1e-5)
  assert projections.unit(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.float32


def test_unit_of_zero_is_zero_with_a_finite_gradient():
  zero = jnp.zeros((2, 3))
  np.testing.assert_array_equal(projections.unit(zero), zero)
  grad = jax.grad(lambda x: jnp.sum(projections.unit(x)))(zero)
  assert np.all(np.isfinite(grad))


def test_unit_gradient_does_not_change_the_length():
  """Gradients are at right angles to the row."""
  x = jnp.asarray([[3.0, 4.0]])
  grad = jax.grad(lambda x: projections.unit(x)[0, 0])(x)
  np.testing.assert_allclose(jnp.sum(grad * x), 0, atol=1e-6)
  np.testing.assert_allclose(grad, [[0.128, -0.096]], rtol=1e-5)


def batch_norm(*, last_norm, hidden=4, dim=3):
  """Returns a projection of 6 features, with norms that are not the start's."""
  head = projections.batch_norm_mlp(
    6, hidden=hidden, dim=dim, last_norm=last_norm
  )
  params, stats = head.init(jax.random.key(0))
  rng = np.random.default_rng(1)

  def moved(x):
    return jnp.asarray(rng.uniform(0.5, 2.0, x.shape), jnp.float32)

  for name in stats:
    params[name] = jax.tree.map(moved, params[name])
    stats[name] = jax.tree.map(moved, stats[name])
  return head, params, stats


def slow_norm(params, stats, x, train):
  mean, var = stats["mean"], stats["var"]
  if train:
    mean, var = x.mean(0), x.var(0)
  x = (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]
  kept = {
    "mean": 0.9 * stats["mean"] + 0.1 * mean,
    "var": 0.9 * stats["var"] + 0.1 * var,
  }
  return x, kept if train else stats


@pytest.mark.parametrize("last_norm", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_mlp_equals_numpy(last_norm, train):
  head, params, stats = batch_norm(last_norm=last_norm)
  x = np.random.default_rng(0).normal(size=(5, 6))
  found, found_stats = head.apply(params, stats, jnp.float32(x), train)
  p, s = jax.tree.map(np.float64, jax.device_get((params, stats)))
  expected = {}
  y = x @ p["first"]["kernel"] + p["first"]["bias"]
  y, expected["first_norm"] = slow_norm(
    p["first_norm"], s["first_norm"], y, train
  )
  assert (y < 0).any() and (y > 0).any()
  y = np.maximum(y, 0) @ p["second"]["kernel"]
  if last_norm:
    y, expected["second_norm"] = slow_norm(
      p["second_norm"], s["second_norm"], y, train
    )
  np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)
  assert found_stats.keys() == expected.keys()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    found_stats,
    expected,
  )


def test_batch_norm_mlp_starts_normalised():
  """Scales of 1, and a batch of the result of mean 0 and variance 1."""
  head = projections.batch_norm_mlp(6, hidden=8, dim=3, last_norm=True)
  params, stats = head.init(jax.random.key(0))
  assert set(params) == {"first", "first_norm", "second", "second_norm"}
  assert set(params["second"]) == {"kernel"}  # BatchNorm would undo a bias
  x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 6)), jnp.float32)
  found, _ = head.apply(params, stats, x, True)
  assert found.shape == (64, head.dim) and found.dtype == jnp.float32
  np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(found.var(0), 1, rtol=1e-3)


def test_batch_norm_mlp_in_evaluation_returns_its_statistics():
  """The very same object, and an image does not see the others."""
  head, params, stats = batch_norm(last_norm=True)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)
  whole, same = head.apply(params, stats, x, False)
  assert same is stats
  alone, _ = head.apply(params, stats, x[:1], False)
  np.testing.assert_allclose(whole[:1], alone, rtol=1e-5)


def test_batch_norm_mlp_of_equal_images_is_finite():
  head, params, stats = batch_norm(last_norm=True)
  x = jnp.ones((2, 6))

  def total(params):
    return jnp.sum(head.apply(params, stats, x, True)[0] ** 2)

  for leaf in jax.tree.leaves(jax.grad(total)(params)):
    assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("hidden, dim", [(4, 0), (0, 4), (-1, 4)])
def test_batch_norm_mlp_sizes_below_one(hidden, dim):
  with pytest.raises(ValueError, match="dim and hidden must be 1 or more"):
    projections.batch_norm_mlp(6, hidden=hidden, dim=dim, last_norm=True)
