"""The step that all stages share, on an algorithm that can be done by hand.

`tests/stages/pretext_test.py` has gradient, momentum, refresh, constrain and
follow by hand.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax import methods
from ltjax.training import draw, step


def pull(params, state, batch):
  """Pulls `w [C]` to the mean of what is remembered of the batch."""
  before = state.memory[batch.index]
  away = params["w"] - jnp.mean(before, axis=0)
  metrics = {"label": jnp.mean(batch.labels.astype(jnp.float32))}
  seen = jax.nn.one_hot(batch.labels, toys.C)
  return 0.5 * jnp.sum(away**2), step.Outcome(
    state.batch_stats, metrics, memory=0.5 * before + 0.5 * seen
  )


def algorithm(**changes):
  made = step.Algorithm(
    pull,
    ("label",),
    init=lambda state: ({"w": jnp.ones(toys.C)}, {}, {}),
    memory=lambda state: jnp.full_like(state.memory, 0.25),
    keep=lambda state, trained: state.replace(memory=trained.memory),
  )
  return dataclasses.replace(made, **changes)


def stage(learner, made, name="stage", **settings):
  recipe = toys.recipe(weight_decay=0.0, momentum=0.0)
  data = draw.labeled(learner.samples, recipe.batch_size, field="embedding")
  return step.make(
    *(name, made, data, recipe),
    key=learner.key(name),
    report=toys.nothing,
    **settings,
  )


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def test_rows_of_memory_are_read_then_written(learner):
  """Three steps in NumPy; other rows keep every bit."""
  made = stage(learner, algorithm())
  states, arrays, indices = toys.train(made, learner.init(), 3)
  labels = np.asarray(arrays["labels"])
  memory = np.full((toys.N + toys.M, toys.C), 0.25, np.float32)
  w, losses = np.ones(toys.C), 0.0
  for t, index in enumerate(indices[:3]):
    away = w - memory[index].mean(0)
    losses += 0.5 * np.sum(away**2)
    w = w - float(made.schedule(t)) * away
    memory[index] = 0.5 * memory[index] + 0.5 * np.eye(toys.C)[labels[index]]
    after = states[t + 1]
    np.testing.assert_allclose(after.params["w"], w, rtol=1e-5)
    np.testing.assert_allclose(after.totals["loss"], losses, rtol=1e-5)
    np.testing.assert_array_equal(after.memory, memory)
  left = made.finish(learner.init(), states[-1])
  np.testing.assert_array_equal(left.memory, memory)


def test_an_outcome_without_rows_leaves_the_memory(learner):
  def loss(params, state, batch):
    value, outcome = pull(params, state, batch)
    return value, outcome._replace(memory=None)

  states, *_ = toys.train(
    stage(learner, algorithm(loss=loss)), learner.init(), 2
  )
  toys.assert_same(states[-1].memory, states[0].memory)


def test_a_loss_that_logs_another_one_is_logged_so(learner):
  """As the online probe does, whose own loss is not that of the task."""

  def loss(params, state, batch):
    value, outcome = pull(params, state, batch)
    metrics = outcome.metrics | {"loss": jnp.float32(7)}
    return value, outcome._replace(metrics=metrics)

  states, *_ = toys.train(
    stage(learner, algorithm(loss=loss)), learner.init(), 1
  )
  assert states[-1].totals["loss"] == 7
  assert toys.differ(states[-1].params, states[0].params)


def test_stages_of_one_loss_share_their_step(learner):
  """Wherever they begin and whatever they leave; other losses have others."""
  one = stage(learner, algorithm())
  other = algorithm(
    init=lambda state: ({"w": jnp.zeros(toys.C)}, {}, {}),
    keep=lambda state, trained: state,
  )
  two = stage(learner, other, "two")
  assert one.step is two.step
  assert toys.differ(one.init(learner.init()), two.init(learner.init()))
  third = algorithm(loss=lambda *args: pull(*args))
  assert stage(learner, third).step is not one.step


def test_parts_follow_one_schedule(learner):
  """The first has the rates of the first half, the second of the other."""
  whole = toys.recipe(epochs=4).make_schedule(5)
  halves = [stage(learner, algorithm(), part=p, parts=2) for p in (0, 1)]
  assert halves[0].step is halves[1].step
  for part, half in enumerate(halves):
    start = 10 * part
    assert float(half.schedule(3)) == float(whole(start + 3))
    before, _, _, after = toys.one_step(half, learner.init())
    np.testing.assert_allclose(
      after.params["w"] - before.params["w"],
      -whole(start) * 0.75,
      rtol=1e-5,
    )


def test_what_a_batch_tells_of_the_stage(learner):
  seen = []

  def loss(params, state, batch):
    assert (batch.epochs, batch.steps) == (2, 10)
    assert batch.images.shape == (toys.BATCH, toys.SIZE, toys.SIZE, 1)
    jax.debug.callback(
      lambda *x: seen.append([float(v) for v in x]),
      *(batch.epoch, batch.fresh, batch.progress),
      ordered=True,
    )
    return pull(params, state, batch)

  toys.train(stage(learner, algorithm(loss=loss)), learner.init(), 6)
  jax.effects_barrier()
  expected = [[t // 5, t % 5 == 0, t / 10] for t in range(6)]
  np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_a_stage_that_reads_no_images_has_none(learner):
  def loss(params, state, batch):
    assert batch.images is None
    return pull(params, state, batch)

  made = stage(learner, algorithm(loss=loss))
  arrays, stream = made.prepare(learner.init())
  arrays = {"labels": arrays["labels"]}
  shapes = jax.eval_shape(
    made.step, made.init(learner.init()), stream(0)[0], arrays
  )
  assert shapes.step.shape == ()


def test_a_network_with_layer_decay_learns_slower_below_the_head(learner):
  """The toys' backbone is a stem alone: by `d` slower in the first step."""
  moved = []
  for decay in (1.0, 0.25):
    model = learner.model._replace(layer_decay=decay)
    stage = toys.embedding_stage(dataclasses.replace(learner, model=model))
    before, _, _, after = toys.one_step(stage, learner.init())
    difference = jax.tree.map(jnp.subtract, after.params, before.params)
    moved.append(toys.host(difference))
  usual, found = (change.pop("backbone") for change in moved)
  toys.assert_same(*moved)
  for name, change in usual.items():
    assert np.any(change != 0)
    np.testing.assert_allclose(found[name], 0.25 * change, atol=2e-7)


@pytest.mark.parametrize(
  ("method", "pretrain", "networks"),
  [
    ("sslt", "none", 3),  # the embedding and two loops; classifiers are frozen
    ("mean_teacher", "none", 1),
    ("glmc", "none", 1),
    ("supervised", "rotation", 2),
    ("supervised", "moco", 2),
  ],
)
def test_stages_that_train_a_network_have_its_layer_decay(
  learner, monkeypatch, method, pretrain, networks
):
  made, real = [], step.make

  def make(name, algorithm, *rest, **settings):
    made.append(algorithm.layer_decay)
    return real(name, algorithm, *rest, **settings)

  monkeypatch.setattr(step, "make", make)
  model = learner.model._replace(layer_decay=0.5)
  changes = {"method": method, "pretrain__name": pretrain}
  changes |= {"pretrain__queue": toys.BATCH} if pretrain == "moco" else {}
  settings = toys.config(**changes)
  methods.stages(dataclasses.replace(learner, model=model), settings)
  assert sorted(set(made)) in ([0.5], [0.5, 1.0])
  assert made.count(0.5) == networks
