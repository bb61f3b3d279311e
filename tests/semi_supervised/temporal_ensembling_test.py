"""Temporal ensembling: the memory, its correction, its limits."""

import jax.numpy as jnp
import numpy as np
import pytest
import semi_toys
import toys

from ltjax.semi_supervised import regularizer, temporal_ensembling
from ltjax.training import step

ROWS = toys.N + toys.M


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


def run(learner, count, *, alpha=0.6, **settings):
  stage = semi_toys.stage(
    learner, temporal_ensembling.make(alpha=alpha), **settings
  )
  return semi_toys.steps(stage, learner.init(), count)


@pytest.fixture(scope="module")
def three_epochs(learner):
  return run(learner, 15)


def test_three_epochs_equal_a_numpy_reference(learner, three_epochs):
  """Algorithm 2 with its own Z, t and targets, image by image."""
  found, indices, arrays = three_epochs
  ensemble, visits = np.zeros((ROWS, toys.C)), np.zeros(ROWS, int)
  consistencies = []
  for before, index in zip(found, indices):
    view, _ = semi_toys.views(learner, before, index, arrays)
    p = semi_toys.softmax(semi_toys.logits(before.params, view))
    total = 0.0
    for row, i in enumerate(index):
      if visits[i]:
        target = ensemble[i] / (1 - 0.6 ** visits[i])
        total += ((p[row] - target) ** 2).mean() / len(index)
      ensemble[i] = 0.6 * ensemble[i] + 0.4 * p[row]
      visits[i] += 1
    consistencies.append(total)
  assert consistencies[0] == 0.0 and min(consistencies[5:]) > 1e-4
  np.testing.assert_allclose(
    found[-1].totals["consistency"], sum(consistencies[10:]), rtol=1e-3
  )
  np.testing.assert_allclose(found[-1].memory, ensemble, rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(
    found[-1].extra["mass"], 1 - 0.6**visits, rtol=1e-5
  )
  # Targets are distributions.
  targets = found[-1].memory / found[-1].extra["mass"][:, None]
  np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-5)


def test_targets_are_those_of_the_epoch_before(three_epochs):
  """Each unlabeled image is drawn once an epoch, and read before written."""
  found, indices, _ = three_epochs
  end = np.asarray(found[5].memory)
  for before, index in zip(found[5:10], indices[5:10]):
    unlabeled = index[toys.BATCH :]
    np.testing.assert_array_equal(
      np.asarray(before.memory)[unlabeled], end[unlabeled]
    )


def test_the_first_epoch_has_no_targets(three_epochs):
  found, _, _ = three_epochs
  assert float(found[5].totals["consistency"]) == 0.0
  assert np.all(np.asarray(found[5].extra["mass"]) > 0)


def test_alpha_0_remembers_the_last_prediction(learner):
  found, indices, arrays = run(learner, 7, alpha=0.0)
  np.testing.assert_array_equal(found[-1].extra["mass"], np.ones(ROWS))
  view, _ = semi_toys.views(learner, found[-2], indices[-1], arrays)
  p = semi_toys.softmax(semi_toys.logits(found[-2].params, view))
  np.testing.assert_allclose(
    np.asarray(found[-1].memory)[indices[-1]], p, rtol=1e-4, atol=1e-6
  )


def test_an_image_twice_in_a_batch_counts_once():
  made = temporal_ensembling.make(alpha=0.5)
  learner = toys.learner()
  stage = semi_toys.stage(learner, made)
  state = stage.init(learner.init())
  logits = jnp.log(jnp.array([[0.1, 0.9, 1e-9, 1e-9], [0.5, 0.5, 1e-9, 1e-9]]))
  logits = jnp.concatenate([logits, jnp.zeros((1, 4))])
  index = jnp.array([7, 7, 3])
  views = regularizer.Views(index, None, logits, None, None)
  _, changes = made.penalty(None, None, state, views)
  seen, other = [0.15, 0.35, 0, 0], np.full(4, 0.125)
  np.testing.assert_allclose(changes["memory"], [seen, seen, other], atol=1e-6)
  batch = step.Batch(*[None] * 10)._replace(index=index)
  expected = np.zeros(ROWS)
  expected[[3, 7]] = 0.5
  np.testing.assert_array_equal(
    made.follow(None, state, batch, None)["mass"], expected
  )


def test_balanced_sampling_repeats_images_within_a_batch(learner):
  """With 4 images a rare class fills a quarter of each batch."""
  found, indices, _ = run(learner, 10, sampler="class_balanced", batch_size=20)
  assert any(len(np.unique(index)) < len(index) for index in indices)
  targets = (
    found[-1].memory / jnp.maximum(found[-1].extra["mass"], 1e-9)[:, None]
  )
  sums = np.asarray(targets.sum(-1))
  np.testing.assert_allclose(sums[sums > 0], 1, rtol=1e-5)


def test_the_target_is_not_moved_by_the_optimizer(three_epochs):
  """Rows of the memory change only where their images are drawn."""
  found, indices, _ = three_epochs
  others = np.setdiff1d(np.arange(ROWS), indices[5])
  np.testing.assert_array_equal(
    np.asarray(found[6].memory)[others], np.asarray(found[5].memory)[others]
  )


def test_the_memory_of_the_run_is_left_alone(learner, tmp_path):
  stage = semi_toys.stage(learner, temporal_ensembling.make())
  start = learner.init()
  start = start.replace(memory=start.memory + 0.25)
  state, _ = toys.execute(tmp_path, learner, [stage], state=start)
  np.testing.assert_array_equal(state.memory, start.memory)
