"""What four devices wrote, one and two read, and the other way."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest
import toys

from ltjax.checkpoints import manager as checkpoints
from ltjax.checkpoints import resharding
from ltjax.devices import sharding

ROWS = 6  # which 1 and 2 devices share evenly, and 4 with two rows of padding


def state(mesh, rows=ROWS):
  """A state whose memory tells the samples; rows of padding are zero."""
  model = toys.learner().init()
  memory = np.zeros((sharding.padded(rows, mesh), toys.C), np.float32)
  memory[:rows] = np.arange(1, rows + 1)[:, None]
  tree = {"model": model.replace(memory=jnp.asarray(memory)), "train": None}
  return sharding.place(tree, mesh)


def read(folder, mesh, rows=ROWS):
  shapes = sharding.shaped(jax.eval_shape(lambda: state(mesh, rows)), mesh)
  return checkpoints.read(folder, lambda record: shapes)


def save(folder, tree):
  saved = checkpoints.Checkpoints(folder)
  saved.save((0, 0), tree, {"stage": "x"})
  saved.close()


def test_checkpoints_go_from_four_devices_to_one_to_two_to_four(tmp_path):
  tree, before = state(sharding.make_mesh(4)), 4
  for devices in (1, 2, 4):
    save(tmp_path / str(before), tree)
    mesh = sharding.make_mesh(devices)
    tree, record = read(tmp_path / str(before), mesh)
    assert record["devices"] == before
    toys.assert_same(tree, state(mesh))
    for leaf in jax.tree.leaves(tree):
      assert leaf.sharding.mesh == mesh
    split = ["data"] if devices > 1 else []
    assert tree["model"].memory.sharding.spec == PartitionSpec(*split)
    assert tree["model"].pseudo_labels.is_fully_replicated
    before = devices


def test_more_or_fewer_samples_are_another_data_set(tmp_path):
  save(tmp_path, state(sharding.make_mesh(4)))  # 8 rows: of 5 to 8 samples
  for rows, needed in ((4, 4), (9, 9)):
    with pytest.raises(
      ValueError,
      match=rf"another model or data set \(1 arrays differ; model/memory:"
      rf" stored \[8, 4\], needed \[{needed}, 4\]\)",
    ):
      read(tmp_path, sharding.make_mesh(1), rows)


@pytest.mark.parametrize(
  "stored, wanted, devices, fits",
  [
    ([8, 4], [6, 4], (4, 1), True),
    ([8, 4], [5, 4], (4, 1), True),
    ([8, 4], [4, 4], (4, 1), False),
    ([6, 4], [8, 4], (1, 4), True),
    ([4, 4], [8, 4], (1, 4), False),
    ([6, 4], [7, 4], (1, 1), False),
    ([8, 4], [9, 4], (4, 3), True),  # 7 samples, for instance
    ([8, 4], [12, 4], (4, 3), False),
    ([8, 4], [6, 5], (4, 1), False),  # other classes
    ([0, 4], [3, 4], (4, 4), False),  # a stage without memory
  ],
)
def test_only_padding_may_differ(tmp_path, stored, wanted, devices, fits):
  def check(name):
    resharding.check({name: stored}, {name: wanted}, devices, tmp_path)

  if fits:
    check("train/memory")
  else:
    with pytest.raises(ValueError, match="1 arrays differ; train/memory"):
      check("train/memory")
  with pytest.raises(ValueError, match="1 arrays differ; train/memory_of"):
    check("train/memory_of")


def test_targets_that_do_not_say_where_go_to_one_device():
  target = {"memory": jax.ShapeDtypeStruct((6, 4), jnp.float32)}
  (leaf,) = jax.tree.leaves(resharding.stored(target, {"memory": [6, 4]}))
  assert leaf.sharding.device_set == {jax.devices()[0]}
  assert resharding.num_devices(target) == 1


class Stop(Exception):
  """Ends a run as a kill would, with what is saved."""


def until(stages, epoch):
  """Returns the stages, of which the last one stops before an epoch."""

  def prepare(model):
    arrays, stream = stages[-1].prepare(model)

    def stopped(number):
      if number == epoch:
        raise Stop
      return stream(number)

    return arrays, stopped

  return [*stages[:-1], dataclasses.replace(stages[-1], prepare=prepare)]


def test_a_run_goes_on_with_other_devices(tmp_path):
  """Three epochs on four, one and two devices; 79 samples, one row padded."""

  def made(devices):
    learner = toys.learner(
      mesh=sharding.make_mesh(devices), unlabeled=(17, 12, 6, 4)
    )
    return learner, toys.stages("consistency", learner, epochs=3)

  learner, stages = made(1)
  wanted, rows = toys.execute(tmp_path / "one", learner, stages)
  folder = tmp_path / "three"
  for epoch, devices in ((1, 4), (2, 1)):
    learner, stages = made(devices)
    with pytest.raises(Stop):
      toys.execute(
        folder, learner, until(stages, epoch), checkpoint_every_s=0.0
      )
  learner, stages = made(2)
  found, rows_found = toys.execute(folder, learner, stages)
  assert wanted.memory.shape == (79, 4) and found.memory.shape == (80, 4)
  assert found.memory.sharding.spec == PartitionSpec("data")
  np.testing.assert_array_equal(found.memory[79], np.zeros(4))
  np.testing.assert_allclose(
    found.memory[:79], wanted.memory, rtol=1e-3, atol=1e-5
  )
  toys.assert_rows_close(rows_found, rows, rtol=1e-3)
