"""Pruning: the threshold over all layers, ties, and the gradient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import pruning


def kernels(seed=0):
  rng = np.random.default_rng(seed)
  shapes = {"a": (3, 3, 1, 4), "b": (5, 2), "c": (1, 1, 4, 2)}
  scales = {"a": 1.0, "b": 5.0, "c": 0.1}
  return {
    name: jnp.asarray(rng.normal(size=shape) * scales[name], jnp.float32)
    for name, shape in shapes.items()
  }


def slow_masks(weights, fraction):
  """The author's rule, a weight at a time."""
  flat = sorted(
    abs(float(w)) for leaf in weights.values() for w in np.ravel(leaf)
  )
  threshold = flat[min(math.ceil(fraction * len(flat)), len(flat) - 1)]
  result = {}
  for name, leaf in weights.items():
    result[name] = np.zeros(leaf.shape, bool)
    for place in np.ndindex(leaf.shape):
      result[name][place] = abs(float(leaf[place])) >= threshold
  return result


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999999])
def test_equals_a_slow_reference(fraction):
  weights = kernels()
  found = pruning.masks(weights, fraction=fraction)
  expected = slow_masks(weights, fraction)
  for name in weights:
    assert found[name].dtype == bool
    np.testing.assert_array_equal(found[name], expected[name])
  kept = sum(int(jnp.sum(mask)) for mask in found.values())
  assert kept == max(54 - math.ceil(fraction * 54), 1)


def test_golden():
  weights = {
    "a": jnp.array([[0.1, -4.0], [2.0, 0.3]]),
    "b": jnp.array([[-1.0]]),
  }
  found = pruning.masks(weights, fraction=0.5)  # ceil(2.5) = 3: from 2.0 on
  np.testing.assert_array_equal(found["a"], [[False, True], [True, False]])
  np.testing.assert_array_equal(found["b"], [[False]])


def test_threshold_is_that_of_all_layers_together():
  """A layer of small weights may lose all, one of large weights none."""
  weights = {"small": jnp.full((2, 5), 0.1), "large": jnp.full((2, 5), 3.0)}
  found = pruning.masks(weights, fraction=0.5)
  assert not found["small"].any() and found["large"].all()


def test_weights_as_large_as_the_threshold_stay():
  found = pruning.masks({"a": jnp.full((4, 4), -0.5)}, fraction=0.9)
  assert found["a"].all()


def test_nothing_is_pruned_at_zero():
  found = pruning.masks(kernels() | {"zero": jnp.zeros((3, 3))}, fraction=0.0)
  assert all(mask.all() for mask in found.values())


def test_pruned_weights_are_zero_and_get_no_gradient():
  weights = {"a": jnp.array([[0.1, -4.0, 2.0]])}
  mask = pruning.masks(weights, fraction=0.3)  # ceil(0.9) = 1
  pruned = pruning.prune(weights, mask)
  np.testing.assert_array_equal(pruned["a"], [[0.0, -4.0, 2.0]])

  def total(w):
    return jnp.sum(jnp.exp(pruning.prune(w, mask)["a"]))

  grad = jax.grad(total)(weights)["a"]
  np.testing.assert_allclose(grad, [[0.0, np.exp(-4.0), np.exp(2.0)]], 1e-6)


def test_dtype_stays():
  weights = {"a": jnp.ones((2, 2), jnp.bfloat16)}
  pruned = pruning.prune(weights, pruning.masks(weights, fraction=0.5))
  assert pruned["a"].dtype == jnp.bfloat16


@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan"), 1.5])
def test_bad_fractions(fraction):
  with pytest.raises(
    ValueError, match=f"share to prune is {fraction}; it must be in"
  ):
    pruning.masks(kernels(), fraction=fraction)


def test_a_network_without_kernels():
  with pytest.raises(ValueError, match="no kernels that could be pruned"):
    pruning.masks({}, fraction=0.5)
