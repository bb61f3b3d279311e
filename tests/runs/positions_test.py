"""Positions: what was saved at one comes back, and no other run's does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.checkpoints import manager as checkpoints
from ltjax.runs.positions import Positions
from ltjax.training import state as states
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState

NAMES = ("embedding", "classifier", "consistency")


def model(value=0.0, width=2):
  return ModelState(
    backbone={"kernel": jnp.full((3, width), value)},
    batch_stats={},
    head={"kernel": jnp.full((width, 4), value)},
    balanced_head={"kernel": jnp.full((width, 4), -value)},
    pseudo_labels=jnp.full(5, -1, jnp.int32),
    memory=jnp.zeros((0, 4)),
  )


def begin(state):
  """The state before the first step of a stage that trains the heads."""
  return states.create(
    params={"head": state.head},
    batch_stats={},
    opt_state=(),
    memory=jnp.zeros((0, 4)),
    key=jax.random.key(0),
    metrics=("loss",),
  )


def stages(names=NAMES, **changes):
  return [
    Stage(name=name, finish=lambda state, trained: state, init=begin, **changes)
    for name in names
  ]


@pytest.fixture
def open_at(tmp_path):
  """Opens the positions of a run of some stages, as a new process would."""
  opened = []

  def make(the_stages=None):
    opened.append(checkpoints.Checkpoints(tmp_path))
    return Positions(
      stages() if the_stages is None else the_stages,
      opened[-1],
      toys.one_device(),
    )

  yield make
  for found in opened:
    found.close()


def test_a_run_that_saved_nothing_begins_with_what_it_was_given(open_at):
  given = model(1.0)
  position, state, train = open_at().restore(given)
  assert position is None and state is given and train is None


def test_between_two_stages(open_at):
  open_at().save((1, 0), model(2.0), None)
  position, state, train = open_at().restore(model())
  assert position == (1, 0) and train is None
  toys.assert_same(state, model(2.0))


def test_within_a_stage(open_at):
  trained = dataclasses.replace(
    begin(model(3.0)), step=jnp.asarray(7, jnp.int32), totals={"loss": jnp.pi}
  )
  trained = jax.tree.map(jnp.asarray, trained)
  open_at().save((2, 7), model(2.0), trained)
  position, state, train = open_at().restore(model())
  assert position == (2, 7)
  toys.assert_same(state, model(2.0))
  toys.assert_same(train, trained)


def test_the_newest_is_restored(open_at):
  positions = open_at()
  for position, value in (((1, 0), 1.0), ((2, 0), 2.0), ((3, 0), 3.0)):
    positions.save(position, model(value), None)
  position, state, train = open_at().restore(model())
  assert position == (3, 0) and train is None
  assert float(state.backbone["kernel"][0, 0]) == 3


@pytest.mark.parametrize("position", [(1, 0), (1, 4), (3, 0)])
def test_other_stages_are_refused(open_at, position):
  train = begin(model()) if position[1] else None
  open_at().save(position, model(), train)
  name = (*NAMES, "end")[position[0]]
  words = f"stage {name!r}, number {position[0]}, which this config does not"
  with pytest.raises(ValueError, match=words):
    open_at(stages(("embedding",))).restore(model())
  if name != "end":
    with pytest.raises(ValueError, match=words):
      open_at(stages(("embedding", "another", "consistency"))).restore(model())


def test_more_stages_than_were_run_are_refused(open_at):
  open_at().save((3, 0), model(), None)
  with pytest.raises(ValueError, match="'end', number 3"):
    open_at(stages((*NAMES, "more"))).restore(model())


def test_another_model_is_refused(open_at):
  open_at().save((1, 0), model(width=2), None)
  with pytest.raises(ValueError, match=r"stored \[3, 2\]"):
    open_at().restore(model(width=6))


def test_a_stage_that_changes_the_head_is_followed(open_at):
  def wider(state):
    head = {"kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32)}
    return dataclasses.replace(state, balanced_head=head)

  first, *rest = stages()
  changed = [dataclasses.replace(first, shapes=wider), *rest]
  saved = dataclasses.replace(
    model(1.0), balanced_head={"kernel": jnp.full((8, 4), 5.0)}
  )
  open_at(changed).save((1, 0), saved, None)
  _, state, _ = open_at(changed).restore(model())
  np.testing.assert_array_equal(
    state.balanced_head["kernel"], np.full((8, 4), 5)
  )


def test_the_age_of_the_newest_checkpoint(open_at, monkeypatch):
  now = 100.0
  monkeypatch.setattr("ltjax.runs.positions.time.monotonic", lambda: now)
  positions = open_at()
  now = 130.0
  assert positions.seconds_since_save() == 30
  positions.save((1, 0), model(), None)
  assert positions.seconds_since_save() == 0
  now = 131.5
  assert positions.seconds_since_save() == 1.5
