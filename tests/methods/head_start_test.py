"""A cosine head that starts where the classes are."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
import runs
import tiny_backbone

from ltjax.devices import sharding
from ltjax.methods import build, head_start


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  runs.write_set(runs.SET)
  tiny_backbone.register(monkeypatch)
  return tmp_path


def config(folder, start):
  return runs.config(
    model__name=tiny_backbone.NAME,
    model__weights=tiny_backbone.save(folder),
    model__head="cosine",
    start__head=str(start),
  )


def begun(folder, start):
  """Returns the learner, and the head that it begins with."""
  mesh, made = sharding.make_mesh(1), config(folder, start)
  task = build.build_task(made, mesh, None)
  learner = build.build_learner(made, task, mesh)
  state = head_start.begin(learner, learner.init(), made)
  if start == "random":
    chex.assert_trees_all_equal(state, learner.init())
    return learner, None
  for head in (state.head, state.balanced_head):
    np.testing.assert_array_equal(head["kernel"], state.head["kernel"])
  return learner, np.asarray(state.head["kernel"])


def test_at_random_it_is_the_networks_own(place):
  begun(place, "random")


def test_class_means(place):
  learner, kernel = begun(place, "class_means")
  x = np.array(
    learner.predictor.features(
      learner.init(), learner.task.images[: learner.task.num_labeled]
    )
  )
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  for label in range(4):
    mean = x[np.asarray(learner.task.labels) == label].mean(0)
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(kernel[:, label], expected, atol=1e-5)


def test_features_of_names(place):
  names = np.random.default_rng(0).normal(size=(4, tiny_backbone.DIM))
  np.save("names.npy", names)
  _, kernel = begun(place, "names.npy")
  expected = (names / np.linalg.norm(names, axis=1, keepdims=True)).T
  np.testing.assert_allclose(kernel, expected, rtol=1e-5)


def test_features_behind_a_projection(place, monkeypatch):
  rng = np.random.default_rng(0)
  names, projection = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
  np.save("names.npy", names)
  given = tiny_backbone.tensors() | {"visual.proj": np.float32(projection)}
  np.savez("clip.npz", **given)
  layout = tiny_backbone.ARCHITECTURE.layouts(8)[0]
  layouts = (layout._replace(unused="classifier|visual.*"),)
  made = tiny_backbone.ARCHITECTURE._replace(layouts=lambda size: layouts)
  monkeypatch.setattr(tiny_backbone, "ARCHITECTURE", made)
  tiny_backbone.register(monkeypatch)
  monkeypatch.setattr(tiny_backbone, "save", lambda folder: "clip.npz")
  _, kernel = begun(place, "names.npy")
  expected = projection @ names.T
  expected /= np.linalg.norm(expected, axis=0)
  np.testing.assert_allclose(kernel, expected, rtol=1e-4)


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    (None, "start.head is 'names.npy', which is no .npy file"),
    ((3, 6), r"names.npy has the shape \(3, 6\); .* row for each of the 4"),
    ((4, 5), "the weights hold no projection into the space of texts"),
  ],
)
def test_bad_files(place, shape, message):
  if shape:
    np.save("names.npy", np.ones(shape))
  with pytest.raises(ValueError, match=message):
    begun(place, "names.npy")


def test_a_class_without_images_has_no_mean(place):
  mesh, made = sharding.make_mesh(1), config(place, "class_means")
  learner = build.build_learner(made, build.build_task(made, mesh, None), mesh)
  labels = jax.numpy.where(learner.task.labels == 3, 2, learner.task.labels)
  task = dataclasses.replace(learner.task, labels=labels)
  learner = dataclasses.replace(learner, task=task)
  with pytest.raises(ValueError, match="Labeled images of each class.* is 0"):
    head_start.begin(learner, learner.init(), made)
