"""The mesh: one axis, replicated state, split batches."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from ltjax import sharding


def test_a_mesh_takes_all_devices_or_as_many_as_asked():
  assert sharding.make_mesh().size == len(jax.devices()) == 4
  for count in (1, 2, 4):
    mesh = sharding.make_mesh(count)
    assert mesh.axis_names == ("data",)
    assert list(mesh.devices) == jax.devices()[:count]


@pytest.mark.parametrize("count", [0, -1, 5])
def test_devices_that_are_not_there_are_refused(count):
  with pytest.raises(
    ValueError, match=f"^{count} devices asked for, 4 at hand"
  ):
    sharding.make_mesh(count)


def test_replicated_arrays_are_whole_on_every_device():
  mesh = sharding.make_mesh(4)
  tree = {"x": np.arange(6.0), "key": jax.random.key(1)}
  placed = sharding.replicate(tree, mesh)
  assert len(placed["x"].addressable_shards) == 4
  for shard in placed["x"].addressable_shards:
    np.testing.assert_array_equal(shard.data, np.arange(6.0))
  assert jax.random.key_data(placed["key"]).tolist() == [0, 1]


@pytest.mark.parametrize("axis, shape", [(0, (2, 3)), (1, (8, 1))])
def test_a_batch_axis_is_split(axis, shape):
  mesh = sharding.make_mesh(4)
  placed = sharding.batched(mesh, axis)
  assert placed.spec == PartitionSpec(*[None] * axis, "data")
  size = (8, 3) if axis == 0 else (8, 4)
  array = jax.device_put(np.zeros(size), placed)
  assert {s.data.shape for s in array.addressable_shards} == {shape}


def test_means_over_a_split_batch_are_global():
  """So BatchNorm statistics are; the images are gathered by a split index."""
  mesh = sharding.make_mesh(4)
  rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
  index = np.array([0, 9, 4, 4, 7, 2, 1, 8], np.int32)
  mean = jax.jit(lambda rows, index: jnp.mean(rows[index], 0))(
    sharding.replicate(rows, mesh),
    jax.device_put(index, sharding.batched(mesh)),
  )
  np.testing.assert_allclose(mean, rows[index].mean(0), rtol=1e-5, atol=1e-6)


def test_a_batch_must_divide_among_the_devices():
  sharding.check_batch(12, sharding.make_mesh(4), "refit")
  sharding.check_batch(7, sharding.make_mesh(1), "refit")
  with pytest.raises(ValueError) as caught:
    sharding.check_batch(10, sharding.make_mesh(4), "refit")
  assert "refit.batch_size is 10, which 4 devices cannot share" in str(
    caught.value
  )
  assert "--config.refit.batch_size to a multiple of 4" in str(caught.value)
