"""Re-sampling has an effect: the images that the step is given change.

In the published code of LDAM-DRW the option `Resample` did nothing, as the
loader was built before the sampler. So the classes are counted here where
nothing can come between them and the step: from the pictures inside it.
"""

import collections
import dataclasses

import jax
import numpy as np
import pytest
import toys

from ltjax import methods
from ltjax.training import fit

EPOCHS, STEPS = 8, 5


def train(**sampler):
  """Trains with a sampler; returns the classes seen `[EPOCHS, C]` and a head.

  The class of a toy picture is the brightest of its quadrants.
  """
  batches = []
  learner = toys.learner()

  def transform(key, images):
    jax.debug.callback(lambda x: batches.append(np.array(x)), images)
    return learner.transform(key, images)

  config = toys.config(
    method="supervised",
    epochs=EPOCHS,
    **{f"sampler__{name}": value for name, value in sampler.items()},
  )
  watched = dataclasses.replace(learner, transform=transform)
  (stage,) = methods.stages(watched, config)
  start = watched.init()
  arrays, stream = stage.prepare(start)
  ticks = fit.fit(stage, stage.init(start), arrays, stream, mesh=watched.mesh)
  (last,) = collections.deque(ticks, maxlen=1)
  jax.effects_barrier()
  assert len(batches) == EPOCHS * STEPS
  images = np.stack(batches).reshape(EPOCHS, -1, 2, 2, 2, 2)
  labels = images.sum(axis=(3, 5)).reshape(EPOCHS, -1, 4).argmax(-1)
  counts = np.stack([np.bincount(row, minlength=4) for row in labels])
  return counts, toys.host(last.state.params["head"])


@pytest.fixture(scope="module")
def plain():
  return train(name="random")


def pearson(counts, weights):
  weights = np.asarray(weights, float)
  expected = counts.sum() * weights / weights.sum()
  return np.sum((counts - expected) ** 2 / expected)


def test_without_it_the_step_sees_every_labeled_image_once_an_epoch(plain):
  counts, _ = plain
  np.testing.assert_array_equal(counts, [toys.LABELED] * EPOCHS)


def test_with_it_the_step_sees_the_classes_as_the_sampler_says(plain):
  """3 degrees of freedom; 16.3 has probability 0.001."""
  counts, head = train(name="class_balanced")
  assert pearson(counts.sum(0), [1, 1, 1, 1]) < 16.3
  assert pearson(counts.sum(0), toys.LABELED) > 16.3
  assert toys.differ(head, plain[1])


def test_deferred_it_begins_where_the_config_says(plain):
  counts, head = train(name="class_balanced", defer=0.5)
  np.testing.assert_array_equal(counts[:4], plain[0][:4])
  assert pearson(counts[4:].sum(0), [1, 1, 1, 1]) < 16.3
  assert pearson(counts[4:].sum(0), toys.LABELED) > 16.3
  assert toys.differ(head, plain[1])


def test_progressive_moves_on_with_the_epochs():
  counts, _ = train(name="progressive")
  early, late = counts[:3].sum(0), counts[5:].sum(0)
  assert early[0] > late[0] and early[3] < late[3]
