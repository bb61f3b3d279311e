"""What every stage and every method must do; a new method is tested by itself.

A case is a stage alone or a whole method, those of `methods.METHODS` and the
worked example of docs/add_a_method.md, on the toy task, run by `run.Run` as a
user's run is. Most of the time goes into compiling, so there is one run of a
case that most tests look at or go on with; what all cases owe to the loop and
to the run alone is tested with a few of them.
"""

import collections
import dataclasses
import functools
import os
import re
import signal
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
import toys

from ltjax import models
from ltjax.devices import sharding
from ltjax.methods.learner import Learner
from ltjax.runs import interrupts, rehearsal
from ltjax.training import fit

every_case = pytest.mark.parametrize("case", toys.CASES)
every_method = pytest.mark.parametrize("case", toys.METHODS)
# Those that take steps, so that there is something to compile and to kill.
every_training_case = pytest.mark.parametrize(
  "case", [case for case in toys.CASES if case not in toys.WITHOUT_STEPS]
)
every_step = pytest.mark.parametrize("case", toys.WITH_OWN_STEPS)

EPOCHS = 6
# What methods need to learn the toy.
LONGER = {
  "embedding__epochs": 12,
  "semi__epochs": 12,
  "pretrain__epochs": 30,
  "probe__epochs": 12,
  "weak_strong__epochs": 12,
}


# Of these, four devices and one are compared early: the sums of four round
# otherwise, and assignments to prototypes turn that into a thousandfold of it.
SHORTER = {"student": {"epochs": 2}, "swav": {"epochs": 2}}


def make(case, learner, **changes):
  """Returns the stages of a case, of at least `EPOCHS` epochs each."""
  usual = {"epochs": EPOCHS}
  if case in toys.METHODS:
    usual |= LONGER
  return toys.stages(case, learner, **(usual | changes))


class Whole(NamedTuple):
  """An uninterrupted run after its rehearsal, how often each step was traced in
  both, and what was compiled in each."""

  learner: Learner
  stages: list
  state: Any
  rows: list
  traces: collections.Counter
  rehearsed: collections.Counter
  compiled: collections.Counter


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
  """Returns `case -> Whole`, run once.

  Tests go on with its stages, compiled as they are, where they need no others.
  """

  @functools.lru_cache(maxsize=2)  # conftest.py runs them case by case
  def get(case):
    learner = toys.learner()
    stages, traces = counted(make(case, learner))
    with programs.compilations() as rehearsed:
      rehearsal.rehearse(
        stages,
        learner.init(),
        learner.predictor,
        mesh=learner.mesh,
        show=lambda text: None,
      )
    with programs.compilations() as compiled:
      state, rows = toys.execute(tmp_path_factory.mktemp(case), learner, stages)
    state = toys.host(state)
    return Whole(
      learner, stages, state, rows, traces.copy(), rehearsed, compiled
    )

  return get


def counted(stages):
  """Returns the stages, and how often each step of theirs is traced."""
  traces = collections.Counter()

  @functools.cache
  def counting(step):
    def once(*args):
      traces[step] += 1
      return step(*args)

    return once

  stages = [
    dataclasses.replace(stage, step=stage.step and counting(stage.step))
    for stage in stages
  ]
  return stages, traces


def assert_traced_once(stages, traces):
  assert set(traces.values()) == {1}
  assert len(traces) == len({stage.step for stage in stages if stage.step})


def test_a_second_trace_is_noticed():
  learner = toys.learner()
  (stage,), traces = counted(toys.STAGES["embedding"](learner))
  state = stage.init(learner.init())
  arrays, stream = stage.prepare(learner.init())
  index = stream(0)[0]
  jax.eval_shape(stage.step, state, index, arrays)
  assert_traced_once([stage], traces)
  jax.eval_shape(stage.step, state, index[:4], arrays)
  assert list(traces.values()) == [2]


@every_training_case
def test_compiles_once(case, baseline):
  """A step is traced once, over all epochs and loops."""
  assert_traced_once(baseline(case).stages, baseline(case).traces)


@every_case
def test_a_run_compiles_nothing_large_after_its_rehearsal(case, baseline):
  whole = baseline(case)
  assert programs.large(whole.rehearsed)
  assert not programs.large(whole.compiled)


def test_loops_share_their_steps():
  learner = toys.learner()
  stages = toys.stages("sslt", learner, loops=5)
  steps = {}
  for stage in stages:
    steps.setdefault(stage.name.split("/")[-1], set()).add(stage.step)
  assert {name: len(found) for name, found in steps.items()} == {
    "embedding": 1,
    "classifier": 1,
    "pseudo_label": 1,
    "consistency": 1,
    "refit": 1,
  }


@pytest.mark.parametrize("case", toys.LOOPED)
def test_network_is_traced_as_often_in_two_loops_as_in_one(case, tmp_path):
  """Inference, too, compiles once for each image set and transform."""
  counts = []
  for loops in (1, 2):
    toy, calls = toys.model(), []

    def apply(*args, calls=calls, toy=toy):
      calls.append(args[-1])
      return toy.apply(*args)

    learner = toys.learner(network=toy._replace(apply=apply))
    stages = toys.stages(case, learner, loops=loops)
    toys.execute(tmp_path / str(loops), learner, stages)
    counts.append(len(calls))
  assert counts[0] == counts[1] > 0


@every_method
def test_loops_are_those_of_some_methods(case):
  """The others have the same stages whatever the number of loops."""
  learner = toys.learner()
  one, three = (toys.stages(case, learner, loops=n) for n in (1, 3))
  assert (len(one) < len(three)) == (case in toys.LOOPED)


@every_case
def test_everything_is_finite(case, baseline):
  whole = baseline(case)
  for leaf in jax.tree.leaves(whole.state):
    assert np.all(np.isfinite(leaf))
  for row in whole.rows:
    for value in jax.tree.leaves(row):
      assert isinstance(value, str) or np.isfinite(value)


@pytest.mark.parametrize("case", toys.WITHOUT_STEPS)
def test_same_seed_same_bits(case, baseline, tmp_path):
  """The others are run twice, and once killed, further below."""
  learner = toys.learner()
  again, rows = toys.execute(tmp_path, learner, make(case, learner))
  toys.assert_same(baseline(case).state, again)
  assert rows == baseline(case).rows


@every_training_case
def test_another_seed_differs(case, baseline, tmp_path):
  """With the same compiled steps: the seed is in the state and the stream."""
  whole = baseline(case)
  learner = toys.learner(seed=1)
  stages = [
    dataclasses.replace(stage, step=same.step)
    for stage, same in zip(make(case, learner), whole.stages, strict=True)
  ]
  start = whole.learner.init()  # the same start: the stage itself must differ
  state, _ = toys.execute(tmp_path, learner, stages, state=start)
  assert toys.differ(whole.state, state)


@every_step
def test_loss_falls(case, baseline):
  """Within six epochs of each stage, in loops the first time."""
  losses = {}
  for row in baseline(case).rows:
    if row["kind"] == "train" and not row["stage"].startswith("loop2"):
      # The loss proper: the drift from a memory first has to come into being.
      loss = row.get("cross_entropy", row["loss"])
      losses.setdefault(row["stage"], []).append(loss)
  trained = [stage.name for stage in baseline(case).stages if stage.steps]
  assert list(losses) == [n for n in trained if not n.startswith("loop2")]
  for values in losses.values():
    assert values[EPOCHS - 1] < 0.9 * values[0], values


@every_method
def test_learns_the_toy(case, baseline):
  """The last evaluation is far above the chance of 25 %."""
  last = [row for row in baseline(case).rows if row["kind"] == "eval"][-1]
  assert last["head"] == "balanced"
  assert last["accuracy"] >= 0.9


# Epochs of the toy have 5 steps (labeled) and 10 (all), which 3 does not
# divide.
@every_step
def test_loop_equals_scan(case, baseline, tmp_path, steps_per_call=3):
  """And many steps in a call are traced once, whatever the chunks' lengths."""
  whole = baseline(case)
  stages, traces = counted(whole.stages)
  state, rows = toys.execute(
    tmp_path, whole.learner, stages, steps_per_call=steps_per_call
  )
  assert_traced_once(stages, traces)
  state = toys.host(state)
  chex.assert_trees_all_close(state, whole.state, rtol=1e-4, atol=1e-5)
  toys.assert_rows_close(rows, whole.rows)


@pytest.mark.parametrize("case", ["consistency"])
def test_loop_of_a_whole_epoch_equals_scan(case, baseline, tmp_path):
  """100 steps a call are cut to an epoch."""
  test_loop_equals_scan(case, baseline, tmp_path, steps_per_call=100)


def program(stage, train, index, arrays):
  """Returns a step as JAX traced it: its text and its constants."""
  traced = jax.make_jaxpr(stage.step)(train, index, arrays)
  text = re.sub(r" at 0x[0-9a-f]+", "", str(traced.jaxpr))
  return text, [np.asarray(x).tolist() for x in traced.consts]


@every_training_case
def test_steps_can_be_vmapped_over_seeds(case):
  """A step takes its seed from the state alone, and traces under vmap."""
  learners = [toys.learner(seed=seed) for seed in (0, 1)]
  runs = [toys.stages(case, learner, loops=1) for learner in learners]
  shapes = jax.eval_shape(learners[0].init)
  for stage, other in zip(*runs, strict=True):
    if stage.steps:
      zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
      arrays, stream = stage.prepare(zeros)
      given = (jax.eval_shape(stage.init, shapes), stream(0)[0], arrays)
      assert program(stage, *given) == program(other, *given)
      stacked = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), given
      )
      result = jax.eval_shape(jax.vmap(stage.step), *stacked)
      chex.assert_trees_all_equal_shapes_and_dtypes(result, stacked[0])
    shapes = stage.shapes(shapes)


def test_vmapped_seeds_equal_separate_ones():
  """The numbers, too, of two steps; what JAX traces it also computes."""
  learners = [toys.learner(seed=seed) for seed in (0, 1)]
  stages = [toys.stages("consistency", learner)[-1] for learner in learners]
  apart = [
    toys.train(stage, learner.init(), 2)
    for stage, learner in zip(stages, learners)
  ]
  stack = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
  together = stack(*(states[0] for states, _, _ in apart))
  arrays = stack(*(read for _, read, _ in apart))
  step = jax.jit(jax.vmap(stages[0].step))
  for i in range(2):
    index = jnp.stack([indices[i] for _, _, indices in apart])
    together = step(together, index, arrays)
  ends = [states[2] for states, _, _ in apart]
  chex.assert_trees_all_close(
    toys.host(together), toys.host(stack(*ends)), rtol=1e-4, atol=1e-5
  )
  assert toys.differ(*(state.params for state in ends))


@every_case
def test_four_devices_equal_one(case, baseline, tmp_path):
  changes = SHORTER.get(case, {})
  learner = toys.learner(mesh=sharding.make_mesh(4))
  stages = make(case, learner, **changes)
  state, rows = toys.execute(tmp_path / "four", learner, stages)
  for leaf in jax.tree.leaves(state):
    assert len(leaf.devices()) == 4
  if changes:
    learner = toys.learner()
    stages = make(case, learner, **changes)
    expected, expected_rows = toys.execute(tmp_path / "one", learner, stages)
    expected = toys.host(expected)
  else:
    _, _, expected, expected_rows, *_ = baseline(case)
  state = toys.host(state)
  chex.assert_trees_all_close(state, expected, rtol=1e-3, atol=1e-4)
  toys.assert_rows_close(rows, expected_rows, rtol=1e-3, atol=1e-4)


def kill_at_every_call(folder, make, *, steps_per_call=1):
  """Asserts that killed after each call, a run ends as one left alone."""
  settings = {"steps_per_call": steps_per_call, "checkpoint_every_s": 0}
  learner, stages = make()
  whole, whole_rows = toys.execute(
    folder / "whole", learner, stages, **settings
  )
  calls = sum(
    stage.epochs * -(-stage.steps_per_epoch // steps_per_call)
    for stage in stages
  )
  ended = None
  for attempt in range(calls):  # each gets one call further
    assert ended is None, f"ended at attempt {attempt} of {calls}"
    if attempt == 2:  # what a new process has: nothing compiled, new stages
      learner, stages = make()
    try:
      ended = toys.execute(
        folder / "killed", learner, stages, progress=toys.Killer(2), **settings
      )
    except toys.Killed:
      continue
  assert ended is not None, "the attempts make no headway"
  state, rows = ended
  toys.assert_same(state, whole)
  assert rows == whole_rows


# A queue; a memory, and weights from the stage before; a method's stages.
@pytest.mark.parametrize("case", ["moco", "student", "sslt"])
def test_killed_at_every_step(case, tmp_path):
  """Final bits and rows are those of an uninterrupted run."""

  def make():
    learner = toys.learner(pad=1, flip=True)
    changes = (
      {"epochs": 2} if case in toys.STAGES else {"epochs": 1, "loops": 1}
    )
    return learner, toys.stages(case, learner, **changes, batch_size=20)

  kill_at_every_call(tmp_path, make)


def test_killed_between_chunks(tmp_path):
  """With many steps a call; the last chunk of an epoch is shorter."""

  def make():
    learner = toys.learner(pad=1, flip=True)
    return learner, toys.stages("consistency", learner)

  kill_at_every_call(tmp_path, make, steps_per_call=4)


def test_killed_while_the_head_changes_its_structure(tmp_path):
  """Class means between two trainings, then corrected: always other arrays."""

  def make():
    learner = toys.learner(validation=3)
    return learner, toys.stages(
      "pseudo_label",
      learner,
      epochs=1,
      batch_size=20,
      pseudo__base="decoupling",
      classifier__kind="ncm",
      posthoc__name="logit_adjustment",
      posthoc__select=True,
    )

  kill_at_every_call(tmp_path, make)


@every_training_case
def test_stopped_and_killed_in_its_first_and_last_stage(
  case, baseline, tmp_path
):
  """The end is that of a run left alone, bit for bit.

  SIGTERM saves at the next step, however far the next checkpoint is. An epoch
  later the run is killed: the steps since then are done again, their rows
  written once.
  """
  learner = toys.learner()
  stages = make(case, learner)  # The baseline's again, so the seed decides.
  trained = [i for i, stage in enumerate(stages) if stage.steps]
  term = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
  done = 0
  for index in dict.fromkeys((trained[0], trained[-1])):
    step = stages[index].steps_per_epoch + 2
    until = sum(stage.steps for stage in stages[:index]) + step
    stop = toys.Killer(until - done, term)
    with pytest.raises(interrupts.Interrupted, match="SIGTERM"):
      toys.execute(tmp_path, learner, stages, progress=stop)
    position = index * 1_000_000_000 + step
    assert (tmp_path / "checkpoints" / str(position)).is_dir()
    kill = toys.Killer(stages[index].steps_per_epoch)
    with pytest.raises(toys.Killed):
      toys.execute(tmp_path, learner, stages, progress=kill)
    done = until
  # As in another process, which has nothing of these stages.
  learner, stages, expected, expected_rows, *_ = baseline(case)
  state, rows = toys.execute(tmp_path, learner, stages)
  toys.assert_same(state, expected)
  assert rows == expected_rows


@pytest.mark.parametrize("case", ["tau_norm", "consistency", "sslt"])
def test_finished_run_does_nothing(case, baseline, tmp_path):
  learner, stages, expected, expected_rows, *_ = baseline(case)
  toys.execute(tmp_path, learner, stages)

  def forbidden(*unused):
    raise AssertionError("a finished stage ran again")

  stages = [
    dataclasses.replace(stage, step=forbidden, finish=forbidden)
    for stage in stages
  ]
  state, rows = toys.execute(tmp_path, learner, stages)
  toys.assert_same(state, expected)
  assert rows == expected_rows


@every_step
def test_infinite_loss_stops_before_a_checkpoint(case, baseline, tmp_path):
  """A broken network: the message says where, the last good state is kept."""
  learner, stages, *_ = baseline(case)
  start = learner.init()
  start = start.replace(
    backbone=jax.tree.map(lambda x: x * np.nan, start.backbone)
  )
  first = next(stage for stage in stages if stage.steps)
  with pytest.raises(fit.NonFiniteLossError) as caught:
    toys.execute(tmp_path, learner, stages, state=start, checkpoint_every_s=0)
  message = str(caught.value)
  assert f"stage {first.name} is not finite at step 0" in message
  assert f"learning rate {float(first.schedule(0)):g}" in message
  saved = [p.name for p in (tmp_path / "checkpoints").iterdir()]
  assert all(int(name) % 1_000_000_000 == 0 for name in saved)


@pytest.mark.parametrize("case", ["embedding", "vat"])
def test_a_batch_that_devices_cannot_share_is_refused(case, tmp_path):
  learner = toys.learner(mesh=sharding.make_mesh(3))
  with pytest.raises(ValueError, match="3 devices cannot share evenly"):
    toys.execute(tmp_path, learner, toys.stages(case, learner))


@every_step
def test_no_random_key_is_used_twice(case, key_reuse):
  """Neither in a step, which JAX finds as it traces it, nor around it."""
  learner = toys.learner(pad=1, flip=True)
  state = learner.init()
  for stage in toys.stages(case, learner, loops=1):
    train = None
    if stage.steps:
      train = stage.init(state)
      arrays, stream = stage.prepare(state)
      jax.jit(stage.step).trace(train, stream(0)[0], arrays)
    state = stage.finish(state, train)


def test_a_random_key_used_twice_is_noticed(key_reuse):
  (stage,) = toys.STAGES["embedding"](toys.learner())
  state = toys.learner().init()
  arrays, stream = stage.prepare(state)

  def twice(train, index, arrays):
    noise = sum(jax.random.normal(train.key, (2,)) for _ in range(2))
    return stage.step(train, index, arrays), noise

  with pytest.raises(jax.errors.KeyReuseError):
    jax.jit(twice).trace(stage.init(state), stream(0)[0], arrays)


@every_method
def test_truth_of_unlabeled_images_is_not_seen(case, baseline, tmp_path):
  """With another truth the run is the same; only its report differs."""
  learner = toys.learner()
  lie = dataclasses.replace(learner.task, truth=np.roll(learner.task.truth, 17))
  learner = dataclasses.replace(learner, task=lie)
  state, rows = toys.execute(tmp_path, learner, make(case, learner))
  toys.assert_same(state, baseline(case).state)
  others = [row for row in rows if row["kind"] != "pseudo"]
  assert others == [r for r in baseline(case).rows if r["kind"] != "pseudo"]


def test_a_real_network(tmp_path):
  """ResNet-8 labels images and learns from them, on one device and on four."""
  network = models.create("resnet8", num_classes=4, image_shape=(8, 8, 1))
  results = []
  for devices in (1, 4):
    learner = toys.learner(
      mesh=sharding.make_mesh(devices), network=network, size=8
    )
    # With small steps, so that rounding errors of the two sums do not grow.
    label, train = toys.STAGES["consistency"](learner, learning_rate=0.005)
    stages, traces = counted([label, train])
    state, rows = toys.execute(tmp_path / str(devices), learner, stages)
    assert_traced_once(stages, traces)
    results.append((toys.host(state), rows))
  (one, rows), (four, rows_four) = results
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(one))
  losses, losses_four = (
    [row["cross_entropy"] for row in found] for found in (rows, rows_four)
  )
  assert len(losses) == 2 and losses[1] < losses[0]
  np.testing.assert_array_equal(one.pseudo_labels, four.pseudo_labels)
  np.testing.assert_allclose(losses, losses_four, rtol=0.01)
  np.testing.assert_allclose(one.memory, four.memory, atol=0.02)
