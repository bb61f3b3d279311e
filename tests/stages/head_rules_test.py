"""What a classifier stage trains: a whole head, or a scale a class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.models import heads
from ltjax.stages import head_rules


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


@pytest.fixture(scope="module")
def trained(learner, tmp_path_factory):
  state, _ = toys.execute(
    tmp_path_factory.mktemp("embedding"),
    learner,
    [toys.embedding_stage(learner, epochs=6)],
  )
  return state


def test_retraining_is_the_head_itself(learner, trained):
  rule, key = (
    head_rules.make("crt", learner.model, field="f"),
    jax.random.key(3),
  )
  fresh = rule.init(trained, key, True)
  toys.assert_same(fresh, learner.model.head_init(key))
  toys.assert_same(rule.init(trained, key, False), trained.balanced_head)
  features = jax.random.normal(key, (5, toys.D))
  assert rule.frozen(trained) == {}
  np.testing.assert_array_equal(
    rule.logits(fresh, {}, features), learner.model.head_apply(fresh, features)
  )
  assert rule.head(fresh, {}) is fresh


def test_scales_begin_as_the_first_head(learner, trained):
  rule = head_rules.make("lws", learner.model, field="f")
  params = rule.init(trained, jax.random.key(0), True)
  np.testing.assert_array_equal(params["scale"], np.ones(toys.C))
  toys.assert_same(rule.head(params, rule.frozen(trained)), trained.head)


def test_scales_multiply_the_whole_logit(learner, trained):
  rule = head_rules.make("lws", learner.model, field="f")
  features = jax.random.normal(jax.random.key(1), (5, toys.D))
  params = {"scale": jnp.array([1.0, 2.0, 0.0, -3.0])}
  frozen = rule.frozen(trained)
  expected = np.asarray(learner.model.head_apply(trained.head, features))
  expected = expected * np.array([1.0, 2.0, 0.0, -3.0], np.float32)
  np.testing.assert_allclose(
    rule.logits(params, frozen, features), expected, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(
    learner.model.head_apply(rule.head(params, frozen), features),
    expected,
    rtol=1e-5,
    atol=1e-6,
  )


def test_a_step_of_scales_by_hand(learner, trained):
  """The gradient of the mean loss by f_c is the mean of `(p - y) z`."""
  stage = toys.lws_stage(learner)
  before = stage.init(trained)
  arrays, stream = stage.prepare(trained)
  index = stream(0)[0]
  after = toys.jitted(stage.step)(before, index, arrays)
  features = np.asarray(arrays["features"], np.float64)[index]
  labels = np.asarray(arrays["labels"])[index]
  head = {k: np.asarray(v, np.float64) for k, v in trained.head.items()}
  logits = features @ head["kernel"] + head["bias"]
  odds = np.exp(logits)
  errors = odds / odds.sum(1, keepdims=True) - np.eye(toys.C)[labels]
  gradient = (errors * logits).mean(0) + 5e-4
  np.testing.assert_allclose(
    after.params["scale"], 1 - 0.05 * gradient, rtol=1e-5
  )


def test_scales_change_g_alone_and_lift_the_tail(learner, trained, tmp_path):
  stage = toys.lws_stage(learner, epochs=6, learning_rate=0.5)
  state, _ = toys.execute(tmp_path, learner, [stage], state=trained)
  toys.assert_same(
    state.replace(balanced_head=None), trained.replace(balanced_head=None)
  )
  scales = np.asarray(state.balanced_head["bias"] / state.head["bias"])
  np.testing.assert_allclose(
    state.balanced_head["kernel"],
    state.head["kernel"] * scales[None, :],
    rtol=1e-4,
  )
  assert scales[2:].min() > 1.5 * scales[0]  # 6 and 4 images against 20


def test_a_cosine_head_has_no_lengths_to_learn():
  head = heads.cosine(toys.D, toys.C)
  network = toys.model()._replace(head_init=head.init, head_apply=head.apply)
  with pytest.raises(ValueError, match="^here.kind=lws .*model.head=linear"):
    head_rules.make("lws", network, field="here")
