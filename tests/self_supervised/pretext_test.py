"""The shared step of pretext tasks, on a task that can be done by hand.

The task pulls a vector `w [F]` to the mean features of a batch, counts what it
sees, and asks a follower to remember.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.evaluation import monitors
from ltjax.self_supervised import pretext
from ltjax.training import fit, step

LEARNING_RATE = 0.05


def task():
  """Returns the tests' pretext task; its `extra` says what it was told."""

  def init(state):
    params = {"backbone": state.backbone, "w": jnp.zeros(toys.D)}
    extra = {
      "epochs": jnp.zeros((), jnp.int32),
      "epoch": jnp.full((), -1, jnp.int32),
      "progress": jnp.full((), -1.0),
      "follower": jnp.zeros(toys.D),
    }
    return params, state.batch_stats, extra

  def refresh(state, batch):
    extra = state.extra
    epochs = extra["epochs"] + batch.fresh.astype(jnp.int32)
    return extra | {"epochs": epochs}

  def loss(params, state, batch):
    network = {"backbone": params["backbone"], "head": batch.arrays["head"]}
    x = (batch.images.astype(jnp.float32) / 255 - 0.4) / 0.25
    x = x + 0.1 * jax.random.normal(batch.key, x.shape)
    features, _, stats = toys.model().apply(network, state.batch_stats, x, True)
    away = jnp.mean(features, axis=0) - params["w"]
    metrics = {"epochs": state.extra["epochs"].astype(jnp.float32)}
    found = {"epoch": batch.epoch, "progress": batch.progress}
    outcome = step.Outcome(stats, metrics, found=found, features=features)
    return jnp.sum(away**2), outcome

  def follow(params, state, batch, outcome):
    return state.extra | outcome.found | {"follower": params["w"]}

  def keep(state, trained):
    return state.replace(
      backbone=trained.params["backbone"], batch_stats=trained.batch_stats
    )

  return step.Algorithm(
    init=init,
    loss=loss,
    keep=keep,
    refresh=refresh,
    follow=follow,
    metrics=("epochs",),
  )


def make_stage(
  learner, *, online_probe=False, labels=None, changes=None, **recipe
):
  chosen = dataclasses.replace(task(), **(changes or {}))
  setup = toys.pretext_setup(
    learner,
    "pretrain",
    recipe=recipe,
    labels=learner.task.labels if labels is None else labels,
    online_probe=online_probe,
  )
  return pretext.make(
    "pretrain",
    chosen,
    setup,
    feature_dim=learner.model.feature_dim,
    key=setup.key,
  )


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def hand_features(params, key, images):
  x = (np.asarray(images, np.float64) / 255 - 0.4) / 0.25
  x = x + 0.1 * np.asarray(jax.random.normal(key, x.shape))
  p = jax.tree.map(np.float64, jax.device_get(params["backbone"]))
  x = x.reshape(len(images), -1) @ p["kernel"]
  x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * p["scale"] + p["bias"]
  return np.maximum(x, 0)


def test_a_step_reads_the_images_as_they_were_given(learner):
  arrays, _ = make_stage(learner).prepare(learner.init())
  assert arrays["labels"] is learner.task.labels
  assert len(arrays["images"]) == toys.N
  assert arrays["counts"].tolist() == list(toys.LABELED)
  toys.assert_same(arrays["head"], learner.init().head)


def test_stages_begin_without_an_online_probe(learner):
  stage = toys.moco_stage(learner)
  state = jax.eval_shape(stage.init, learner.init())
  assert "online_accuracy" not in state.totals


def test_step_equals_one_by_hand(learner):
  """The second step: key, batch, loss, gradient, momentum, decay, monitors."""
  stage = make_stage(learner, weight_decay=0.01)
  (start, before, after), arrays, indices = toys.train(stage, learner.init(), 2)
  features = hand_features(
    before.params,
    jax.random.fold_in(before.key, 1),
    np.asarray(arrays["images"])[indices[1]],
  )
  w = np.asarray(before.params["w"], np.float64)
  away = features.mean(0) - w
  gradient = -2 * away + 0.01 * w
  # The velocity after the first step is its whole gradient.
  rate = [float(stage.schedule(t)) for t in (0, 1)]
  velocity = -(w - np.asarray(start.params["w"])) / rate[0]
  expected = w - rate[1] * (0.9 * velocity + gradient)
  np.testing.assert_allclose(after.params["w"], expected, rtol=1e-4, atol=1e-6)
  now = {
    name: after.totals[name] - before.totals[name] for name in after.totals
  }
  np.testing.assert_allclose(now["loss"], np.sum(away**2), rtol=1e-4)
  x = jnp.asarray(features, jnp.float32)
  for name in ("feature_std", "effective_rank"):
    value = getattr(monitors, name)(x)
    assert value > 0
    np.testing.assert_allclose(now[name], value, rtol=1e-3)
  assert after.step == 2 and toys.differ(after.batch_stats, before.batch_stats)


def test_every_image_once_an_epoch(learner):
  """Of 40 images the first 39 of a new order: 3 steps of 13."""
  stage = make_stage(learner, batch_size=13)
  _, stream = stage.prepare(learner.init())
  assert stage.steps_per_epoch == 3 and stage.steps == 6
  for epoch in (0, 1):
    assert len(set(stream(epoch).ravel())) == 39
  assert not np.array_equal(stream(0), stream(1))


def test_epochs_are_told(learner):
  """5 steps each; what is made anew at a start is there in that step."""
  states, *_ = toys.train(make_stage(learner), learner.init(), 10)
  for done, state in enumerate(states[1:]):
    extra = state.extra
    assert extra["epochs"] == 1 + done // 5
    assert extra["epoch"] == done // 5
    np.testing.assert_allclose(extra["progress"], done / 10, rtol=1e-6)
    # `loss` sees the extra of `refresh`, and totals start anew.
    seen = (1 + done // 5) * (1 + done % 5)
    np.testing.assert_allclose(state.totals["epochs"], seen)


def test_followers_see_the_new_params(learner):
  states, *_ = toys.train(make_stage(learner), learner.init(), 3)
  for state in states[1:]:
    np.testing.assert_array_equal(state.extra["follower"], state.params["w"])


def test_params_are_constrained_before_they_are_followed(learner):
  """Here: held in the first step, then of length 1."""

  def constrain(params, state):
    w = params["w"] / jnp.linalg.norm(params["w"])
    return params | {"w": jnp.where(state.step < 1, state.params["w"], w)}

  stage = make_stage(learner, changes={"constrain": constrain})
  states, *_ = toys.train(stage, learner.init(), 3)
  np.testing.assert_array_equal(states[1].params["w"], 0)
  assert toys.differ(states[1].params["backbone"], states[0].params["backbone"])
  for state in states[2:]:
    length = np.linalg.norm(state.params["w"])
    np.testing.assert_allclose(length, 1, rtol=1e-6)
    np.testing.assert_array_equal(state.extra["follower"], state.params["w"])


def test_rows_and_what_is_left(learner, tmp_path):
  state, rows = toys.execute(
    tmp_path, learner, [make_stage(learner, online_probe=True)]
  )
  names = ("loss", "epochs", "feature_std", "effective_rank", "online_accuracy")
  assert set(names) <= rows[-1].keys()
  fresh = learner.init()
  assert toys.differ(state.backbone, fresh.backbone)
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(state, name), getattr(fresh, name))


def test_the_network_does_not_feel_the_online_probe(learner):
  """Bit for bit, over two epochs with decay and momentum."""
  without, *_ = toys.train(make_stage(learner), learner.init(), 10)
  states, *_ = toys.train(
    make_stage(learner, online_probe=True), learner.init(), 10
  )
  for a, b in zip(states, without, strict=True):
    params = dict(a.params)
    probe = params.pop("online_probe")
    toys.assert_same(params, b.params)
    toys.assert_same(a.batch_stats, b.batch_stats)
    toys.assert_same(a.extra, b.extra)
    for name, value in b.totals.items():
      toys.assert_same(a.totals[name], value)
  assert toys.norm(probe) > 0.1


def test_online_probe_equals_one_by_hand(learner):
  """The first step, from zeros: softmax regression on vectors of length 4."""
  labels = np.array(learner.task.labels)
  labels[::3] = -1  # unknown: no loss
  stage = make_stage(
    learner, online_probe=True, labels=jnp.asarray(labels), weight_decay=0.0
  )
  (before, after), arrays, indices = toys.train(stage, learner.init(), 1)
  features = hand_features(
    before.params,
    jax.random.fold_in(before.key, 0),
    np.asarray(arrays["images"])[indices[0]],
  )
  x = 4 * features / np.linalg.norm(features, axis=1, keepdims=True)
  batch = labels[indices[0]]
  assert 0 < sum(batch < 0) < len(batch)
  gradient, right = np.zeros((toys.D, toys.C)), 0
  known = [i for i in range(len(batch)) if batch[i] >= 0]
  for i in known:
    error = np.full(toys.C, 0.25) - np.eye(toys.C)[batch[i]]
    gradient += np.outer(x[i], error) / len(known)
    right += batch[i] == 0  # the first of equal scores
  found = after.params["online_probe"]
  np.testing.assert_allclose(
    found["kernel"], -LEARNING_RATE * gradient, rtol=1e-3, atol=1e-6
  )
  np.testing.assert_allclose(
    after.totals["online_accuracy"], right / len(known), rtol=1e-6
  )


def test_online_probe_without_a_label(learner):
  stage = make_stage(
    learner,
    online_probe=True,
    labels=jnp.full(toys.N, -1, jnp.int32),
    weight_decay=0.0,
  )
  (_, after), *_ = toys.train(stage, learner.init(), 1)
  assert toys.norm(after.params["online_probe"]) == 0
  assert after.totals["online_accuracy"] == 0


def test_online_probe_learns_the_toy(learner, tmp_path):
  stage = make_stage(learner, online_probe=True, epochs=20)
  _, rows = toys.execute(tmp_path, learner, [stage])
  assert rows[-1]["online_accuracy"] > 0.8


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_resumed_in_an_epoch_it_ends_the_same(
  learner, tmp_path, steps_per_call
):
  """Carried extras, the epoch's number and its totals survive."""

  def stage():
    return [make_stage(learner, online_probe=True)]

  class Stop(BaseException):
    pass

  class Stopper:
    def __init__(self, ticks):
      self.left = ticks

    def update(self, *unused):
      self.left -= 1
      if not self.left:
        raise Stop

    def stage(self, *unused, resumed_at):
      pass

    def skip(self, images):
      pass

    def message(self, text):
      pass

  def run(folder: pathlib.Path, **settings):
    return toys.execute(
      folder,
      learner,
      stage(),
      steps_per_call=steps_per_call,
      checkpoint_every_s=0,
      **settings,
    )

  whole, whole_rows = run(tmp_path / "whole")
  with pytest.raises(Stop):
    run(tmp_path / "halved", progress=Stopper(4))
  state, rows = run(tmp_path / "halved")
  toys.assert_same(state, whole)
  assert rows == whole_rows


def test_not_finite(learner, tmp_path):
  broken = task()
  broken = dataclasses.replace(
    broken,
    loss=lambda params, state, batch: (
      jnp.inf * jnp.sum(params["w"] + 1),
      task().loss(params, state, batch)[1],
    ),
  )
  stage = make_stage(learner, changes={"loss": broken.loss})
  with pytest.raises(fit.NonFiniteLossError, match="pretrain is not finite at"):
    toys.execute(tmp_path, learner, [stage])


@pytest.mark.parametrize(
  "recipe, message",
  [
    ({"batch_size": 1}, "pretrain.batch_size is 1; .* needs 2 or more"),
    ({"batch_size": 0}, "pretrain.batch_size is 0; .* needs 2 or more"),
    ({"batch_size": 41}, "pretrain.batch_size is 41, but the stage has only"),
  ],
)
def test_bad_batches(learner, recipe, message):
  with pytest.raises(ValueError, match=message):
    make_stage(learner, **recipe)
