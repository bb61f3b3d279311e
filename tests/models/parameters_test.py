"""Parts of parameters: what belongs to them, and putting them back."""

import jax
import jax.numpy as jnp
import numpy as np
import toys

from ltjax import models
from ltjax.models import parameters, projections


def tree():
  return {
    "conv": {"kernel": jnp.ones((3, 3, 1, 2))},
    "norm": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
    "linear": {"kernel": jnp.ones((2, 4)), "bias": jnp.zeros(4)},
    "odd": {"kernel": jnp.ones(3), "scaled": jnp.ones(1)},
    "deep": {"er": {"norm": {"scale": jnp.ones(1), "bias": jnp.zeros(1)}}},
  }


def names(part):
  """Returns the paths of a part's leaves."""
  flat, _ = jax.tree_util.tree_flatten_with_path(part)
  return {"/".join(key.key for key in path) for path, _ in flat}


def test_kernels_have_two_axes_or_more():
  assert names(parameters.kernels(tree())) == {"conv/kernel", "linear/kernel"}


def test_norms_are_scales_and_the_biases_beside_them():
  assert names(parameters.norms(tree())) == {
    *("norm/scale", "norm/bias"),
    *("deep/er/norm/scale", "deep/er/norm/bias"),
  }


def test_layers_without_a_part_are_left_out():
  assert set(parameters.norms(tree())) == {"norm", "deep"}
  assert parameters.norms({"linear": {"kernel": jnp.ones((1, 1))}}) == {}


def test_put_changes_the_part_and_nothing_else():
  params = tree()
  found = parameters.put(
    params, jax.tree.map(lambda x: x + 7, parameters.norms(params))
  )
  assert jax.tree.structure(found) == jax.tree.structure(params)
  for name in ("scale", "bias"):
    np.testing.assert_array_equal(found["norm"][name], params["norm"][name] + 7)
    inner = found["deep"]["er"]["norm"][name]
    np.testing.assert_array_equal(inner, params["deep"]["er"]["norm"][name] + 7)
  for layer in ("conv", "linear", "odd"):
    assert found[layer] is params[layer]
  np.testing.assert_array_equal(params["norm"]["scale"], 1)  # not in place


def test_an_empty_part_changes_nothing():
  toys.assert_same(parameters.put(tree(), {}), tree())


def test_parts_of_a_residual_network():
  """All convolutions, with the stem and the shortcuts; all BatchNorm."""
  params, stats = jax.eval_shape(
    models.create("resnet8", num_classes=3, image_shape=(8, 8, 3)).init,
    jax.random.key(0),
  )
  kernels = parameters.kernels(params["backbone"])
  leaves = jax.tree.leaves(params["backbone"])
  assert len(jax.tree.leaves(kernels)) == sum(x.ndim == 4 for x in leaves)
  assert {"stem_conv/kernel", "stage2_block1/conv1/kernel"} <= names(kernels)
  norms = parameters.norms(params["backbone"])
  assert len(jax.tree.leaves(norms)) == len(jax.tree.leaves(stats))
  assert len(jax.tree.leaves(kernels)) + len(jax.tree.leaves(norms)) == len(
    leaves
  )


def test_norms_of_a_projection_are_not_its_linear_bias():
  projection = projections.batch_norm_mlp(5, hidden=4, dim=3, last_norm=True)
  params, _ = projection.init(jax.random.key(0))
  assert set(parameters.norms(params)) == {"first_norm", "second_norm"}
