"""Inference: equal to applying the network, whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.augment import ensemble
from ltjax.devices import sharding
from ltjax.training import inference


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def state_of(learner):
  """A state whose running statistics are not those of any batch."""
  state = learner.init()
  rng = np.random.default_rng(0)
  mean = rng.normal(size=toys.D).astype(np.float32)
  return state.replace(
    batch_stats={
      "mean": jnp.array(mean),
      "var": jnp.array(1 + mean**2),
    }
  )


def predictor(batch_size, mesh=None, network=None):
  return toys.learner(
    mesh=mesh, network=network, batch_size=batch_size, pad=1, flip=True
  ).predictor


def direct(learner, state, images):
  """Features and probabilities of one evaluation-mode call."""
  _, test = learner.task.transforms()
  features, logits, _ = learner.model.apply(
    {"backbone": state.backbone, "head": state.head},
    state.batch_stats,
    test(images),
    False,
  )
  return features, jax.nn.softmax(logits)


# 20 images: batches that divide, that leave a rest, of one, larger than all.
@pytest.mark.parametrize("batch_size", [1, 5, 7, 20, 500])
@pytest.mark.parametrize("devices", [1, 4])
def test_equals_a_direct_call(learner, batch_size, devices):
  mesh = sharding.make_mesh(devices)
  images = learner.task.test_images
  expected_features, expected = direct(learner, state_of(learner), images)
  run = predictor(batch_size, mesh)
  state = sharding.replicate(state_of(learner), mesh)
  images = sharding.replicate(images, mesh)
  features = run.features(state, images)
  assert features.shape == (20, toys.D) and features.dtype == jnp.float32
  np.testing.assert_allclose(features, expected_features, rtol=1e-5, atol=1e-6)
  probabilities = run.probabilities(state, images, head=state.head)
  np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-6)
  assert len(probabilities.devices()) == devices


def test_the_head_asked_for_is_used(learner):
  state = state_of(learner)
  images = learner.task.test_images
  features, of_random = direct(learner, state, images)
  expected = jax.nn.softmax(
    learner.model.head_apply(state.balanced_head, features)
  )
  found = learner.predictor.probabilities(
    state, images, head=state.balanced_head
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert not np.allclose(found, of_random, atol=0.01)
  np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)


def test_augmented_images_have_an_own_draw_each(learner):
  state = state_of(learner)
  same = jnp.tile(learner.task.test_images[:1], (30, 1, 1, 1))
  run = predictor(10)
  key = jax.random.key(3)
  features = np.asarray(run.features(state, same, key=key))
  # 9 crops times 2 flips; the batches of ten draw anew.
  assert len(np.unique(features, axis=0)) > 9
  assert not np.array_equal(features[:10], features[10:20])
  np.testing.assert_array_equal(features, run.features(state, same, key=key))
  other = run.features(state, same, key=jax.random.key(4))
  assert not np.array_equal(features, other)
  plain = np.asarray(run.features(state, same))
  assert len(np.unique(plain, axis=0)) == 1


def test_no_images_give_no_rows(learner):
  state = learner.init()
  none = jnp.zeros((0, 4, 4, 1), jnp.uint8)
  assert learner.predictor.features(state, none).shape == (0, toys.D)
  found = learner.predictor.probabilities(state, none, head=state.head)
  assert found.shape == (0, toys.C)


def test_batches_of_an_image_set_share_one_compilation():
  """The last, shorter batch and a new state included."""
  toy, traces = toys.model(), []

  def apply(*args):
    traces.append(args[-1])
    return toy.apply(*args)

  network = toy._replace(apply=apply)
  run = predictor(7, network=network)
  learner = toys.learner(network=network)
  images = learner.task.test_images
  state = sharding.replicate(state_of(learner), learner.mesh)
  run.features(learner.init(), images)
  run.features(state, images)
  run.probabilities(state, images, head=learner.init().head)
  assert traces == [False]  # once, in evaluation mode
  for seed in range(3):
    run.features(learner.init(), images, key=jax.random.key(seed))
  assert traces == [False, False]  # once more, with augmentation


@pytest.mark.parametrize("batch_size", [0, -5])
def test_a_batch_of_nothing_is_refused(batch_size):
  with pytest.raises(
    ValueError, match=f"eval.batch_size is {batch_size}.* 1 or more"
  ):
    inference.Predictor(
      toys.model(),
      test_transform=lambda images: images,
      train_transform=lambda key, images: images,
      batch_size=batch_size,
      mesh=toys.one_device(),
    )


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


@pytest.mark.parametrize("name", ["plain", "flip", "crops"])
def test_ensembled_is_the_mean_of_the_logits_of_views(
  learner, name, monkeypatch
):
  monkeypatch.setattr(ensemble, "_SHARE", 0.5)
  task, state = learner.task, state_of(learner)
  views = ensemble.make(name, mean=task.mean, std=task.std)
  train, test = task.transforms()
  run = inference.Predictor(
    learner.model,
    test_transform=test,
    train_transform=train,
    batch_size=7,
    mesh=learner.mesh,
    views=views,
  )
  images = task.test_images
  found = run.ensembled(state, images, head=state.balanced_head)
  usual = run.probabilities(state, images, head=state.balanced_head)
  if name == "plain":
    np.testing.assert_array_equal(found, usual)
    return
  pixels, logits = np.asarray(images), []
  params = {"backbone": state.backbone, "head": state.balanced_head}
  for view in views.averaged:
    x = test(images) if view is None else views.apply(jnp.int32(view), pixels)
    logits.append(learner.model.apply(params, state.batch_stats, x, False)[1])
  mean = np.mean([np.asarray(x, np.float64) for x in logits], axis=0)
  odds = np.exp(mean - mean.max(1, keepdims=True))
  expected = odds / odds.sum(1, keepdims=True)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  assert not np.allclose(found, usual, atol=1e-3)
