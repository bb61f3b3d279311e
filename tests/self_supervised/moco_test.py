"""Momentum contrast: the step against NumPy, the queue, the limits of ema."""

import dataclasses

import jax
import numpy as np
import pytest
import toys

from ltjax.models import projections
from ltjax.self_supervised import moco, pretext
from ltjax.training import step

BATCH, QUEUE, DIM = 8, 24, 3


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def make_stage(learner, *, name="moco", **settings):
  defaults = {"dim": DIM, "queue": QUEUE, "ema": 0.9}
  defaults |= {"views": toys.two_views, "key": learner.key("moco")}
  return toys.pretrain(moco, learner, name, **(defaults | settings))


def numpy_units(params, batch_stats, images, train):
  """Backbone, projection and normalisation, in float64."""
  params, stats = jax.tree.map(
    np.float64, jax.device_get((params, batch_stats))
  )
  backbone, projection = params["backbone"], params["projection"]
  x = np.asarray(images, np.float64).reshape(len(images), -1)
  x = x @ backbone["kernel"]
  mean, var = (x.mean(0), x.var(0)) if train else (stats["mean"], stats["var"])
  x = (x - mean) / np.sqrt(var + 1e-5) * backbone["scale"] + backbone["bias"]
  x = np.maximum(x, 0)
  first, second = projection["first"], projection["second"]
  x = np.maximum(x @ first["kernel"] + first["bias"], 0)
  x = x @ second["kernel"] + second["bias"]
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def follow(old, new, decay):
  return jax.tree.map(
    lambda a, b: decay * np.asarray(a) + (1 - decay) * np.asarray(b), old, new
  )


@pytest.mark.parametrize("key_batch_norm", ["batch", "ema"])
def test_step_equals_a_numpy_reference(learner, key_batch_norm):
  """The second step, in which query and key networks differ."""
  stage = make_stage(learner, key_batch_norm=key_batch_norm, temperature=0.3)
  (_, before, after), arrays, indices = toys.train(stage, learner.init(), 2)
  first, second = toys.two_views(
    jax.random.fold_in(before.key, 1), arrays["images"][indices[1]]
  )
  params = follow(before.extra["params"], before.params, 0.9)
  stats = follow(before.extra["batch_stats"], before.batch_stats, 0.9)
  keys = numpy_units(params, stats, second, key_batch_norm == "batch")
  queries = numpy_units(before.params, before.batch_stats, first, True)
  queue = np.asarray(before.extra["queue"], np.float64)
  loss, hits = 0.0, 0.0
  for q, k in zip(queries, keys):
    positive, negatives = q @ k / 0.3, queue @ q / 0.3
    loss += np.log(np.exp([positive, *negatives]).sum()) - positive
    hits += positive > negatives.max()
  now = {n: after.totals[n] - before.totals[n] for n in ("loss", "accuracy")}
  np.testing.assert_allclose(now["loss"], loss / BATCH, rtol=1e-4)
  np.testing.assert_allclose(now["accuracy"], hits / BATCH, atol=1e-6)
  # The keys take the places 8 to 15; all others keep every bit.
  found = np.asarray(after.extra["queue"])
  np.testing.assert_allclose(found[8:16], keys, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(found[:8], before.extra["queue"][:8])
  np.testing.assert_array_equal(found[16:], before.extra["queue"][16:])
  for name, expected in (("params", params), ("batch_stats", stats)):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
      after.extra[name],
      expected,
    )


def test_golden_step(learner):
  """Update the numbers only if the step is meant to change (see CHANGELOG)."""
  (_, after), *_ = toys.train(make_stage(learner), learner.init(), 1)
  found = after.totals | {
    "params": toys.norm(after.params),
    "batch_stats": toys.norm(after.batch_stats),
    "queue": float(np.sum(after.extra["queue"])),
  }
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "accuracy": 1.0,
  "loss": 0.783192,
  "params": 3.833689,
  "batch_stats": 2.417706,
  "queue": -12.313277,
}


def test_queue_is_first_in_first_out(learner):
  """Three batches fill it; the fourth replaces the first."""
  states, *_ = toys.train(make_stage(learner), learner.init(), 4)
  queues = [np.asarray(state.extra["queue"]) for state in states]
  for t in range(1, 5):
    changed = np.any(queues[t] != queues[t - 1], axis=1)
    place = (t - 1) % 3
    expected = np.arange(QUEUE) // BATCH == place
    np.testing.assert_array_equal(changed, expected)
  for queue in queues:
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-5)


def test_queue_of_one_batch_holds_the_last_keys(learner):
  states, *_ = toys.train(make_stage(learner, queue=BATCH), learner.init(), 2)
  one, two = (np.asarray(state.extra["queue"]) for state in states[1:])
  assert np.all(np.any(one != two, axis=1))


def test_ema_zero_copies_the_query_network(learner):
  """The keys are those of the parameters before the step's update."""
  states, *_ = toys.train(make_stage(learner, ema=0.0), learner.init(), 3)
  for before, after in zip(states, states[1:]):
    toys.assert_same(after.extra["params"], before.params)
    toys.assert_same(after.extra["batch_stats"], before.batch_stats)


def test_ema_one_freezes_the_key_network(learner):
  """It is refused in a config, but is the limit of the step."""
  stage = make_stage(learner)
  task = moco.task(
    learner.model,
    projections.mlp(toys.D, hidden=toys.D, dim=DIM),
    views=toys.two_views,
    settings=moco.Settings(dim=DIM, queue=QUEUE, ema=1.0),
    projection_key=jax.random.key(0),
    queue_key=jax.random.key(1),
  )
  program = step.program(pretext.watched(task), toys.recipe(), 5)
  states, *_ = toys.train(
    dataclasses.replace(stage, step=program.step), learner.init(), 3
  )
  start = states[0].extra
  for after in states[1:]:
    toys.assert_same(after.extra["params"], start["params"])
    toys.assert_same(after.extra["batch_stats"], start["batch_stats"])
  assert toys.differ(states[-1].params, start["params"])


def test_starts_with_equal_networks_in_buffers_of_their_own(learner):
  state = make_stage(learner).init(learner.init())
  toys.assert_same(state.extra["params"], state.params)
  pointers = [
    leaf.unsafe_buffer_pointer()
    for leaf in jax.tree.leaves((state.params, state.extra))
  ]
  assert len(set(pointers)) == len(pointers)
  queue = np.asarray(state.extra["queue"])
  assert queue.shape == (QUEUE, DIM) and np.abs(queue.mean(0)).max() < 0.5


def test_only_the_query_network_gets_a_gradient(learner):
  """With keys of a frozen batch the update is that of the queries alone."""
  stage = make_stage(learner, recipe={"weight_decay": 0.0})
  (before, after), arrays, indices = toys.train(stage, learner.init(), 1)
  first, second = toys.two_views(
    jax.random.fold_in(before.key, 0), arrays["images"][indices[0]]
  )
  keys = numpy_units(before.params, before.batch_stats, second, True)
  queue = np.asarray(before.extra["queue"], np.float64)

  def loss(bias):
    layer = before.params["projection"]["second"] | {"bias": bias}
    projection = before.params["projection"] | {"second": layer}
    params = before.params | {"projection": projection}
    queries = numpy_units(params, before.batch_stats, first, True)
    logits = np.concatenate(
      [(queries * keys).sum(1, keepdims=True), queries @ queue.T], axis=1
    )
    logits /= 0.2
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0])

  bias = np.asarray(before.params["projection"]["second"]["bias"], np.float64)
  slopes = [
    (loss(bias + 1e-5 * unit) - loss(bias - 1e-5 * unit)) / 2e-5
    for unit in np.eye(DIM)
  ]
  np.testing.assert_allclose(
    after.params["projection"]["second"]["bias"],
    bias - 0.05 * np.array(slopes),
    rtol=1e-4,
    atol=1e-5,
  )


def test_key_of_an_image_depends_on_it_alone_with_ema(learner):
  """With `batch` the other images of the batch are seen in a key."""
  for key_batch_norm, alone in (("ema", True), ("batch", False)):
    stage = make_stage(learner, key_batch_norm=key_batch_norm)
    state = learner.init()
    before = stage.init(state)
    arrays, stream = stage.prepare(state)
    index = stream(0)[0]
    images = arrays["images"].at[index[4:]].set(250)
    step = toys.jitted(stage.step)
    one = step(before, index, arrays).extra["queue"][:4]
    other = step(before, index, arrays | {"images": images}).extra["queue"][:4]
    assert np.allclose(one, other, atol=1e-6) == alone


def test_leaves_the_embedding_and_nothing_else(learner, tmp_path):
  after, rows = toys.execute(tmp_path, learner, [make_stage(learner)])
  fresh = toys.host(learner.init())
  assert toys.differ(after.backbone, fresh.backbone)
  assert toys.differ(after.batch_stats, fresh.batch_stats)
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(after, name), getattr(fresh, name))
  names = {"loss", "accuracy", "feature_std", "effective_rank"}
  assert names <= rows[-1].keys()
  assert not after.pretrained


def test_online_probe_reads_labels_and_f_does_not_feel_it(learner):
  """Nor does the key network follow it."""
  (*_, plain), *_ = toys.train(make_stage(learner), learner.init(), 3)
  stage = make_stage(learner, online_probe=True)
  (*_, probed), *_ = toys.train(stage, learner.init(), 3)
  params = dict(probed.params)
  assert toys.norm(params.pop("online_probe")) > 0
  assert probed.totals["online_accuracy"] > 0
  toys.assert_same(params, plain.params)
  toys.assert_same(probed.extra, plain.extra)


@pytest.mark.parametrize("key_batch_norm", ["batch", "ema"])
def test_learns_to_tell_images_apart(learner, key_batch_norm, tmp_path):
  stage = make_stage(
    learner,
    recipe={"epochs": 40, "learning_rate": 0.05},
    queue=16,
    dim=8,
    ema=0.9,
    key_batch_norm=key_batch_norm,
  )
  _, rows = toys.execute(tmp_path, learner, [stage])
  assert rows[-1]["accuracy"] > 3 / 17  # chance is 1 / 17
  assert rows[-1]["loss"] < np.log(17) - 0.2


def test_no_key_is_used_twice(learner, key_reuse):
  states, *_ = toys.train(make_stage(learner, queue=16), learner.init(), 1)
  assert states[-1].step == 1


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"recipe": {"batch_size": 1}}, "pretrain.batch_size is 1; .* 2 or more"),
    ({"queue": 30}, "queue is 30; it must be a multiple of .* 24 or 32"),
    ({"queue": 4}, "queue is 4; it must be a multiple of .* 8 or 16"),
    ({"queue": 0}, "queue is 0; it must be a multiple of .* 8 or 16"),
    (
      {"recipe": {"batch_size": 41}, "queue": 82},
      "pretrain.batch_size is 41, but the stage has only 40",
    ),
  ],
)
def test_bad_settings(learner, settings, message):
  with pytest.raises(ValueError, match=message):
    make_stage(learner, name="pretrain", **settings)


def test_images_must_be_square(learner):
  wide = toys.model()._replace(image_shape=(4, 6, 1))
  with pytest.raises(ValueError, match="'moco', .* square .* 4 x 6 pixels"):
    make_stage(dataclasses.replace(learner, model=wide))
