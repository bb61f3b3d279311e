"""Inheritance: whose projection a stage goes on with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.models import projections
from ltjax.self_supervised import encoder as inheritance

DIM = 3


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def heir(**changes):
  settings = {"hidden": 0, "dim": DIM, "key": jax.random.key(1)} | changes
  return inheritance.heir(toys.model(), **settings)


def left_by(last_norm):
  """What a stage with a hidden layer of 7 leaves."""
  projection = projections.batch_norm_mlp(
    toys.D, hidden=7, dim=DIM, last_norm=last_norm
  )
  return projection, *projection.init(jax.random.key(2))


def test_draws_the_projection_of_simclr_where_there_is_none(learner):
  params, stats = heir().init(learner.init())
  shapes = jax.tree.map(jnp.shape, params["projection"])
  assert shapes["first"]["kernel"] == (toys.D, toys.D)
  assert shapes["second_norm"]["scale"] == (DIM,)
  assert stats["projection"].keys() == {"first_norm", "second_norm"}
  wide, _ = heir(hidden=11).init(learner.init())
  assert wide["projection"]["first"]["kernel"].shape == (toys.D, 11)


@pytest.mark.parametrize("last_norm", [True, False])
def test_runs_the_projection_that_was_left(learner, last_norm):
  projection, params, stats = left_by(last_norm)
  state = learner.init().replace(
    pretrained={"projection": params, "projection_stats": stats}
  )
  encoder = heir()
  found, found_stats = encoder.init(state)
  toys.assert_same(found["projection"], params)
  toys.assert_same(found_stats["projection"], stats)
  images, _ = toys.two_views(jax.random.key(0), learner.task.images[:6])
  features, embeddings, _ = encoder.apply(
    found, found_stats, images, state.head, True
  )
  expected, _ = projection.apply(params, stats, features, True)
  np.testing.assert_array_equal(embeddings, expected)


def test_a_fresh_one_takes_nothing(learner):
  _, params, stats = left_by(True)
  state = learner.init().replace(
    pretrained={"projection": params, "projection_stats": stats}
  )
  fresh = inheritance.fresh(
    toys.model(), hidden=0, dim=DIM, last_norm=False, key=jax.random.key(1)
  )
  found, _ = fresh.init(state)
  assert "second_norm" not in found["projection"]
  assert found["projection"]["first"]["kernel"].shape == (toys.D, toys.D)
