"""The loop: which batches it runs, what it tells, where it stops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.devices import sharding
from ltjax.training import fit
from ltjax.training import state as states
from ltjax.training.stage import Stage

STEPS, EPOCHS = 5, 3


def stream(epoch):
  """Batches of two: (epoch, step) can be read off them."""
  step = np.arange(STEPS, dtype=np.int32)
  return np.stack([10 * epoch + step, 100 + step], 1).astype(np.int32)


def stage(bad_at=None, batch_size=2):
  """A stage that notes its batches; the loss of step `t` is `t`."""

  def step(state, index, arrays):
    loss = arrays["scale"] * state.step.astype(jnp.float32)
    if bad_at is not None:
      loss = jnp.where(state.step == bad_at, jnp.nan, loss)
    return states.advance(
      state,
      {"loss": loss, "accuracy": jnp.float32(0.5)},
      steps_per_epoch=STEPS,
      memory=state.memory.at[state.step].set(index.astype(jnp.float32)),
    )

  return Stage(
    name="loop1/toy",
    finish=lambda state, trained: state,
    epochs=EPOCHS,
    steps_per_epoch=STEPS,
    batch_size=batch_size,
    step=step,
    schedule=lambda step: 0.1 / (1 + step),
  )


def start():
  return states.create(
    params={},
    batch_stats={},
    opt_state=(),
    memory=jnp.full((STEPS * EPOCHS, 2), -1.0),
    key=jax.random.key(0),
    metrics=("loss", "accuracy"),
  )


ARRAYS = {"scale": jnp.float32(1)}


def run(the_stage=None, state=None, steps_per_call=1, mesh=None, unroll=1):
  return fit.fit(
    the_stage or stage(),
    start() if state is None else state,
    ARRAYS,
    stream,
    mesh=mesh or toys.one_device(),
    steps_per_call=steps_per_call,
    unroll=unroll,
  )


EXPECTED = np.concatenate([stream(epoch) for epoch in range(EPOCHS)])


@pytest.mark.parametrize("steps_per_call", [1, 2, 3, 5, 99])
def test_every_batch_is_run_once_and_in_order(steps_per_call):
  for tick in run(steps_per_call=steps_per_call):
    last = np.array(tick.state.memory)
  np.testing.assert_array_equal(last, EXPECTED)


@pytest.mark.parametrize("unroll", [2, 3, 7])
def test_unrolled_steps_are_the_same(unroll):
  """Also those that are left over, and where a round is longer than a call."""
  for tick in run(steps_per_call=3, unroll=unroll):
    last = np.array(tick.state.memory)
  np.testing.assert_array_equal(last, EXPECTED)
  assert tick.means == {"loss": 12.0, "accuracy": 0.5} and tick.step == 15


@pytest.mark.parametrize(
  "steps_per_call, steps",
  [
    (1, list(range(1, 16))),
    (2, [2, 4, 5, 7, 9, 10, 12, 14, 15]),
    (3, [3, 5, 8, 10, 13, 15]),
    (99, [5, 10, 15]),
  ],
)
def test_ticks_count_steps_and_epochs(steps_per_call, steps):
  ticks = [
    (tick.step, tick.epoch, tick.epoch_done, int(tick.state.step))
    for tick in run(steps_per_call=steps_per_call)
  ]
  assert ticks == [(s, (s - 1) // 5 + 1, s % 5 == 0, s) for s in steps]


def test_zero_steps_per_call_means_one_on_a_cpu():
  assert sum(1 for _ in run(steps_per_call=0)) == 15


@pytest.mark.parametrize("steps_per_call", [1, 2, 5])
def test_means_of_an_epoch_are_whole_at_its_end(steps_per_call):
  ends = [t.means for t in run(steps_per_call=steps_per_call) if t.epoch_done]
  assert ends == [
    {"loss": 2.0, "accuracy": 0.5},
    {"loss": 7.0, "accuracy": 0.5},
    {"loss": 12.0, "accuracy": 0.5},
  ]


def test_means_within_an_epoch_come_one_call_late():
  means = [tick.means for tick in run()]
  losses = [m and m["loss"] for m in means[:7]]
  #         none yet, then the running means of 1, 2, 3 steps; the end; anew
  assert losses == [None, 0.0, 0.5, 1.0, 2.0, None, 5.0]


@pytest.mark.parametrize("steps_per_call", [1, 2])
@pytest.mark.parametrize("stop", [1, 2, 4, 5, 6, 11, 14])
def test_goes_on_from_any_step(stop, steps_per_call):
  for tick in run():
    if tick.step == stop:
      half = states.copy(tick.state)
      break
  ticks = list(run(state=half, steps_per_call=steps_per_call))
  assert ticks[0].step == min(
    stop + steps_per_call, (stop // STEPS + 1) * STEPS
  )
  assert ticks[-1].step == 15
  np.testing.assert_array_equal(ticks[-1].state.memory, EXPECTED)
  assert ticks[-1].means == {"loss": 12.0, "accuracy": 0.5}


def test_nothing_is_left_to_do_at_the_end():
  for tick in run():
    last = tick.state
  assert list(run(state=last)) == []


def test_the_state_is_donated():
  state = sharding.replicate(start(), toys.one_device())
  memory = state.memory
  next(run(state=state))
  assert memory.is_deleted()


@pytest.mark.parametrize("steps_per_call", [1, 2, 5])
@pytest.mark.parametrize("bad_at", [0, 3, 4, 14])
def test_a_bad_loss_stops_the_loop(bad_at, steps_per_call):
  steps = []
  with pytest.raises(fit.NonFiniteLossError) as caught:
    for tick in run(stage(bad_at), steps_per_call=steps_per_call):
      steps.append(tick.step)
  message = str(caught.value)
  epoch = bad_at // STEPS + 1
  assert f"stage loop1/toy is not finite at step {bad_at} " in message
  assert f"(epoch {epoch} of 3, learning rate {0.1 / (1 + bad_at):.3g})" in (
    message
  )
  assert "last good checkpoint is kept" in message
  # At most the one call that held the bad step is told before.
  assert max(steps, default=0) <= bad_at + steps_per_call


def test_check_can_look_before_a_checkpoint():
  """A run asks at once, without waiting for the next call."""
  ticks = run(stage(bad_at=2))
  for _ in range(2):
    tick = next(ticks)
    assert fit.check(stage(), fit.watch(tick.state))["accuracy"] == 0.5
  with pytest.raises(fit.NonFiniteLossError, match="at step 2 "):
    fit.check(stage(), fit.watch(next(ticks).state))


def test_a_stage_without_schedule_has_no_learning_rate():
  bare = dataclasses.replace(stage(bad_at=0), schedule=None)
  with pytest.raises(fit.NonFiniteLossError, match="learning rate nan"):
    list(run(bare))


@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_what_is_left_on_the_host_is_refused(steps_per_call, monkeypatch):
  """Nothing is copied by the way: the first call compiles, the next may not."""
  ticks = run(steps_per_call=steps_per_call)
  next(ticks)
  monkeypatch.setattr(sharding, "put", lambda array, where: array)
  with pytest.raises(jax.errors.JaxRuntimeError, match="host-to-device"):
    next(ticks)


def test_a_batch_that_devices_cannot_share_is_refused():
  with pytest.raises(ValueError) as caught:
    next(run(stage(batch_size=6), mesh=sharding.make_mesh(4)))
  assert "toy.batch_size is 6, which 4 devices cannot share" in str(
    caught.value
  )


def test_steps_of_equal_stages_are_compiled_once():
  the_stage, mesh = stage(), toys.one_device()
  one = fit.compiled(the_stage.step, mesh, False)
  assert fit.compiled(the_stage.step, mesh, False) is one
  assert fit.compiled(the_stage.step, mesh, True) is not one
  assert fit.compiled(stage().step, mesh, False) is not one
