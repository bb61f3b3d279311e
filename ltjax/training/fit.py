"""The one training loop that all stages share.

Nothing waits for the device inside an epoch: metrics are summed on the device
and read one call late. On an accelerator a whole epoch in one call
(`steps_per_call`) saves the dispatch of each step. On a CPU it must be 1: XLA
runs convolutions inside a device loop many times slower there. Both give the
same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from ltjax.devices import memory, sharding
from ltjax.training import prefetch, sampling
from ltjax.training.stage import Stage, Step
from ltjax.training.state import TrainState

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Tick:
  """What the loop tells after each call.

  Attributes:
    state: the state now; the next tick invalidates it (its buffers are reused).
    step: steps done in the stage.
    epoch: the running epoch, from 1.
    epoch_done: whether this call was the epoch's last.
    means: the epoch's mean metrics so far, one call late; those of the whole
      epoch where `epoch_done`. None before the first.
  """

  state: TrainState
  step: int
  epoch: int
  epoch_done: bool
  means: dict[str, float] | None


class NonFiniteLossError(FloatingPointError):
  """The loss became infinite or not a number."""


def fit(
  stage: Stage,
  state: TrainState,
  arrays: PyTree,
  stream: sampling.Stream,
  *,
  mesh: Mesh,
  steps_per_call: int = 0,
  memory_limit_gib: float = 0.0,
  unroll: int = 1,
) -> Iterator[Tick]:
  """Trains a stage from `state.step` to its end; yields a `Tick` a call.

  Args:
    stage: what to train.
    state: where to begin; its buffers are consumed.
    arrays, stream: what the step reads, and its batches, as of `stage.prepare`.
    mesh: the devices.
    steps_per_call: steps in a jitted call; 0 chooses 1 on a CPU and an epoch on
      an accelerator. With images on the host it is always 1.
    memory_limit_gib: what a device has; 0 asks it, see `ltjax.devices.memory`.
    unroll: steps in a round of the loop over steps, see `compiled`.

  Raises:
    OutOfMemoryError: if a step does not fit; names what to lower.
    NonFiniteLossError: names the stage, epoch, step and learning rate.
    BrokenImageError: if an image on the host cannot be read; the state of the
      last tick is then still good.
  """
  sharding.check_batch(stage.batch_size, mesh, stage.batch.field.split(".")[0])
  steps_per_call = steps_in_call(stage, arrays, mesh, steps_per_call)
  batch_sharding = sharding.batched(mesh, int(steps_per_call > 1))
  whole = sharding.replicated(mesh)
  state = sharding.place(state, mesh)
  call, shapes = program(stage, state, arrays, mesh, steps_per_call, unroll)
  compile_and_check(stage, call, shapes, mesh, memory_limit_gib)

  # Compiling moves the constants of a program; after that, what is not on its
  # devices yet would be copied in each step.
  guard: Any = contextlib.nullcontext()
  start, last = int(state.step), None
  now, later = itertools.tee(_chunks(stage, stream, start, steps_per_call))
  given = prefetch.ahead(arrays, (chunk[0] for _, chunk in later), mesh)
  for (step, chunk), read in zip(now, given):
    indices, count = chunk[0], ()
    if steps_per_call > 1:
      indices = np.zeros((steps_per_call, chunk.shape[1]), np.int32)
      indices[: len(chunk)] = chunk
      count = (sharding.put(np.int32(len(chunk)), whole),)
    index = sharding.put(indices, batch_sharding)
    with memory.explained(stage.batch):
      with guard:
        state, read_now = call(state, index, read, *count)
      guard = jax.transfer_guard("disallow")
      step += len(chunk)
      done = step % stage.steps_per_epoch == 0
      # An epoch's end reads its own metrics, all other calls the ones before.
      metrics = read_now if done else last
      last = None if done else read_now
      means = None if metrics is None else check(stage, metrics)
    yield Tick(
      state, step, (step - 1) // stage.steps_per_epoch + 1, done, means
    )


def program(
  stage: Stage,
  state: TrainState,
  arrays: PyTree,
  mesh: Mesh,
  count: int,
  unroll: int = 1,
) -> tuple[Any, tuple[Any, ...]]:
  """Returns a stage's jitted call, as `fit` makes it, and its shapes.

  The shapes are of its arguments: the state, the index, what the step reads
  and, of several steps, their count.

  Args:
    stage, state, arrays, mesh, unroll: as of `fit`; shapes will do.
    count: steps in a call.
  """
  assert stage.step is not None
  many, size = count > 1, stage.batch_size
  split = not sharding.of_state(state, mesh).memory.is_fully_replicated
  index = jax.ShapeDtypeStruct(
    (count, size) if many else (size,),
    jnp.int32,
    sharding=sharding.batched(mesh, int(many)),
  )
  read = prefetch.outline(arrays, size, mesh)
  valid = jax.ShapeDtypeStruct(
    (), jnp.int32, sharding=sharding.replicated(mesh)
  )
  shapes = (sharding.shaped(state, mesh), index, read, *((valid,) * many))
  return compiled(stage.step, mesh, many, split, unroll), shapes


def compile_and_check(
  stage: Stage,
  call: Any,
  shapes: tuple[Any, ...],
  mesh: Mesh,
  limit_gib: float = 0.0,
) -> None:
  """Compiles a call, which then compiles nothing, and checks that it fits.

  Args:
    stage: whose call it is; its state is on the devices.
    call, shapes: of `program`.
    mesh, limit_gib: the devices, and what each has, as of `fit`.

  Raises:
    OutOfMemoryError: if it does not fit.
    JaxRuntimeError: if XLA cannot compile it.
  """
  with memory.explained(stage.batch):
    temporaries = memory.temporaries(call.lower(*shapes))
  device, state = mesh.local_devices[0], memory.bytes_of(shapes[0])
  data = max(memory.in_use(device) - state, memory.bytes_of(shapes[1:]))
  needs = memory.Needs(data, state, temporaries)
  memory.check(needs, stage.batch, memory.limit(device, limit_gib))


def steps_in_call(
  stage: Stage, arrays: PyTree, mesh: Mesh, steps_per_call: int
) -> int:
  """Returns how many steps one jitted call runs.

  Args:
    stage, arrays, mesh, steps_per_call: as of `fit`.
  """
  if prefetch.on_host(arrays):
    return 1
  if steps_per_call == 0:
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    steps_per_call = 1 if on_cpu else stage.steps_per_epoch
  return min(steps_per_call, stage.steps_per_epoch)


def _chunks(
  stage: Stage, stream: sampling.Stream, start: int, size: int
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (steps done before, indices `[at most size, B]`), epoch by epoch."""
  for epoch in range(start // stage.steps_per_epoch, stage.epochs):
    indices = stream(epoch)
    first = epoch * stage.steps_per_epoch
    for position in range(max(start - first, 0), stage.steps_per_epoch, size):
      yield first + position, indices[position : position + size]


def check(stage: Stage, read: dict[str, Any]) -> dict[str, float]:
  """Returns the mean metrics of a call, by what `watch` gave.

  A loss that is infinite or not a number is a NonFiniteLossError.
  """
  read = jax.device_get(read)
  bad = int(read["bad_step"])
  if bad >= 0:
    rate = float(stage.schedule(bad)) if stage.schedule else float("nan")
    raise NonFiniteLossError(
      f"The loss of stage {stage.name} is not finite at step {bad} (epoch"
      f" {bad // stage.steps_per_epoch + 1} of {stage.epochs}, learning rate"
      f" {rate:.3g}). The last good checkpoint is kept. Lower the learning rate"
      " of this stage, or check the images for constant or broken ones."
    )
  steps = (int(read["step"]) - 1) % stage.steps_per_epoch + 1
  return {k: float(v) / steps for k, v in read["totals"].items()}


@functools.lru_cache(maxsize=64)
def compiled(
  step: Step, mesh: Mesh, many: bool, split: bool = False, unroll: int = 1
) -> Callable[..., Any]:
  """Returns the jitted step, or the jitted loop over a chunk of steps.

  The state is donated. The loop's length is an argument, so that the last,
  shorter chunk of an epoch does not compile again.

  Args:
    step: the pure step of a stage.
    mesh: the devices.
    many: whether the index holds many steps `[K, B]`, of which the call's
      fourth argument counts the valid ones.
    split: whether the memory is split over the devices.
    unroll: steps in a round of the loop; those left over come one by one. There
      are fewer rounds to launch, but more to compile.
  """

  def one_step(state, index, arrays):
    state = step(state, index, prefetch.bind(arrays, index))
    return state, watch(state)

  def many_steps(state, indices, arrays, count):
    def one(i, state):
      return step(state, indices[i], arrays)

    def some(i, state):
      for j in range(unroll):
        state = one(i * unroll + j, state)
      return state

    rounds = count // unroll
    state = jax.lax.fori_loop(0, rounds, some, state)
    if unroll > 1:
      state = jax.lax.fori_loop(rounds * unroll, count, one, state)
    return state, watch(state)

  whole = sharding.replicated(mesh)
  names = [field.name for field in dataclasses.fields(TrainState)]
  fields: dict[str, Any] = dict.fromkeys(names, whole)
  fields["memory"] = sharding.batched(mesh) if split else whole
  return jax.jit(
    many_steps if many else one_step,
    donate_argnums=0,
    out_shardings=(TrainState(**fields), whole),
  )


def watch(state: TrainState) -> dict[str, Any]:
  """Returns copies of what the host reads; the state itself is donated."""
  read = {
    "step": state.step,
    "totals": state.totals,
    "bad_step": state.bad_step,
  }
  return jax.tree.map(jnp.copy, read)
