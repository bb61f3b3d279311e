"""The encoder: f and a projection as one, and what is handed on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.models import projections
from ltjax.self_supervised import encoder


@pytest.fixture(scope="module")
def state():
  return toys.learner().init()


def make(seed=0, dim=3):
  model = toys.model()
  projection = projections.batch_norm_mlp(
    toys.D, hidden=5, dim=dim, last_norm=True
  )
  return encoder.make(model, projection, key=jax.random.key(seed)), projection


def images(num=8):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(num, 4, 4, 1)), jnp.float32)


def test_takes_the_embedding_of_the_state_and_draws_a_projection(state):
  network, projection = make()
  params, stats = network.init(state)
  toys.assert_same(params["backbone"], state.backbone)
  toys.assert_same(stats["backbone"], state.batch_stats)
  drawn, drawn_stats = projection.init(jax.random.key(0))
  toys.assert_same(params["projection"], drawn)
  toys.assert_same(stats["projection"], drawn_stats)
  other, _ = make(seed=1)[0].init(state)
  assert toys.differ(other["projection"], drawn)


@pytest.mark.parametrize("train", [True, False])
def test_is_the_network_and_then_the_projection(state, train):
  network, projection = make()
  params, stats = network.init(state)
  features, embeddings, after = network.apply(
    params, stats, images(), state.head, train
  )
  whole = {"backbone": state.backbone, "head": state.head}
  expected, _, backbone_stats = toys.model().apply(
    whole, state.batch_stats, images(), train
  )
  np.testing.assert_array_equal(features, expected)
  expected, projected_stats = projection.apply(
    params["projection"], stats["projection"], expected, train
  )
  np.testing.assert_array_equal(embeddings, expected)
  assert embeddings.shape == (8, network.dim) == (8, 3)
  toys.assert_same(
    after, {"backbone": backbone_stats, "projection": projected_stats}
  )
  assert toys.differ(after, stats) == train


def test_the_classifier_does_not_matter(state):
  network, _ = make()
  params, stats = network.init(state)
  other = jax.tree.map(lambda x: x + 1, state.head)
  toys.assert_same(
    network.apply(params, stats, images(), state.head, True),
    network.apply(params, stats, images(), other, True),
  )


def test_what_is_left_can_be_inherited(state):
  network, _ = make()
  params, stats = network.init(state)
  params, stats = jax.tree.map(lambda x: x + 1, (params, stats))
  after = encoder.left(state, params, stats, prototypes=jnp.ones((2, 3)))
  toys.assert_same(after.backbone, params["backbone"])
  toys.assert_same(after.batch_stats, stats["backbone"])
  assert set(after.pretrained) == {
    *("projection", "projection_stats", "prototypes")
  }
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(after, name), getattr(state, name))
  toys.assert_same(encoder.inherited(after), (params, stats))


def test_only_the_encoder_is_left(state):
  """Entries of a stage's params beside it, and of earlier stages, go."""
  network, _ = make()
  params, stats = network.init(state)
  held = encoder.left(state, params, stats, prototypes=jnp.ones((2, 3)))
  after = encoder.left(held, params | {"more": jnp.ones(1)}, stats)
  assert set(after.pretrained) == {"projection", "projection_stats"}


DIM = 3


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def heir(**changes):
  settings = {"hidden": 0, "dim": DIM, "key": jax.random.key(1)} | changes
  return encoder.heir(toys.model(), **settings)


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
  fresh = encoder.fresh(
    toys.model(), hidden=0, dim=DIM, last_norm=False, key=jax.random.key(1)
  )
  found, _ = fresh.init(state)
  assert "second_norm" not in found["projection"]
  assert found["projection"]["first"]["kernel"].shape == (toys.D, toys.D)
