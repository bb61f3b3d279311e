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
