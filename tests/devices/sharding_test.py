"""The mesh: one axis, replicated state, split batches."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest
import toys

from ltjax.devices import sharding
from ltjax.training import fit


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


def memories(rows):
  """A state's kinds of leaves, with a memory of so many rows."""
  learner = toys.learner()
  return learner.init().replace(memory=np.zeros((rows, 4), np.float32))


@pytest.mark.parametrize(
  "rows, devices, split",
  [(8, 4, True), (6, 4, False), (6, 2, True), (0, 4, False), (5, 1, False)],
)
def test_the_rule_splits_memories_that_devices_divide(rows, devices, split):
  mesh = sharding.make_mesh(devices)
  found = sharding.of_state({"model": memories(rows)}, mesh)["model"]
  assert found.memory.spec == PartitionSpec(*["data"] * split)
  others = jax.tree.leaves(found.replace(memory=None))
  assert others and all(s.spec == PartitionSpec() for s in others)


def test_only_what_is_called_memory_is_split():
  mesh, eight = sharding.make_mesh(4), np.zeros((8, 3))
  tree = {"memory": eight, "extra": [eight]}  # a key is no field
  assert all(
    s.spec == PartitionSpec()
    for s in jax.tree.leaves(sharding.of_state(tree, mesh))
  )
  seeds = memories(8).replace(memory=np.zeros((8, 8, 4)))
  assert sharding.of_state(seeds, mesh).memory.spec == PartitionSpec()


@pytest.mark.parametrize(
  "rows, devices, padded", [(79, 4, 80), (80, 4, 80), (79, 1, 79), (0, 4, 0)]
)
def test_rows_are_padded_to_a_multiple(rows, devices, padded):
  assert sharding.padded(rows, sharding.make_mesh(devices)) == padded


def test_a_state_is_placed_and_described_by_the_rule():
  mesh, state = sharding.make_mesh(4), memories(8)
  placed, shaped = sharding.place(state, mesh), sharding.shaped(state, mesh)
  toys.assert_same(placed, state)
  for array, shape in zip(
    jax.tree.leaves(placed), jax.tree.leaves(shaped), strict=True
  ):
    assert array.shape == shape.shape and array.dtype == shape.dtype
    assert array.sharding == shape.sharding
  assert {s.data.shape for s in placed.memory.addressable_shards} == {(2, 4)}


@pytest.mark.parametrize("devices", [1, 4])
def test_training_keeps_the_memory_split(devices):
  mesh = sharding.make_mesh(devices)
  learner = toys.learner(mesh=mesh, unlabeled=(17, 12, 6, 4))  # 79 samples
  stage = toys.consistency_stage(learner, epochs=1)
  state = learner.init().replace(pseudo_labels=np.zeros(39, np.int32))
  ticks = fit.fit(
    stage, stage.init(state), *stage.prepare(state), mesh=mesh, steps_per_call=1
  )
  for tick in ticks:
    memory = tick.state.memory
    assert memory.sharding.spec == PartitionSpec(*["data"] * (devices > 1))
  assert len(memory) == (79 if devices == 1 else 80)
  np.testing.assert_array_equal(memory[79:], 0)  # padding is never written
  visited = np.asarray(memory.sum(-1) > 0.5)
  assert visited.sum() == 9 * toys.BATCH  # each once, but for what is left over


def test_one_process_reads_all_rows_of_a_batch():
  index = np.array([5, 3, 8, 1], np.int32)
  for devices in (1, 2, 4):
    mesh = sharding.make_mesh(devices)
    np.testing.assert_array_equal(sharding.local(index, mesh), index)
    rows = np.stack([index, -index], 1)
    batch = sharding.assemble(rows, mesh)
    np.testing.assert_array_equal(batch, rows)
    assert batch.sharding == sharding.batched(mesh)
