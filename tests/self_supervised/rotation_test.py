"""Rotation prediction: the turns, the loss, and what is left behind."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.models import heads
from ltjax.self_supervised import rotation


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


def numpy_logits(params, images):
  """The toy in training mode with a 4-way head, in float64."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  backbone, head = params["backbone"], params["head"]
  x = np.asarray(images, np.float64).reshape(len(images), -1)
  x = x @ backbone["kernel"]
  x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
  features = np.maximum(x * backbone["scale"] + backbone["bias"], 0)
  return features @ head["kernel"] + head["bias"]


def test_rotate_equals_numpy():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (9, 5, 5, 3)).astype(np.uint8)
  turns = np.array([0, 1, 2, 3, 3, 2, 1, 0, 1])
  found = rotation.rotate(jnp.asarray(images), jnp.asarray(turns))
  assert found.dtype == jnp.uint8
  for out, image, k in zip(found, images, turns):
    np.testing.assert_array_equal(out, np.rot90(image, k))


def test_rotate_is_counter_clockwise():
  image = jnp.array([[1, 2], [3, 4]])[None, :, :, None]
  found = rotation.rotate(image, jnp.array([1]))[0, :, :, 0]
  np.testing.assert_array_equal(found, [[2, 4], [1, 3]])


def test_every_turn_has_all_four_of_each_side_by_side():
  images = np.arange(3 * 16 * 2).reshape(3, 4, 4, 2)
  turned, turns = rotation.every_turn(jnp.asarray(images))
  np.testing.assert_array_equal(turns, [0, 1, 2, 3] * 3)
  for i, image in enumerate(images):
    for k in range(4):
      np.testing.assert_array_equal(turned[4 * i + k], np.rot90(image, k))


@pytest.mark.parametrize("size, expected", [(8, [2] * 4), (6, [2, 2, 1, 1])])
def test_turns_are_balanced_in_each_batch(size, expected):
  seen = set()
  for seed in range(5):
    turns = np.asarray(rotation.draw_turns(jax.random.key(seed), size))
    assert turns.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(turns, minlength=4), expected)
    seen.add(tuple(turns))
  assert len(seen) >= 4  # in random order


def test_each_place_of_a_batch_gets_each_turn():
  keys = jax.random.split(jax.random.key(0), 1000)
  draws = np.asarray(jax.vmap(lambda k: rotation.draw_turns(k, 4))(keys))
  for place in range(4):
    counts = np.bincount(draws[:, place], minlength=4)
    assert np.abs(counts - 250).max() < 5 * np.sqrt(1000 * 3 / 16)


def test_golden_step(learner):
  """Update the numbers only if the step is meant to change (see CHANGELOG)."""
  *_, after = toys.one_step(toys.rotation_stage(learner), learner.init())
  found = after.totals | {
    "params": toys.norm(after.params),
    "batch_stats": toys.norm(after.batch_stats),
  }
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "accuracy": 0.0,
  "loss": 1.415345,
  "params": 3.546911,
  "batch_stats": 2.415014,
}


@pytest.mark.parametrize("rotations", ["one", "four"])
def test_step_equals_a_numpy_reference(learner, rotations):
  """Loss, accuracy, and the head's bias after the update."""
  stage = toys.rotation_stage(learner, rotations=rotations, weight_decay=0.0)
  before, arrays, index, after = toys.one_step(stage, learner.init())
  transform_key, turns_key = jax.random.split(jax.random.fold_in(before.key, 0))
  images = np.asarray(learner.transform(transform_key, arrays["images"][index]))
  if rotations == "one":
    turns = np.asarray(rotation.draw_turns(turns_key, len(index)))
  else:
    images, turns = np.repeat(images, 4, axis=0), np.tile(np.arange(4), 8)
  images = np.stack([np.rot90(x, k) for x, k in zip(images, turns)])
  logits = numpy_logits(before.params, images)
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  rows = np.arange(len(turns))
  totals = after.totals
  np.testing.assert_allclose(
    totals["loss"], -np.log(p[rows, turns]).mean(), rtol=1e-4
  )
  np.testing.assert_allclose(
    totals["accuracy"], np.mean(p.argmax(1) == turns), rtol=1e-6
  )
  gradient = (p - np.eye(4)[turns]).mean(0)
  np.testing.assert_allclose(
    after.params["head"]["bias"],
    before.params["head"]["bias"] - 0.05 * gradient,
    rtol=1e-4,
    atol=1e-6,
  )


def test_head_has_four_outputs_whatever_the_classes():
  """Also behind a cosine head, and it does not move the model's own."""
  head = heads.cosine(toys.D, toys.C)
  toy = toys.model()

  def init(key):
    params, stats = toy.init(key)
    return params | {"head": head.init(key)}, stats

  def apply(params, stats, images, train):
    assert params["head"].keys() == {"kernel"}
    linear = {"kernel": params["head"]["kernel"], "bias": jnp.zeros(toys.C)}
    return toy.apply(params | {"head": linear}, stats, images, train)

  network = toy._replace(
    init=init, apply=apply, head_init=head.init, head_apply=head.apply
  )
  learner = toys.learner(network=network)
  before, *_, after = toys.one_step(
    toys.rotation_stage(learner), learner.init()
  )
  assert after.params["head"]["kernel"].shape == (toys.D, 4)
  assert toys.differ(before.params["head"], after.params["head"])


def test_leaves_the_embedding_and_nothing_else(learner, tmp_path):
  state = learner.init()
  after, _ = toys.execute(
    tmp_path, learner, [toys.rotation_stage(learner)], state=state
  )
  fresh = toys.host(learner.init())
  assert toys.differ(after.backbone, fresh.backbone)
  assert toys.differ(after.batch_stats, fresh.batch_stats)
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(after, name), getattr(fresh, name))


@pytest.mark.parametrize("rotations", ["one", "four"])
def test_online_probe_reads_labels_and_f_does_not_feel_it(rotations):
  """Of four turns it sees the image as it is: these look like their class."""
  learner = toys.learner()

  def make(name, online_probe):
    return toys.pretrain(
      rotation,
      learner,
      name,
      transform=learner.transform,
      rotations=rotations,
      online_probe=online_probe,
    )

  plain = toys.one_step(make("rotation", False), learner.init())[-1]
  before, arrays, index, after = toys.one_step(
    make("rotation", True), learner.init()
  )
  params = dict(after.params)
  probe = params.pop("online_probe")
  toys.assert_same(params, plain.params)
  # The first step of the probe, from zero: its bias moves by the class counts.
  labels = np.asarray(arrays["labels"])[index]
  rate = -0.05 * (0.25 - np.bincount(labels, minlength=4) / len(index))
  np.testing.assert_allclose(probe["bias"], rate, rtol=1e-5)
  if rotations == "four":
    key, _ = jax.random.split(jax.random.fold_in(before.key, 0))
    images = learner.transform(key, arrays["images"][index])
    turned, _ = rotation.every_turn(images)
    network = {"backbone": before.params["backbone"], "head": arrays["head"]}
    features, *_ = learner.model.apply(
      network, before.batch_stats, turned, True
    )
    upright = np.asarray(features).reshape(len(index), 4, -1)[:, 0]
    units = upright / np.linalg.norm(upright, axis=1, keepdims=True)
    change = 4 * units.T @ (np.eye(4)[labels] - 0.25) / len(index)
    np.testing.assert_allclose(probe["kernel"], 0.05 * change, atol=1e-5)


def test_labels_are_not_seen(learner):
  lie = dataclasses.replace(
    learner.task, labels=jnp.zeros_like(learner.task.labels)
  )
  other = dataclasses.replace(learner, task=lie)
  states = [
    toys.one_step(toys.rotation_stage(which), which.init())[-1]
    for which in (learner, other)
  ]
  toys.assert_same(*states)


def test_learns_which_way_is_up(tmp_path):
  """Pictures bright in the first quadrant only: the turn is in plain sight."""
  learner = toys.learner()
  bright = learner.task.images[:20]  # of class 0
  stage = toys.pretrain(
    rotation,
    learner,
    "rotation",
    recipe={"epochs": 20, "learning_rate": 0.1, "batch_size": 20},
    images=bright,
    labels=jnp.zeros(20, jnp.int32),
    counts=jnp.array([20.0, 0, 0, 0]),
    transform=learner.transform,
  )
  _, rows = toys.execute(tmp_path, learner, [stage])
  assert rows[0]["accuracy"] < 0.6 and rows[-1]["accuracy"] > 0.9
  assert rows[-1]["loss"] < 0.5 < rows[0]["loss"]


def test_no_key_is_used_twice(learner, key_reuse):
  *_, after = toys.one_step(
    toys.rotation_stage(learner, "other", batch_size=20), learner.init()
  )
  assert after.step == 1


def test_bad_settings(learner):
  with pytest.raises(ValueError, match=r"pretrain.batch_size is 41, but .* 40"):
    toys.rotation_stage(learner, "pretrain", batch_size=41)
  with pytest.raises(
    ValueError, match="pretrain.batch_size is 1; .* 2 or more"
  ):
    toys.rotation_stage(learner, "pretrain", batch_size=1)
  wide = toys.model()._replace(image_shape=(4, 6, 1))
  wide_learner = dataclasses.replace(learner, model=wide)
  with pytest.raises(ValueError, match="'rotation', .* square .* 4 x 6 pixels"):
    toys.rotation_stage(wide_learner)
