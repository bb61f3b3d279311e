"""The Pi-model: two views, gradients through both."""

import numpy as np
import pytest
import semi_toys
import toys

from ltjax.semi_supervised import pi_model


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


@pytest.fixture(scope="module")
def first(learner):
  stage = semi_toys.stage(learner, pi_model.make())
  return semi_toys.steps(stage, learner.init(), 1)


def test_consistency_equals_a_numpy_reference(learner, first):
  (before, after), (index,), arrays = first
  p, q = (
    semi_toys.softmax(semi_toys.logits(before.params, view))
    for view in semi_toys.views(learner, before, index, arrays)
  )
  expected = semi_toys.squared_error(p, q)
  assert expected > 1e-4
  np.testing.assert_allclose(after.totals["consistency"], expected, rtol=1e-4)
  np.testing.assert_allclose(
    after.totals["loss"],
    after.totals["cross_entropy"] + 3.0 * expected,
    rtol=1e-4,
  )


def test_gradient_flows_through_both_passes(learner, first):
  """The update against finite differences of the NumPy reference."""
  (before, after), (index,), arrays = first
  views = semi_toys.views(learner, before, index, arrays)
  labels = np.asarray(arrays["labels"])[index[:8]]

  def loss(bias):
    params = before.params | {"head": before.params["head"] | {"bias": bias}}
    p, q = (semi_toys.softmax(semi_toys.logits(params, v)) for v in views)
    entropy = -np.log(p[np.arange(8), labels]).mean()
    return entropy + 3.0 * semi_toys.squared_error(p, q)

  bias = np.asarray(before.params["head"]["bias"], np.float64)
  grads = [
    (loss(bias + 1e-5 * unit) - loss(bias - 1e-5 * unit)) / 2e-5
    for unit in np.eye(toys.C)
  ]
  np.testing.assert_allclose(
    after.params["head"]["bias"],
    bias - 0.05 * (np.array(grads) + 5e-4 * bias),
    rtol=1e-4,
    atol=1e-6,
  )


def test_without_augmentation_there_is_no_consistency_loss():
  plain = toys.learner()
  stage = semi_toys.stage(plain, pi_model.make())
  (_, after), _, _ = semi_toys.steps(stage, plain.init(), 1)
  assert float(after.totals["consistency"]) == 0.0


def test_nothing_is_carried(learner, first):
  (before, after), _, _ = first
  assert before.extra == after.extra == {}
  assert before.memory.shape == (0, toys.C)
