"""Evaluators: chosen in a config, run when a stage of any method is over."""

import dataclasses

import numpy as np
import pytest
import toys

from ltjax.methods import evaluators

BLOCK = {"evaluators": "accuracy", "neighbors": 3}


def rows_of(learner, names):
  chosen = evaluators.of(BLOCK | {"evaluators": names}, toys.N)
  learner = dataclasses.replace(learner, evaluators=chosen)
  return learner.report("Toy", head="balanced")(learner.init())


def test_accuracy_alone_is_the_default():
  learner = toys.learner()
  state = learner.init()
  rows = learner.report("Toy", head="balanced")(state)
  assert rows == learner.evaluate(state, model="Toy", head="balanced")
  assert rows == rows_of(learner, "accuracy")


@pytest.mark.parametrize(
  "names", ["accuracy,knn", "knn, accuracy", "knn,accuracy,knn"]
)
def test_the_result_comes_last_and_each_once(names):
  rows = rows_of(toys.learner(), names)
  models = list(dict.fromkeys(row["model"] for row in rows))
  assert models == ["Toy, kNN@3", "Toy"]
  assert {row["kind"] for row in rows} == {"eval"}


def test_neighbors_vote_as_by_hand():
  learner = toys.learner()
  state, task = learner.init(), toys.learner().task

  def unit(images):
    x = np.asarray(learner.predictor.features(state, images), np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

  similar = unit(task.test_images) @ unit(task.images[: task.num_labeled]).T
  labels = np.asarray(task.labels)
  right = 0
  for row, truth in zip(similar, np.asarray(task.test_labels), strict=True):
    nearest = labels[np.argsort(-row, kind="stable")[:3]]
    votes = np.bincount(nearest, minlength=task.num_classes)
    best = [c for c in nearest if votes[c] == votes.max()]
    right += best[0] == truth
  found = next(
    row
    for row in rows_of(learner, "knn,accuracy")
    if row["model"] == "Toy, kNN@3" and row["split"] == "test"
  )
  assert found["accuracy"] == pytest.approx(right / len(similar))


@pytest.mark.parametrize(
  "names, message",
  [
    (
      "accuracy,knm",
      "eval.evaluators names 'knm'; choose of accuracy, knn. Did",
    ),
    ("knn", "eval.evaluators is 'knn', without accuracy"),
    ("", "without accuracy"),
  ],
)
def test_misfits_are_named(names, message):
  with pytest.raises(ValueError, match=message):
    evaluators.of(BLOCK | {"evaluators": names}, toys.N)


def test_more_neighbors_than_images_are_refused_before_training():
  block = {"evaluators": "knn,accuracy", "neighbors": toys.N + 1}
  message = (
    "eval.neighbors is 41, but there are only 40 images to be a neighbor"
  )
  with pytest.raises(ValueError, match=message):
    evaluators.of(block, toys.N)
  evaluators.of(block | {"evaluators": "accuracy"}, toys.N)
