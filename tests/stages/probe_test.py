"""The probe stage: a linear classifier, the best one on validation images."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.devices import sharding
from ltjax.evaluation import protocols
from ltjax.models import heads
from ltjax.stages import probe

EPOCHS, STEPS = 6, 5


def stage(learner, *, select="validation", every=1, views=2, **changes):
  """On the labeled set, with a rate so high that accuracy goes up and down."""
  settings = {"epochs": EPOCHS, "learning_rate": 2.0, "schedule": "constant"}
  return probe.make(
    "probe",
    learner.predictor,
    protocol=protocols.Protocol(
      "custom",
      "labeled",
      toys.recipe(**(settings | changes)),
      views=views,
      select=select,
      select_every=every,
    ),
    images=learner.task.images[: toys.N],
    labels=learner.task.labels,
    validation_features=lambda state: learner.predictor.features(
      state, learner.task.validation_images
    ),
    validation_labels=learner.task.validation_labels,
    num_classes=toys.C,
    seed=learner.seed,
    key=learner.key("probe"),
    report=toys.nothing,
  )


@pytest.fixture(scope="module")
def learner():
  return toys.learner(validation=5, pad=1, flip=True)


def epochs_of(made, state):
  """Runs a stage; returns its state at the end of each epoch."""
  arrays, stream = made.prepare(state)
  train, ends = made.init(state), []
  step = toys.jitted(made.step)
  for epoch in range(made.epochs):
    for index in stream(epoch):
      train = step(train, index, arrays)
    ends.append(train)
  return ends


def accuracy_of(learner, state, head):
  """On the validation images, without the stage."""
  probabilities = learner.predictor.probabilities(
    state, learner.task.validation_images, head=head
  )
  right = np.argmax(probabilities, -1) == learner.task.validation_labels
  return float(np.mean(right))


@pytest.mark.parametrize("every", [1, 2, 4, 10])
def test_the_best_epoch_is_kept(learner, every):
  """Against a look from outside; at 4 and 10 the last epoch is off the beat."""
  state = learner.init()
  made = stage(learner, every=every)
  ends = epochs_of(made, state)
  accuracies = [accuracy_of(learner, state, end.params) for end in ends]
  looks = [e for e in range(1, EPOCHS + 1) if e % every == 0 or e == EPOCHS]
  best = max(looks, key=lambda e: (accuracies[e - 1], -e))
  if every == 1:  # so that there is something to choose
    assert best < EPOCHS and len(set(accuracies)) > 1
  final = made.finish(state, ends[-1])
  chex.assert_trees_all_equal(final.balanced_head, ends[best - 1].params)
  (row,) = made.report(final)
  assert row["selection"] == "validation" and row["epoch"] == best
  assert row["validation_accuracy"] == pytest.approx(accuracies[best - 1])


def test_nothing_is_kept_within_an_epoch(learner):
  made = stage(learner)
  state = learner.init()
  arrays, stream = made.prepare(state)
  train = made.init(state)
  step = toys.jitted(made.step)
  for index in stream(0)[:-1]:
    train = step(train, index, arrays)
  assert train.extra["accuracy"] == -1 and train.extra["epoch"] == 0
  train = step(train, stream(0)[-1], arrays)
  assert train.extra["epoch"] == 1 and train.extra["accuracy"] >= 0


def test_selection_does_not_change_the_training(learner):
  state = learner.init()
  chosen, last = (
    epochs_of(stage(learner, select=select), state)[-1]
    for select in ("validation", "last")
  )
  toys.assert_same(chosen.params, last.params)


@pytest.mark.parametrize(
  "select, validation", [("last", 5), ("last", 0), ("validation", 0)]
)
def test_the_last_epoch_counts_without_a_choice(select, validation):
  learner = toys.learner(validation=validation)
  state, made = learner.init(), stage(learner, select=select)
  end = epochs_of(made, state)[-1]
  final = made.finish(state, end)
  chex.assert_trees_all_equal(final.balanced_head, end.params)
  (row,) = made.report(final)
  assert row == {
    "kind": "probe",
    "protocol": "custom",
    "images": toys.N,
    "batch_size": toys.BATCH,
    "learning_rate": 2.0,
    "selection": "last",
    "epoch": EPOCHS,
  }


def test_only_the_head_changes(learner):
  state, made = learner.init(), stage(learner)
  final = made.finish(state, epochs_of(made, state)[-1])
  for name in ("backbone", "batch_stats", "head", "memory", "pseudo_labels"):
    toys.assert_same(getattr(final, name), getattr(state, name))
  assert toys.differ(final.balanced_head, state.balanced_head)


def test_the_head_starts_fresh_as_a_linear_layer_of_pytorch(learner):
  state = learner.init()
  filled = jax.tree.map(lambda x: jnp.full_like(x, 9.0), state.balanced_head)
  params = stage(learner).init(state.replace(balanced_head=filled)).params
  bound = toys.D**-0.5
  for leaf in jax.tree.leaves(params):
    assert np.all(np.abs(leaf) <= bound) and np.std(leaf) > 0.3 * bound


def test_features_are_not_brought_to_length_1(learner):
  state = learner.init()
  arrays, _ = stage(learner, views=0).prepare(state)
  expected = learner.predictor.features(state, learner.task.images[: toys.N])
  np.testing.assert_array_equal(arrays["features"], expected)
  assert np.std(np.linalg.norm(expected, axis=1)) > 0.01


def test_each_image_is_seen_once_an_epoch(learner):
  _, stream = stage(learner, views=3).prepare(learner.init())
  for epoch in range(3):
    rows = stream(epoch).reshape(-1)
    np.testing.assert_array_equal(np.sort(rows % toys.N), np.arange(toys.N))
    assert len(set(rows // toys.N)) == 3


def test_the_same_steps_as_softmax_regression(learner):
  """Two steps of plain SGD, written out."""
  state = learner.init()
  made = stage(learner, views=0, momentum=0.0, weight_decay=0.0)
  arrays, stream = made.prepare(state)
  train = made.init(state)
  w, b = (np.float64(train.params[name]) for name in ("kernel", "bias"))
  x, y = np.float64(arrays["features"]), np.asarray(learner.task.labels)
  step = toys.jitted(made.step)
  for index in stream(0)[:2]:
    train = step(train, index, arrays)
    logits = x[index] @ w + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    error = (p / p.sum(1, keepdims=True) - np.eye(toys.C)[y[index]]) / len(
      index
    )
    w, b = w - 2.0 * x[index].T @ error, b - 2.0 * error.sum(0)
  np.testing.assert_allclose(train.params["kernel"], w, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(train.params["bias"], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_resumed_at_every_call_it_ends_with_the_same_bits(
  steps_per_call, tmp_path
):
  """The best classifier so far is part of what a checkpoint holds."""

  settings = {"steps_per_call": steps_per_call, "checkpoint_every_s": 0}
  learner = toys.learner(validation=3, pad=1, flip=True)
  made = stage(learner, epochs=2, batch_size=20)
  whole, rows = toys.execute(tmp_path / "whole", learner, [made], **settings)
  for _ in range(10):
    learner = toys.learner(validation=3, pad=1, flip=True)
    try:
      state, rows_again = toys.execute(
        tmp_path / "stopped",
        learner,
        [stage(learner, epochs=2, batch_size=20)],
        progress=toys.Killer(2),
        **settings,
      )
      break
    except toys.Killed:
      continue
  toys.assert_same(state, whole)
  assert rows_again == rows


def test_killed_before_its_report_it_tells_the_same(tmp_path):
  """What `finish` knew is not in the state; it is found out again."""

  def die(state):
    raise toys.Killed

  learner = toys.learner(validation=3)
  _, rows = toys.execute(tmp_path / "whole", learner, [stage(learner)])
  dying = dataclasses.replace(stage(learner), report=die)
  with pytest.raises(toys.Killed):
    toys.execute(tmp_path / "killed", learner, [dying])
  _, again = toys.execute(tmp_path / "killed", learner, [stage(learner)])
  assert again == rows and rows[-1]["selection"] == "validation"


def test_a_choice_is_told_only_once_it_was_made(learner):
  with pytest.raises(AssertionError):
    stage(learner).report(learner.init())


def test_four_devices_equal_one(tmp_path):
  results = []
  for devices in (1, 4):
    learner = toys.learner(mesh=sharding.make_mesh(devices), validation=5)
    results.append(
      toys.execute(tmp_path / str(devices), learner, [stage(learner)])
    )
  (one, rows), (four, rows_four) = results
  chex.assert_trees_all_close(
    toys.host(one), toys.host(four), rtol=1e-3, atol=1e-4
  )
  toys.assert_rows_close(rows, rows_four, rtol=1e-3, atol=1e-4)


def test_a_cosine_head_is_refused():
  head = heads.cosine(toys.D, toys.C)
  network = toys.model()._replace(head_init=head.init, head_apply=head.apply)
  with pytest.raises(ValueError, match="custom fits a linear .*head=linear"):
    stage(toys.learner(network=network))


def test_a_batch_larger_than_the_set_is_refused(learner):
  with pytest.raises(
    ValueError, match="probe.batch_size is 41, but .* 40 samples"
  ):
    stage(learner, batch_size=41)


def test_a_learning_rate_of_30_stays_finite(learner):
  """Also on features a thousand times larger."""
  state = learner.init()
  made = stage(learner, learning_rate=30.0, weight_decay=0.0)
  arrays, stream = made.prepare(state)
  arrays = dict(arrays, features=arrays["features"] * 1e3)
  train = made.init(state)
  step = toys.jitted(made.step)
  for index in stream(0):
    train = step(train, index, arrays)
  assert train.bad_step == -1
  for leaf in jax.tree.leaves(dataclasses.replace(train, key=None)):
    assert np.all(np.isfinite(leaf))
