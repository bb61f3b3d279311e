"""The loops that are timed: ltjax's own stages, and a bare jitted one.

Every loop is compiled when it is made, which gives its compile time and its
memory; what it then runs is the very same program. A turn of a loop is an
epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import flops as flop_counts
from benchmarks import kernels, usage
from benchmarks.subject import Subject
from ltjax.devices import sharding
from ltjax.losses import classification
from ltjax.self_supervised import contrastive, pretext
from ltjax.stages import consistency, embedding
from ltjax.training import draw, fit, sampling, step
from ltjax.training import state as states
from ltjax.training.stage import Stage

PyTree = Any


class Program(NamedTuple):
  """A compiled step.

  Attributes:
    call: runs it.
    seconds: of tracing and compilation.
    memory_bytes: what it needs on a device.
    made_of: its kernels, see `kernels.count`; and `xla_flops`, XLA's own count
      of the operations of a step, 0 if it does not tell.
  """

  call: Any
  seconds: float
  memory_bytes: int
  made_of: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Loop:
  """Something to time.

  Attributes:
    name: what it is.
    images: images of a turn.
    run: a turn; what it returns is waited for.
    flops: of the network, for each image; 0 where it hardly takes part.
    program: the compiled step, nothing cached; None if only the first turn
      tells how long it took to compile.
  """

  name: str
  images: int
  run: Callable[[], Any]
  flops: int = 0
  program: Program | None = None


def bare(subject: Subject, *, turns: int) -> Loop:
  """A jitted step of network, loss and SGD on one batch of floats, no more.

  Args:
    subject: what to train.
    turns: how often it will run.
  """
  model, steps = subject.model, subject.steps
  recipe = subject.recipe(turns)
  optimizer = recipe.make_optimizer(recipe.make_schedule(steps))

  def step(params, batch_stats, opt_state, images, labels):
    def loss_fn(params):
      _, logits, stats = model.apply(params, batch_stats, images, True)
      return jnp.mean(classification.cross_entropy(logits, labels)), stats

    grads, stats = jax.grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), stats, opt_state

  whole = sharding.replicated(subject.mesh)
  call = jax.jit(step, donate_argnums=(0, 1, 2), out_shardings=whole)
  params = {"backbone": subject.state.backbone, "head": subject.state.head}
  carry = (params, subject.state.batch_stats, optimizer.init(params))
  carry = sharding.replicate(states.copy(carry), subject.mesh)
  size = subject.batch_size
  images = jax.jit(subject.test_transform)(subject.images[:size])
  batch = jax.device_put(
    (images, subject.labels[:size]), sharding.batched(subject.mesh)
  )
  program = _compile(call, *carry, *batch)

  def run() -> Any:
    nonlocal carry
    for _ in range(steps):
      carry = call(*carry, *batch)
    return carry

  return Loop(
    "bare step",
    subject.count,
    run,
    flop_counts.TRAINING * flop_counts.forward(model),
    program,
  )


def epoch(subject: Subject, *, turns: int) -> Loop:
  """Supervised training as a run does it: data, augmentation, step, metrics.

  Args:
    subject: what to train.
    turns: how often it will run.
  """
  stage = embedding.make(
    "embedding",
    subject.model,
    images=subject.images,
    labels=subject.labels,
    transform=subject.transform,
    recipe=subject.recipe(turns),
    seed=0,
    key=jax.random.key(1),
    report=lambda state: [],
  )
  return _of_stage("epoch", stage, subject, views=1)


def augmented_ahead(subject: Subject, *, turns: int) -> Loop:
  """As `epoch`, but one program draws and augments all its images beforehand.

  What it takes shows what augmentation inside the step costs; the images are
  held as floats, in the step's dtype.

  Args:
    subject: what to train.
    turns: how often it will run.
  """
  stage = embedding.make(
    "ahead",
    subject.model,
    images=subject.images,
    labels=subject.labels,
    transform=lambda key, images: images,
    recipe=subject.recipe(turns),
    seed=0,
    key=jax.random.key(1),
    report=lambda state: [],
  )
  assert stage.init and stage.prepare and stage.step
  arrays, stream = stage.prepare(subject.state)
  whole = sharding.replicated(subject.mesh)

  def draw(key, arrays, index):
    keys = jax.random.split(key, len(index))
    images = jax.lax.map(
      lambda at: subject.transform(at[0], arrays["images"][at[1]]),
      (keys, index),
    )
    labels = arrays["labels"][index.ravel()]
    return images.reshape(-1, *images.shape[2:]), labels

  draw = jax.jit(draw, out_shardings=whole)
  held = jax.eval_shape(draw, jax.random.key(0), arrays, stream(0))
  outlines = dict(zip(("images", "labels"), held, strict=True))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outlines)
  state = sharding.place(states.copy(stage.init(subject.state)), subject.mesh)
  program = compile_stage(stage, state, arrays | zeros, subject)
  order = np.arange(subject.count, dtype=np.int32).reshape(subject.steps, -1)
  many = fit.steps_in_call(stage, arrays, subject.mesh, 0) > 1
  order = sharding.put(order, sharding.batched(subject.mesh, 1))
  epoch = 0

  def run() -> Any:
    nonlocal state, epoch
    images, labels = draw(jax.random.key(epoch), arrays, stream(epoch))
    now = arrays | {"images": images, "labels": labels}
    epoch += 1
    if many:
      state = program.call(state, order, now, subject.steps)[0]
    else:
      for index in order:
        state = program.call(state, index, now)[0]
    return state

  return Loop(
    "epoch, augmented ahead",
    subject.count,
    run,
    flop_counts.TRAINING * flop_counts.forward(subject.model),
    program,
  )


def consistency_epoch(subject: Subject, *, turns: int) -> Loop:
  """Stage 2 of SSLT: half labeled, half pseudo-labeled, with the memory.

  Args:
    subject: what to train.
    turns: how often it will run.
  """
  labels = subject.labels[: (subject.count + 1) // 2]
  samples = draw.Samples(subject.images, labels, subject.model.num_classes, 0)
  recipe = subject.recipe(turns)
  stage = step.make(
    "consistency",
    consistency.algorithm(subject.model, transform=subject.transform),
    consistency.drawn(samples, recipe.batch_size),
    recipe,
    key=jax.random.key(2),
    report=lambda state: [],
  )
  return _of_stage("consistency epoch", stage, subject, views=1)


def contrastive_epoch(subject: Subject, *, turns: int) -> Loop:
  """SimCLR: two views of each image, in one batch.

  Args:
    subject: what to train.
    turns: how often it will run.
  """
  classes = subject.model.num_classes
  setup = pretext.Setup(
    images=subject.images,
    labels=subject.labels,
    counts=jnp.bincount(subject.labels, length=classes).astype(jnp.float32),
    recipe=subject.recipe(turns),
    seed=0,
    key=jax.random.key(3),
    report=lambda state: [],
  )
  stage = contrastive.make(
    "contrastive",
    subject.model,
    setup,
    settings=contrastive.Settings(),
    views=subject.two_views,
  )
  return _of_stage("contrastive epoch", stage, subject, views=2)


def compile_stage(
  stage: Stage, state: states.TrainState, arrays: PyTree, subject: Subject
) -> Program:
  """Compiles the step that `fit.fit` will call, and which it then finds.

  Args:
    stage: what will be trained.
    state: where it begins.
    arrays: what its step reads.
    subject: gives the devices.
  """
  mesh = subject.mesh
  assert stage.step is not None
  many = fit.steps_in_call(stage, arrays, mesh, 0) > 1
  split = not sharding.of_state(state, mesh).memory.is_fully_replicated
  call = fit.compiled(stage.step, mesh, many, split, subject.unroll)
  shape = (stage.batch_size,)
  if many:
    shape = (stage.steps_per_epoch, *shape)
  index = sharding.put(
    np.zeros(shape, np.int32), sharding.batched(mesh, int(many))
  )
  count = sharding.put(
    np.int32(stage.steps_per_epoch), sharding.replicated(mesh)
  )
  rest = (count,) if many else ()
  return _compile(
    call,
    sharding.place(state, mesh),
    index,
    sharding.replicate(arrays, mesh),
    *rest,
    unroll=subject.unroll if many else 1,
  )


def epochs(
  stage: Stage,
  state: states.TrainState,
  prepared: tuple[PyTree, sampling.Stream],
  subject: Subject,
) -> Iterator[states.TrainState]:
  """Runs an epoch of a stage every time it is asked.

  Args:
    stage: what to train.
    state: where to begin; consumed.
    prepared: as `stage.prepare` gave it.
    subject: gives the devices.
  """
  ticks = fit.fit(
    stage, state, *prepared, mesh=subject.mesh, unroll=subject.unroll
  )
  for tick in ticks:
    if tick.epoch_done:
      yield tick.state


def _of_stage(name: str, stage: Stage, subject: Subject, *, views: int) -> Loop:
  assert stage.init is not None and stage.prepare is not None
  prepared = stage.prepare(subject.state)
  state = states.copy(stage.init(subject.state))
  program = compile_stage(stage, state, prepared[0], subject)
  return Loop(
    name,
    subject.count,
    epochs(stage, state, prepared, subject).__next__,
    views * flop_counts.TRAINING * flop_counts.forward(subject.model),
    program,
  )


def _compile(call: Any, *args: Any, unroll: int = 1) -> Program:
  began = time.perf_counter()
  compiled = call.lower(*args).compile()
  seconds = time.perf_counter() - began
  made_of = kernels.count(compiled.as_text() or "", steps=unroll)
  cost = compiled.cost_analysis() or {}
  made_of["xla_flops"] = cost.get("flops", 0.0) / unroll
  return Program(compiled, seconds, usage.of_compiled(compiled), made_of)
