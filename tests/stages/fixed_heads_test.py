"""Class means and tau-normalization: heads that no step makes."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import toys

from ltjax.models import heads, rescaling


@pytest.fixture(scope="module")
def learner():
  return toys.learner(validation=3)


@pytest.fixture(scope="module")
def trained(learner, tmp_path_factory):
  state, _ = toys.execute(
    tmp_path_factory.mktemp("embedding"),
    learner,
    [toys.embedding_stage(learner, epochs=6)],
  )
  return state


def kept(state):
  return state.replace(balanced_head=None)


@pytest.mark.parametrize("features", heads.NCM_FEATURES)
def test_class_means_are_of_the_plain_labeled_images(
  learner, trained, features
):
  stage = toys.ncm_stage(learner, features=features)
  state = stage.finish(trained, None)
  toys.assert_same(kept(state), kept(trained))
  labeled = learner.task.images[: toys.N]
  expected = heads.ncm(
    learner.predictor.features(trained, labeled),
    learner.task.labels,
    num_classes=toys.C,
    kind=features,
  )
  toys.assert_same(state.balanced_head, expected)
  (row,) = learner.evaluate(state, model="NCM", head="balanced")[:1]
  assert row["accuracy"] >= 0.8


def test_the_pool_does_not_move_class_means(learner, trained):
  task = dataclasses.replace(
    learner.task,
    images=learner.task.images.at[toys.N :].set(7),
  )
  other = dataclasses.replace(learner, task=task)
  toys.assert_same(
    toys.ncm_stage(learner).finish(trained, None),
    toys.ncm_stage(other).finish(trained, None),
  )


def test_tau_norm_is_made_of_the_first_head(learner, trained):
  stage = toys.tau_norm_stage(learner, tau=0.7)
  state = stage.finish(trained, None)
  toys.assert_same(kept(state), kept(trained))
  toys.assert_same(
    state.balanced_head, rescaling.tau_normalize(trained.head, tau=0.7)
  )
  assert stage.report(state) == [{"kind": "tau", "tau": 0.7}]


def test_a_selected_tau_is_reported_before_the_rows(learner, trained):
  rows = [{"kind": "eval", "model": "M"}]
  stage = toys.tau_norm_stage(learner, select=True, report=lambda state: rows)
  first, *rest = stage.report(stage.finish(trained, None))
  assert rest == rows
  assert len(first["grid"]) == len(first["balanced_accuracy"]) == 21
  assert first["tau"] in first["grid"]


@pytest.mark.parametrize("stage", [toys.ncm_stage, toys.tau_norm_stage])
def test_announced_shapes_are_those_that_come(learner, trained, stage):
  made = stage(learner)
  shapes = made.shapes(jax.eval_shape(lambda: trained))
  found = jax.eval_shape(lambda: made.finish(trained, None))
  assert jax.tree.map(
    lambda x: (x.shape, x.dtype), shapes.balanced_head
  ) == jax.tree.map(lambda x: (x.shape, x.dtype), found.balanced_head)


def test_plain_class_means_announce_no_mean(learner):
  made = toys.ncm_stage(learner, features="plain")
  shapes = made.shapes(jax.eval_shape(learner.init))
  assert list(shapes.balanced_head) == ["centroids"]


def test_a_class_without_images_has_no_mean():
  learner = toys.learner()
  labels = jnp.where(learner.task.labels == 3, 2, learner.task.labels)
  task = dataclasses.replace(learner.task, labels=labels)
  with pytest.raises(ValueError, match="kind=ncm needs .* class 3 has none"):
    toys.ncm_stage(dataclasses.replace(learner, task=task))


def test_tau_norm_of_a_cosine_head_is_refused():
  head = heads.cosine(toys.D, toys.C)
  network = toys.model()._replace(head_init=head.init, head_apply=head.apply)
  learner = toys.learner(network=network)
  with pytest.raises(ValueError, match="classifier.kind=tau_norm changes the"):
    toys.tau_norm_stage(learner)
