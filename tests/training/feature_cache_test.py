"""The cache of features: the numbers of the predictor, computed once."""

import jax
import numpy as np
import toys

from ltjax.training import inference


class Counted:
  """A predictor that counts."""

  def __init__(self, predictor):
    self._predictor, self.passes = predictor, 0

  def features(self, state, images):
    self.passes += 1
    return self._predictor.features(state, images)


def test_a_set_passes_an_embedding_once():
  learner = toys.learner(validation=2)
  task, state = learner.task, learner.init()
  counted = Counted(learner.predictor)
  cache = inference.FeatureCache(counted)
  for _ in range(3):
    for images in (task.test_images, task.validation_images):
      np.testing.assert_array_equal(
        cache.features(state, images), learner.predictor.features(state, images)
      )
    # What is behind the features may change.
    state = state.replace(balanced_head=state.head)
  assert counted.passes == 2


def test_another_embedding_is_another_matter():
  learner = toys.learner()
  state, images = learner.init(), learner.task.test_images
  counted = Counted(learner.predictor)
  cache = inference.FeatureCache(counted)
  plain = cache.features(state, images)
  for part in ("backbone", "batch_stats"):
    doubled = jax.tree.map(lambda x: 2 * x, getattr(state, part))
    other = state.replace(**{part: doubled})
    assert toys.differ(cache.features(other, images), plain)
    np.testing.assert_array_equal(
      cache.features(other, images), learner.predictor.features(other, images)
    )
  assert counted.passes == 3
  np.testing.assert_array_equal(cache.features(state, images), plain)
  assert counted.passes == 4  # the last embedding's alone are kept
