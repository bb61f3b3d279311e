"""What a classifier stage reads: a cache, or the network in training mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.stages import features
from ltjax.training import sampling


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


@pytest.fixture(scope="module")
def state(learner):
  """Statistics that are neither the initial ones nor those of a batch."""
  stats = {"mean": jnp.linspace(-0.5, 0.5, toys.D), "var": jnp.full(6, 0.3)}
  return learner.init().replace(batch_stats=stats)


def test_the_cache_equals_recomputing(learner, state):
  """Row `v N + i` is the network, in evaluation mode, on view v of image i."""
  key, views, size = jax.random.key(5), 3, 12
  images = learner.task.images[: toys.N]
  cached = features.cached(
    learner.predictor, state, images, views=views, key=key
  )
  assert cached.shape == (views * toys.N, toys.D)
  for view in range(views):
    view_key = jax.random.fold_in(key, view)
    rows = cached[view * toys.N : (view + 1) * toys.N]
    np.testing.assert_array_equal(
      rows, learner.predictor.features(state, images, key=view_key)
    )
    for batch, first in enumerate(range(0, toys.N, size)):
      index = np.arange(first, first + size)
      index[index >= toys.N] = 0  # the last batch is filled with image 0
      augmented = learner.transform(
        jax.random.fold_in(view_key, batch), images[index]
      )
      expected, _, _ = learner.model.apply(
        {"backbone": state.backbone, "head": state.head},
        state.batch_stats,
        augmented,
        False,
      )
      np.testing.assert_allclose(
        rows[first : first + size],
        expected[: toys.N - first],
        rtol=1e-5,
        atol=1e-6,
      )


def test_views_differ(learner, state):
  cached = np.asarray(
    features.cached(
      learner.predictor,
      state,
      learner.task.images,
      views=3,
      key=jax.random.key(5),
    )
  ).reshape(3, -1, toys.D)
  for a, b in ((0, 1), (0, 2), (1, 2)):
    assert not np.allclose(cached[a], cached[b])


def test_no_views_means_the_plain_image(learner, state):
  images = learner.task.images
  np.testing.assert_array_equal(
    features.cached(
      learner.predictor, state, images, views=0, key=jax.random.key(5)
    ),
    learner.predictor.features(state, images),
  )


@pytest.mark.parametrize("views", [0, 1, 4])
def test_rows_are_a_view_of_the_image_drawn(views):
  images = sampling.random(9, 3, seed=0, stage="s")
  rows = features.rows(images, num_images=9, views=views, seed=0, stage="s")
  for epoch in range(3):
    found = rows(epoch)
    np.testing.assert_array_equal(found % 9, images(epoch))
    np.testing.assert_array_equal(found, rows(epoch))
    assert found.dtype == np.int32
  seen = np.concatenate([rows(epoch).ravel() for epoch in range(60)]) // 9
  assert set(seen) == set(range(max(views, 1)))


def test_rows_depend_on_seed_and_stage():
  images = sampling.random(9, 3, seed=0, stage="s")
  settings = {"num_images": 9, "views": 5}
  one = features.rows(images, seed=0, stage="s", **settings)(0)
  for seed, stage in ((1, "s"), (0, "t")):
    other = features.rows(images, seed=seed, stage=stage, **settings)(0)
    assert not np.array_equal(one, other)


def test_training_mode_uses_and_moves_the_statistics(learner, state):
  """By hand: the toys' momentum is 0.9, and the batch is augmented."""
  stage = toys.classifier_stage(learner, choices={"batch_norm": "update"})
  train = stage.init(state)
  arrays, stream = stage.prepare(state)
  index = stream(0)[0]
  run = features.in_training_mode(learner.model, learner.transform)
  found, stats = run(train, index, arrays)
  images = learner.transform(
    jax.random.fold_in(train.key, 0), learner.task.images[index]
  )
  x = np.asarray(images).reshape(8, -1) @ np.asarray(state.backbone["kernel"])
  np.testing.assert_allclose(
    stats["mean"],
    0.9 * np.asarray(state.batch_stats["mean"]) + 0.1 * x.mean(0),
    rtol=1e-5,
    atol=1e-6,
  )
  normal = np.maximum((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 0)
  np.testing.assert_allclose(found, normal, rtol=1e-3, atol=1e-4)
