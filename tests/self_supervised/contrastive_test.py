"""Contrastive pre-training: the step against NumPy, masks, memory, limits."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.losses import contrastive as losses
from ltjax.models import projections
from ltjax.self_supervised import contrastive

BATCH, DIM = toys.BATCH, 8


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def make_stage(learner, **settings):
  defaults = {"dim": DIM, "temperature": 0.5, "views": toys.two_views}
  return toys.pretrain(
    contrastive, learner, "pretrain", **(defaults | settings)
  )


def norm(x, params):
  x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
  return x * params["scale"] + params["bias"]


def hand_units(params, images):
  """The toy and the projection in training mode, in float64."""
  params = jax.tree.map(np.float64, jax.device_get(params))
  backbone, head = params["backbone"], params["projection"]
  x = np.asarray(images, np.float64).reshape(len(images), -1)
  x = np.maximum(norm(x @ backbone["kernel"], backbone), 0)
  x = x @ head["first"]["kernel"] + head["first"]["bias"]
  x = np.maximum(norm(x, head["first_norm"]), 0) @ head["second"]["kernel"]
  x = norm(x, head["second_norm"])
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def hand_losses(first, second, temperature):
  """NT-Xent `[B]` and how often the other view is the nearest."""
  z, num = np.concatenate([first, second]), len(first)
  losses, hits = np.zeros(num), 0
  for i in range(2 * num):
    other = (i + num) % (2 * num)
    rest = [j for j in range(2 * num) if j != i]
    terms = np.array([z[i] @ z[j] for j in rest]) / temperature
    losses[i % num] += np.log(np.exp(terms).sum()) / 2
    losses[i % num] -= z[i] @ z[other] / temperature / 2
    hits += rest[int(np.argmax(terms))] == other
  return losses, hits / (2 * num)


def difference(before, after):
  """Returns the metrics of a step within an epoch."""
  return {n: float(after.totals[n] - before.totals[n]) for n in after.totals}


def test_step_equals_a_numpy_reference(learner):
  """The second step, with another temperature in it."""
  stage = make_stage(learner, temperature=0.3)
  (_, before, after), arrays, indices = toys.train(stage, learner.init(), 2)
  pair = toys.two_views(
    jax.random.fold_in(before.key, 1), arrays["images"][indices[1]]
  )
  first, second = np.split(hand_units(before.params, np.concatenate(pair)), 2)
  losses, accuracy = hand_losses(first, second, 0.3)
  now = difference(before, after)
  np.testing.assert_allclose(now["loss"], losses.mean(), rtol=1e-4)
  np.testing.assert_allclose(now["accuracy"], accuracy, atol=1e-6)
  assert set(now) == {"loss", "accuracy", "feature_std", "effective_rank"}


def test_pruned_step_equals_a_numpy_reference(learner):
  """The second step: masks of the first one's weights, norms of its own."""
  stage = make_stage(learner, kind="sdclr", prune=0.75)
  (start, before, after), arrays, indices = toys.train(stage, learner.init(), 2)
  first, second = toys.two_views(
    jax.random.fold_in(before.key, 1), arrays["images"][indices[1]]
  )
  pruned = jax.device_get(before.params)
  sizes = np.abs(start.params["backbone"]["kernel"])
  mask = sizes >= np.sort(sizes.ravel())[math.ceil(0.75 * sizes.size)]
  pruned["backbone"]["kernel"] = pruned["backbone"]["kernel"] * mask
  norms = pruned.pop("pruned_norms")
  assert toys.differ(
    norms["projection"]["second_norm"], pruned["projection"]["second_norm"]
  )
  pruned["backbone"].update(norms["backbone"])
  pruned["projection"].update(norms["projection"])
  losses, accuracy = hand_losses(
    hand_units(before.params, first), hand_units(pruned, second), 0.5
  )
  now = difference(before, after)
  np.testing.assert_allclose(now["loss"], losses.mean(), rtol=1e-4)
  np.testing.assert_allclose(now["accuracy"], accuracy, atol=1e-6)


def test_masks_change_at_the_start_of_an_epoch_only(learner):
  """And are those of the weights at that time, over 11 of 3 x 5 steps."""
  stage = make_stage(
    learner,
    kind="sdclr",
    prune=0.5,
    recipe={"epochs": 3, "learning_rate": 0.3},
  )
  states, *_ = toys.train(stage, learner.init(), 11)
  seen = []
  for step, (before, after) in enumerate(zip(states, states[1:])):
    mask = np.asarray(after.extra["masks"]["kernel"])
    if step % 5 == 0:
      sizes = np.abs(before.params["backbone"]["kernel"])
      seen.append(sizes >= np.sort(sizes.ravel())[sizes.size // 2])
    np.testing.assert_array_equal(mask, seen[-1])
  assert np.any(seen[0] != seen[1]) and np.any(seen[1] != seen[2])


def recording(record):
  """Returns views that tell the strengths they are given."""

  def views(key, images, strength):
    jax.debug.callback(lambda s: record.append(np.array(s)), strength)
    return toys.boosted_views(key, images, strength)

  return views


def test_boosting_remembers_losses_and_augments_by_them(learner):
  record = []
  stage = make_stage(
    learner, boost_ops=1, boost_decay=0.8, views=recording(record)
  )
  states, _, indices = toys.train(stage, learner.init(), 10)
  jax.effects_barrier()
  memory, strengths = np.full(toys.N, -1.0), np.zeros(toys.N)
  for step, (before, after) in enumerate(zip(states, states[1:])):
    index = indices[step]
    if step == 5:
      away = memory - memory.mean()
      strengths = (away / np.abs(away).max() + 1) / 2
    np.testing.assert_allclose(record[step], strengths[index], atol=1e-5)
    np.testing.assert_allclose(after.extra["strengths"], strengths, atol=1e-5)
    new = np.asarray(after.extra["losses"], np.float64)
    untouched = np.setdiff1d(np.arange(toys.N), index)
    np.testing.assert_array_equal(
      after.extra["losses"][untouched], before.extra["losses"][untouched]
    )
    # The mean of the images' own losses is the loss of the step.
    start = step % 5 == 0
    loss = after.totals["loss"] - (0 if start else before.totals["loss"])
    own = new[index]
    if step >= 5:
      own = (new[index] - 0.8 * memory[index]) / 0.2
    np.testing.assert_allclose(own.mean(), loss, rtol=1e-4)
    assert own.std() > 0.01
    memory = new
  assert strengths.min() >= 0 and strengths.max() <= 1
  # How strength goes with rarity is told; no one knows in the first epoch.
  assert states[5].totals["strength_correlation"] == 0
  step = difference(states[6], states[7])
  rarity = 1 / np.array(toys.LABELED)[np.asarray(learner.task.labels)]
  chosen = indices[6]
  expected = np.corrcoef(strengths[chosen], rarity[chosen])[0, 1]
  np.testing.assert_allclose(
    step["strength_correlation"], expected, rtol=1e-3, atol=1e-4
  )


def test_boosting_with_equal_losses_stays_even(learner):
  """Images that cannot be told apart: log(2B - 1) each, strength 1/2."""

  def gray(key, images, strength):
    del key, strength
    same = jnp.zeros(images.shape)
    return same, same

  stage = make_stage(learner, boost_ops=1, boost_decay=0.8, views=gray)
  states, *_ = toys.train(stage, learner.init(), 7)
  extra = states[-1].extra
  np.testing.assert_array_equal(extra["strengths"], 0.5)
  np.testing.assert_allclose(extra["losses"], np.log(2 * BATCH - 1), rtol=1e-4)
  for leaf in jax.tree.leaves(toys.host(states[-1].params)):
    assert np.all(np.isfinite(leaf))


def test_temperature_is_that_of_the_epoch(learner, tmp_path):
  stage = make_stage(
    learner,
    recipe={"epochs": 5},
    temperature_schedule="cosine",
    temperature_low=0.2,
    temperature_high=1.0,
    temperature_period=4,
  )
  _, rows = toys.execute(tmp_path, learner, [stage])
  found = [row["temperature"] for row in rows if row["kind"] == "train"]
  np.testing.assert_allclose(found, [1.0, 0.6, 0.2, 0.6, 1.0], rtol=1e-5)


def test_labels_matter_to_supcon_alone(learner):
  """With no label known it is SimCLR, which reads none."""
  unknown = jnp.full(toys.N, -1, jnp.int32)
  found = []
  for settings in (
    {},
    {"kind": "supcon", "labels": unknown},
    {"kind": "supcon"},
  ):
    states, *_ = toys.train(make_stage(learner, **settings), learner.init(), 3)
    found.append(np.asarray(states[-1].params["backbone"]["kernel"]))
  simclr, none, known = found
  np.testing.assert_allclose(none, simclr, rtol=1e-4, atol=1e-5)
  assert not np.allclose(known, none, rtol=1e-3)


def test_focal_loss_is_below_the_plain_one(learner):
  """In the same first step, where nothing has been learned."""
  found = []
  for gamma in (0.0, 2.0):
    stage = make_stage(learner, focal_gamma=gamma)
    (_, after), *_ = toys.train(stage, learner.init(), 1)
    found.append(float(after.totals["loss"]))
  assert 0.1 * found[0] < found[1] < 0.9 * found[0]


@pytest.mark.parametrize("kind", ["simclr", "sdclr"])
def test_leaves_the_embedding_and_the_projection(learner, kind, tmp_path):
  stage = make_stage(learner, kind=kind, online_probe=True)
  states, *_ = toys.train(stage, learner.init(), stage.steps)
  after, _ = toys.execute(tmp_path, learner, [stage])
  last = states[-1]
  stats = last.batch_stats if kind == "simclr" else last.batch_stats["dense"]
  for found, expected in (
    (after.backbone, last.params["backbone"]),
    (after.batch_stats, stats["backbone"]),
    (after.pretrained["projection"], last.params["projection"]),
    (after.pretrained["projection_stats"], stats["projection"]),
  ):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      toys.host(found),
      toys.host(expected),
    )
  assert set(after.pretrained) == {"projection", "projection_stats"}
  fresh = toys.host(learner.init())
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(after, name), getattr(fresh, name))
  shapes = stage.shapes(jax.eval_shape(lambda: fresh))
  assert jax.tree.structure(shapes) == jax.tree.structure(after)
  for a, b in zip(jax.tree.leaves(shapes), jax.tree.leaves(after)):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_learns_to_tell_images_apart(learner, tmp_path):
  stage = make_stage(learner, recipe={"epochs": 30})
  _, rows = toys.execute(tmp_path, learner, [stage])
  assert rows[-1]["accuracy"] > 5 / (2 * BATCH - 1)
  assert rows[-1]["loss"] < np.log(2 * BATCH - 1) - 1


def test_hidden_width(learner):
  for hidden, width in ((0, toys.D), (9, 9)):
    state = make_stage(learner, hidden=hidden).init(learner.init())
    kernel = state.params["projection"]["first"]["kernel"]
    assert kernel.shape == (toys.D, width)


def test_no_key_is_used_twice(learner, key_reuse):
  stage = make_stage(
    learner,
    kind="sdclr",
    boost_ops=1,
    boost_decay=0.9,
    views=toys.boosted_views,
  )
  states, *_ = toys.train(stage, learner.init(), 1)
  # BCL-D: what both changes carry, side by side.
  assert set(states[-1].extra) == {"masks", "losses", "strengths"}


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"recipe": {"batch_size": 1}}, "pretrain.batch_size is 1; .* 2 or more"),
    ({"recipe": {"batch_size": 41}}, "pretrain.batch_size is 41, but"),
  ],
)
def test_bad_settings(learner, settings, message):
  with pytest.raises(ValueError, match=message):
    make_stage(learner, **settings)


@pytest.mark.parametrize("name", ["simclr", "supcon", "sdclr"])
def test_images_must_be_square(learner, name):
  wide = toys.model()._replace(image_shape=(4, 6, 1))
  with pytest.raises(ValueError, match=f"'{name}', .* square .* 4 x 6 pixels"):
    make_stage(dataclasses.replace(learner, model=wide), kind=name)


Settings = contrastive.Settings


def units(seed):
  x = np.random.default_rng(seed).normal(size=(6, 4))
  return projections.unit(jnp.asarray(x, jnp.float32))


def test_temperature_swings_by_epochs():
  """TS: high at the start, low after half a period, high after one."""
  settings = Settings(
    temperature_schedule="cosine",
    temperature_low=0.1,
    temperature_high=1.0,
    temperature_period=400,
  )
  of = jax.jit(settings.temperature_of)
  for epoch, expected in ((0, 1.0), (100, 0.55), (200, 0.1), (400, 1.0)):
    np.testing.assert_allclose(of(jnp.int32(epoch)), expected, rtol=1e-5)
  # The published code: cos(pi e / 200), for any epoch.
  slow = 0.1 + 0.5 * 0.9 * (1 + np.cos(np.pi * 37 / 200))
  np.testing.assert_allclose(of(jnp.int32(37)), slow, rtol=1e-5)


def test_constant_temperature_stays():
  of = Settings(temperature=0.3).temperature_of
  assert {float(of(jnp.int32(epoch))) for epoch in (0, 7, 900)} == {
    float(np.float32(0.3))
  }


@pytest.mark.parametrize(
  "settings, loss",
  [
    ({}, losses.nt_xent),
    (
      {"focal_gamma": 1.5},
      lambda *views, temperature: losses.focal_nt_xent(
        *views, temperature=temperature, gamma=1.5
      ),
    ),
    (
      {"kind": "supcon"},
      lambda *views, temperature: losses.sup_con(
        *views, jnp.array([0, 0, 1, -1, 1, -1]), temperature=temperature
      ),
    ),
  ],
)
def test_chooses_the_loss(settings, loss):
  found = Settings(**settings).losses(
    units(0),
    units(1),
    jnp.array([0, 0, 1, -1, 1, -1]),
    temperature=jnp.float32(0.7),
  )
  expected = loss(units(0), units(1), temperature=0.7)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  plain = losses.nt_xent(units(0), units(1), temperature=0.7)
  assert np.allclose(found, plain) == (not settings)


def test_a_temperature_that_swings_up_to_less_is_refused():
  with pytest.raises(
    ValueError,
    match="temperature_high is 0.5; .* below pretrain.temperature_low, .* 0.6",
  ):
    Settings(temperature_low=0.6, temperature_high=0.5)
  Settings(temperature_low=0.5, temperature_high=0.5)
