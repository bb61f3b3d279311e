"""State: arrays only, counted and summed by `advance`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.training import state as states


def fresh(metrics=("loss", "accuracy")):
  return states.create(
    params={"w": jnp.arange(3.0)},
    batch_stats={},
    opt_state=(),
    memory=jnp.zeros((0, 4)),
    key=jax.random.key(0),
    metrics=metrics,
  )


def test_create_starts_at_zero():
  state = fresh()
  assert state.step == 0 and state.step.dtype == jnp.int32
  assert state.bad_step == -1 and state.bad_step.dtype == jnp.int32
  assert {k: float(v) for k, v in state.totals.items()} == {
    "loss": 0.0,
    "accuracy": 0.0,
  }


def test_states_hold_arrays_only():
  learner = toys.learner()
  for state in (fresh(), learner.init()):
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
    shapes = jax.eval_shape(lambda state=state: state)
    assert jax.tree.structure(shapes) == jax.tree.structure(state)


def test_advance_sums_the_metrics_of_an_epoch_and_starts_anew():
  state, seen = fresh(("loss",)), []
  for value in (1.0, 2.0, 4.0, 8.0, 16.0):
    state = states.advance(
      state, {"loss": jnp.float32(value)}, steps_per_epoch=2
    )
    seen.append((int(state.step), float(state.totals["loss"])))
  assert seen == [(1, 1.0), (2, 3.0), (3, 4.0), (4, 12.0), (5, 16.0)]


def test_a_bad_epoch_does_not_spoil_the_next_ones_sums():
  state = fresh(("loss",))
  for value in (np.nan, 3.0):
    state = states.advance(
      state, {"loss": jnp.float32(value)}, steps_per_epoch=1
    )
  assert float(state.totals["loss"]) == 3.0


def test_advance_changes_what_it_is_told_and_nothing_else():
  state = fresh(("loss",))
  after = states.advance(
    state,
    {"loss": jnp.float32(0)},
    steps_per_epoch=1,
    params={"w": jnp.ones(3)},
  )
  np.testing.assert_array_equal(after.params["w"], np.ones(3))
  toys.assert_same(after.replace(step=state.step, params=state.params), state)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_step_is_remembered(bad):
  state, seen = fresh(("loss",)), []
  for value in (1.0, bad, 1.0, bad):
    state = states.advance(
      state, {"loss": jnp.float32(value)}, steps_per_epoch=9
    )
    seen.append(int(state.bad_step))
  assert seen == [-1, 1, 1, 1]


def test_other_metrics_may_be_infinite():
  state = states.advance(
    fresh(),
    {"loss": jnp.float32(1), "accuracy": jnp.float32(np.nan)},
    steps_per_epoch=1,
  )
  assert int(state.bad_step) == -1


def test_a_copy_survives_the_donation_of_the_original():
  state = fresh()
  copied = states.copy(state)
  toys.assert_same(state, copied)
  jax.tree.map(lambda x: x.delete(), state)
  np.testing.assert_array_equal(copied.params["w"], np.arange(3.0))
  assert jax.random.key_data(copied.key).shape == (2,)


def test_vmap_over_seeds():
  """Arrays only, so a whole training state maps over a leading axis."""
  many = jax.vmap(lambda key: fresh(("loss",)).replace(key=key))(
    jax.random.split(jax.random.key(0), 3)
  )
  after = jax.vmap(
    lambda s, x: states.advance(s, {"loss": x}, steps_per_epoch=2)
  )(many, jnp.array([1.0, np.nan, 2.0]))
  np.testing.assert_array_equal(after.step, [1, 1, 1])
  np.testing.assert_array_equal(after.bad_step, [-1, 0, -1])
