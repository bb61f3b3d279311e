"""Examining a frozen embedding: the run's own classifier, and distances."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import frozen_embedding
from ltjax.methods import build
from ltjax.optim import recipe as recipes
from ltjax.runs import finished as reopened
from ltjax.stages import features as feature_sources
from tests import finished


@pytest.fixture(scope="module")
def run():
  with pytest.MonkeyPatch.context() as patch:
    finished.one_device(patch)
    yield reopened.reopen(finished.run())


def test_the_classifier_of_the_run_comes_out_again(run):
  learner = build.build_learner(run.config, run.task, run.mesh)
  features = feature_sources.cached(
    learner.predictor,
    run.state(),
    run.task.images[: run.task.num_labeled],
    views=run.config.classifier.views,
    key=jax.random.split(learner.key("classifier"), 3)[1],
  )
  recipe = recipes.of("classifier", run.config.classifier)
  head = frozen_embedding.fit(learner, features, recipe=recipe)
  expected = run.trained.variables["balanced_head"]
  for name, value in expected.items():
    np.testing.assert_allclose(head[name], value, rtol=1e-4, atol=1e-5)
  told = frozen_embedding.fit(
    learner, features, recipe=recipe, sampler="random"
  )
  assert not np.allclose(told["kernel"], head["kernel"], atol=1e-3)


def test_distances_by_hand():
  """Class 0: mean 1, variance 2, so 3 is expected; class 2 has one image."""
  groups = {"many": (0,), "medium": (1,), "few": (2,)}
  known = (
    np.array([[0.0], [2.0], [5.0], [5.0], [7.0], [7.0], [1.0]]),
    np.array([0, 0, 1, 1, 1, 1, 2]),
  )
  others = (np.array([[4.0], [-2.0], [8.0], [1.0]]), np.array([0, 0, 1, 2]))
  found = frozen_embedding.ratio(known, others, groups=groups)
  # 9 and 9 of class 0. Class 1: mean 6, variance 4/3, so 5/3, and found 4.
  assert found["many"] == pytest.approx(3**0.5)
  assert found["medium"] == pytest.approx((4 / (5 / 3)) ** 0.5)
  assert found["few"] is None
  assert found["overall"] == pytest.approx((13 / (3 + 5 / 3)) ** 0.5)


def test_images_that_were_learned_by_heart_stand_out_and_the_control_does_not():
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(2), (40, 4))
  known = rng.normal(size=(44, 16)) * np.where(labels == 1, 0.25, 1)[:, None]
  truth = np.repeat(np.arange(2), 500)
  parts = {
    "labeled": (jnp.asarray(known), labels),
    "test": (jnp.asarray(rng.normal(size=(1000, 16))), truth),
  }
  learner = types.SimpleNamespace(
    task=types.SimpleNamespace(
      num_classes=2, groups={"many": (0,), "few": (1,)}
    ),
    predictor=types.SimpleNamespace(
      classify=lambda head, features: jnp.tile(head, (len(features), 1))
    ),
  )
  found = frozen_embedding.distances(
    parts, {"g": jnp.array([1.0, 0.0])}, learner
  )
  assert found["labeled"] == {"g": {"overall": 40 / 44, "many": 1, "few": 0}}
  assert found["test"]["ratio"]["many"] == pytest.approx(1.0, abs=0.05)
  assert 3 < found["test"]["ratio"]["few"] < 5
  for group in ("overall", "many", "few"):
    assert found["control"]["ratio"][group] == pytest.approx(1.0, abs=0.05)
