"""What a task tells of itself."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.augment import transforms
from ltjax.data.host import storage as storing


def test_a_task_is_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    toys.task().pad = 1


def test_counts_and_parts():
  task = toys.task(validation=2)
  assert (task.num_classes, task.num_labeled) == (toys.C, toys.N)
  assert task.unlabeled_images.shape == (toys.M, 4, 4, 1)
  np.testing.assert_array_equal(task.unlabeled_images, task.images[toys.N :])
  assert task.unlabeled_images is task.unlabeled_images  # A copy for all loops.
  assert task.test_counts == (5, 5, 5, 5)
  absent = dataclasses.replace(task, test_labels=np.array([0, 2, 2]))
  assert absent.test_counts == (1, 0, 2, 0)


def test_the_networks_input_is_the_crop():
  task = toys.task(size=8)
  assert task.image_shape == (8, 8, 1)
  assert dataclasses.replace(task, crop_size=6).image_shape == (6, 6, 1)


def test_transforms_are_those_of_the_task():
  task = dataclasses.replace(toys.task(size=8), pad=3, pad_mode="reflect")
  images, key = task.images[:6], jax.random.key(0)
  settings = {"mean": task.mean, "std": task.std, "flip": task.flip}
  settings |= {"pad": 3, "pad_mode": "reflect"}
  weak, _ = transforms.make(**settings)
  np.testing.assert_array_equal(
    task.transforms()[0](key, images), weak(key, images)
  )
  strong = jax.jit(task.strong(jnp.bfloat16, "autoaugment"))(key, images)
  assert strong.dtype == jnp.bfloat16
  expected = transforms.strong("autoaugment", dtype=jnp.bfloat16, **settings)
  np.testing.assert_array_equal(strong, jax.jit(expected)(key, images))


def test_a_task_without_a_probe_set_has_an_empty_one():
  """Of the shape and in the place of its images, without being told."""
  task = toys.task()
  plain = dataclasses.replace(task, probe_images=None)
  assert plain.probe_images.shape == (0, 4, 4, 1)
  assert plain.probe_images.dtype == np.uint8
  on_host = dataclasses.replace(
    task, images=storing.put(task.images, "host", None), probe_images=None
  )
  assert on_host.probe_images.shape == (0, 4, 4, 1)
  assert isinstance(on_host.probe_images, type(on_host.images[:1]))


@pytest.mark.parametrize("probe", [False, True])
def test_tables_have_a_probe_set_where_there_is_one(probe):
  task = toys.task(probe=probe)
  assert ("probe" in task.class_table().split("\n")[0]) is probe
  table = task.storage_table()
  assert ("probe images" in table) is probe
  assert "training images" in table and "test images" in table
  if probe:
    assert len(task.probe_labels) == toys.N + toys.M
    assert f"{toys.N + toys.M} of 4 x 4 x 1" in table
