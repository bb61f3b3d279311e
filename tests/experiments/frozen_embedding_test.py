"""Examining a frozen embedding: the run's own classifier, and distances."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import frozen_embedding
from ltjax import recipe as recipes
from ltjax import reopened, train
from ltjax.stages import features as feature_sources
from tests import finished


@pytest.fixture(scope="module")
def run():
  with pytest.MonkeyPatch.context() as patch:
    finished.one_device(patch)
    yield reopened.reopen(finished.run())


def test_the_classifier_of_the_run_comes_out_again(run):
  learner = train.build_learner(run.config, run.task, run.mesh)
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
  learner = types.SimpleNamespace(
    task=types.SimpleNamespace(
      num_classes=3, groups={"many": (0,), "medium": (1,), "few": (2,)}
    ),
    predictor=types.SimpleNamespace(
      classify=lambda head, features: jax.nn.one_hot(
        jnp.full(len(features), head), 3
      )
    ),
  )
  parts = {
    "labeled": (
      jnp.array([[0.0], [2.0], [5.0], [5.0], [5.0], [9.0], [1.0]]),
      np.array([0, 0, 1, 1, 1, 1, 2]),
    ),
    "test": (jnp.array([[4.0], [-2.0], [6.0], [1.0]]), np.array([0, 0, 1, 2])),
  }
  found = frozen_embedding.distances(parts, {"g": 0}, learner)
  assert found["labeled"] == {
    "g": {"overall": 2 / 7, "many": 1.0, "medium": 0.0, "few": 0.0}
  }
  test = found["test"]
  assert test["g"]["overall"] == 0.5
  # 9 and 9 of class 0; of class 1 mean 6 and variance 4, so 5 and found 0.
  assert test["ratio"]["many"] == pytest.approx(3**0.5)
  assert test["ratio"]["medium"] == 0.0
  assert test["ratio"]["few"] is None
  assert test["ratio"]["overall"] == pytest.approx(1.5**0.5)
