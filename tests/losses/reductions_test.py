import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import weights as reductions


def test_golden():
  losses = jnp.array([1.0, 2.0, 4.0])
  weights = jnp.array([3.0, 1.0, 0.0])
  assert float(reductions.mean(losses, weights)) == pytest.approx(5 / 3)
  assert float(reductions.weighted_mean(losses, weights)) == pytest.approx(
    5 / 4
  )


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_slow_reference(seed):
  rng = np.random.default_rng(seed)
  losses, weights = rng.exponential(size=(2, 17))
  args = jnp.asarray(losses, jnp.float32), jnp.asarray(weights, jnp.float32)
  total = sum(w * x for w, x in zip(weights, losses))
  np.testing.assert_allclose(
    jax.jit(reductions.mean)(*args), total / 17, rtol=1e-6
  )
  np.testing.assert_allclose(
    jax.jit(reductions.weighted_mean)(*args), total / sum(weights), rtol=1e-6
  )


def test_weights_of_1_are_no_weights():
  losses = jnp.array([1.0, 2.0, 6.0])
  assert reductions.mean(losses, jnp.ones(3)) == 3
  assert reductions.weighted_mean(losses, jnp.ones(3)) == 3


def test_only_the_plain_mean_keeps_the_scale_of_weights():
  losses, weights = jnp.array([1.0, 3.0]), jnp.array([2.0, 6.0])
  ten = 10 * weights
  assert reductions.mean(losses, ten) == 10 * reductions.mean(losses, weights)
  np.testing.assert_allclose(
    reductions.weighted_mean(losses, ten),
    reductions.weighted_mean(losses, weights),
    rtol=1e-6,
  )
  # With one example the weighted mean has no weight left.
  assert reductions.weighted_mean(losses[:1], weights[:1]) == losses[0]


def test_no_weight_at_all():
  losses, zero = jnp.array([1.0, 3.0]), jnp.zeros(2)
  for reduce in (reductions.mean, reductions.weighted_mean):
    assert reduce(losses, zero) == 0
    np.testing.assert_array_equal(jax.grad(reduce)(losses, zero), zero)


def test_gradients():
  losses, weights = jnp.array([1.0, 3.0]), jnp.array([1.0, 4.0])
  np.testing.assert_allclose(
    jax.grad(reductions.mean)(losses, weights), [0.5, 2.0]
  )
  np.testing.assert_allclose(
    jax.grad(reductions.weighted_mean)(losses, weights), [0.2, 0.8]
  )


def test_a_loss_that_is_not_finite_shows():
  losses = jnp.array([1.0, jnp.nan])
  for reduce in (reductions.mean, reductions.weighted_mean):
    assert np.isnan(reduce(losses, jnp.ones(2)))
    assert np.isnan(reduce(losses, jnp.array([1.0, 0.0])))


def test_bfloat16_is_widened_first():
  losses = jnp.full(1000, 1.0, jnp.bfloat16)
  for reduce in (reductions.mean, reductions.weighted_mean):
    got = reduce(losses, losses)
    assert got.dtype == jnp.float32 and got == 1


@pytest.mark.parametrize(
  "losses, weights",
  [
    (jnp.ones(3), jnp.ones(2)),
    (jnp.ones((3, 1)), jnp.ones((3, 1))),
    (jnp.ones(3), jnp.ones(3, int)),
  ],
)
def test_wrong_shapes_and_types(losses, weights):
  for reduce in (reductions.mean, reductions.weighted_mean):
    with pytest.raises(AssertionError):
      reduce(losses, weights)
