"""Probe sets: which images an embedding is judged with, or why it cannot be."""

import dataclasses

import numpy as np
import pytest
import toys

from ltjax.data.host import host_images
from ltjax.evaluation import probe_sets


def choose(kind, task, *, shots=0, seed=0):
  return probe_sets.choose(kind, task, shots=shots, seed=seed, protocol="p")


def test_the_labeled_set_is_the_long_tailed_one():
  task = toys.task()
  images, labels = choose("labeled", task)
  assert tuple(np.bincount(labels)) == toys.LABELED
  np.testing.assert_array_equal(images, task.images[: toys.N])
  np.testing.assert_array_equal(labels, task.labels)


@pytest.mark.parametrize("shots, each", [(0, 4), (3, 3), (4, 4)])
def test_few_shots_are_balanced_and_of_the_labeled_set(shots, each):
  task = toys.task()
  images, labels = choose("few_shot", task, shots=shots)
  assert labels.dtype == np.int32
  np.testing.assert_array_equal(np.bincount(labels), [each] * toys.C)
  known = {
    (image.tobytes(), int(label))
    for image, label in zip(np.asarray(task.images[: toys.N]), task.labels)
  }
  found = {(i.tobytes(), int(c)) for i, c in zip(np.asarray(images), labels)}
  assert found <= known and len(found) == each * toys.C


def test_the_pool_has_the_labels_of_all_training_images():
  task = toys.task(probe=True)
  images, labels = choose("pool", task)
  assert len(images) == len(labels) == toys.N + toys.M
  np.testing.assert_array_equal(images, task.probe_images)
  np.testing.assert_array_equal(labels, task.probe_labels)


def test_the_seed_alone_decides_which_are_drawn():
  labels = toys.labels_of((50, 30))
  names = ("a", "b")
  one, same, other = (
    probe_sets.few_shot(labels, shots=5, class_names=names, seed=seed)
    for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, same)
  assert len(set(one)) == 10 and set(one) != set(other)


def test_every_image_has_the_same_chance():
  labels = toys.labels_of((6, 3))
  drawn = np.concatenate(
    [
      probe_sets.few_shot(labels, shots=3, class_names=("a", "b"), seed=seed)
      for seed in range(300)
    ]
  )
  times = np.bincount(drawn, minlength=9)
  np.testing.assert_array_equal(times[6:], 300)  # all three of the class
  assert np.all(abs(times[:6] - 150) < 40)  # 4.6 standard deviations


def test_images_on_the_host_stay_there():
  task = toys.task()
  on_host = host_images.ArrayImages(np.asarray(task.images))
  host = dataclasses.replace(task, images=on_host)
  for kind in ("labeled", "few_shot"):
    images, labels = choose(kind, host)
    expected, expected_labels = choose(kind, task)
    assert isinstance(images, host_images.HostImages)
    np.testing.assert_array_equal(np.asarray(images), expected)
    np.testing.assert_array_equal(labels, expected_labels)


def test_no_pool():
  with pytest.raises(
    ValueError, match="protocol p learns.*data.probe.images=train.*sdclr_fewsh"
  ):
    choose("pool", toys.task())


@pytest.mark.parametrize("kind", ["labeled", "few_shot", "pool"])
def test_a_class_without_labels(kind):
  task = toys.task(probe=True)
  few = np.asarray(task.labels).copy()
  few[few == 2] = 1
  many = np.where(task.probe_labels == 2, 1, task.probe_labels)
  task = dataclasses.replace(task, labels=few, probe_labels=many)
  with pytest.raises(ValueError, match="p needs .* every class; c has none"):
    choose(kind, task)


def test_more_shots_than_a_class_has():
  message = "shots is 5, but d has only 4 labeled images; .* to 4 or less"
  with pytest.raises(ValueError, match=message):
    choose("few_shot", toys.task(), shots=5)
