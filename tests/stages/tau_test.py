"""Tau: given, or the best on validation images, never on test images."""

import dataclasses

import jax
import numpy as np
import pytest
import toys

from ltjax.models import rescaling
from ltjax.stages import tau


def chooser(learner, **settings):
  return tau.Chooser(
    learner.predictor,
    images=learner.task.validation_images,
    labels=learner.task.validation_labels,
    **({"tau": 1.0, "select": True, "field": "block"} | settings),
    switch="pick",
  )


@pytest.fixture(scope="module")
def learner():
  return toys.learner(validation=5)


@pytest.fixture(scope="module")
def trained(learner, tmp_path_factory):
  """A head that favours the frequent classes: little training, long vectors."""
  state, _ = toys.execute(
    tmp_path_factory.mktemp("embedding"),
    learner,
    [toys.embedding_stage(learner, epochs=3)],
  )
  factors = np.array([4.0, 2.0, 1.0, 0.5], np.float32)
  head = rescaling.scale(state.head, factors)
  return state.replace(head=jax.tree.map(jax.numpy.asarray, head))


def test_the_grid_is_that_of_the_code():
  np.testing.assert_allclose(tau.GRID, np.linspace(0, 2, 21), atol=1e-12)


def test_a_given_tau_is_taken(learner, trained):
  given = chooser(learner, tau=0.4, select=False)
  assert given.rows() == []
  assert given.choose(trained, lambda value: 1 / 0) == 0.4
  assert given.rows() == [{"kind": "tau", "tau": 0.4}]


def slow_scores(learner, trained):
  """Mean recall of the validation images at each tau, in NumPy."""
  labels = learner.task.validation_labels
  features = np.asarray(
    learner.predictor.features(trained, learner.task.validation_images)
  )
  kernel = np.asarray(trained.head["kernel"])
  scores = []
  for value in np.linspace(0, 2, 21):
    powers = np.linalg.norm(kernel, axis=0) ** value
    predicted = (features @ (kernel / powers)).argmax(1)
    scores.append(
      np.mean([np.mean(predicted[labels == c] == c) for c in range(toys.C)])
    )
  return scores


def test_the_best_on_validation_images_is_chosen(learner, trained):
  def head_of(value):
    return rescaling.tau_normalize(trained.head, tau=value)

  scores = slow_scores(learner, trained)
  assert max(scores) > scores[0] + 0.1  # there is something to choose
  found = chooser(learner)
  value = found.choose(trained, head_of)
  assert value == pytest.approx(np.linspace(0, 2, 21)[np.argmax(scores)])
  (row,) = found.rows()
  assert row["kind"] == "tau" and row["tau"] == value
  assert row["grid"] == list(tau.GRID)
  np.testing.assert_allclose(row["balanced_accuracy"], scores, atol=1e-6)


def test_the_smallest_of_equally_good_ones_is_chosen(learner, trained):
  found = chooser(learner, tau=1.3)
  assert found.choose(trained, lambda value: trained.head) == 0.0


def test_test_images_have_no_say(learner, trained):
  """With other test images and labels the choice is the same."""
  task = dataclasses.replace(
    learner.task,
    test_images=learner.task.test_images[::-1],
    test_labels=np.zeros_like(learner.task.test_labels),
  )
  other = dataclasses.replace(learner, task=task)
  for one in (learner, other):
    stage = toys.tau_norm_stage(one, select=True)
    state = stage.finish(trained, None)
    rows = stage.report(state)
    if one is learner:
      expected, first = rows, state
  toys.assert_same(state, first)
  assert rows == expected


def test_a_choice_without_validation_images_is_refused():
  learner = toys.learner()
  with pytest.raises(ValueError) as caught:
    chooser(learner)
  message = str(caught.value)
  assert "block.pick chooses tau on validation images, never on" in message
  assert "--config.data.validation.per_class to 1 or more" in message
  assert "--config.block.pick=False" in message
  chooser(learner, select=False)
