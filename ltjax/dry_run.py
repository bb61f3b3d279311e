"""A dry run: what a config would do, and the memory that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from ltjax import methods, models
from ltjax.config import check as config_check
from ltjax.devices import memory, sharding
from ltjax.methods import build, frozen, registry
from ltjax.methods.learner import Learner
from ltjax.training import fit, inference
from ltjax.training.stage import Stage, shapes_after
from ltjax.training.state import ModelState

Config = Any
PyTree = Any


def show(
  config: Config,
  *,
  data_dir: str | None = None,
  echo: Callable[[str], None] = print,
) -> None:
  """Prints what a run would do, and trains nothing.

  First what was understood of the data, then stages and their memory, then the
  network's parameters, and last the settings that the run reads. It compiles
  the steps, to tell the memory that they need.

  Args:
    config: as a config file gives it.
    data_dir: where data sets live; None for the default.
    echo: where to print.

  Raises:
    ValueError: if a setting or the data does not fit.
  """
  config_check.check(config)
  mesh = sharding.make_mesh()
  task = build.build_task(config, mesh, data_dir)
  learner = build.build_learner(config, task, mesh)
  learner = outlined(frozen.on_features(learner, config, outlined=True))
  stages = methods.stages(learner, config)
  echo(task.class_table())
  echo(task.storage_table() + "\n")
  echo(f"{'stage':<22} {'epochs':>7} {'batch':>6} {'steps':>9} {'samples':>12}")
  for stage in stages:
    echo(
      f"{stage.name:<22} {stage.epochs:>7} {stage.batch_size:>6}"
      f" {stage.steps:>9,} {stage.images:>12,}"
    )
  total = sum(stage.steps for stage in stages)
  images = sum(stage.images for stage in stages)
  echo(f"{'total':<37} {total:>9,} {images:>12,}\n")
  most = memory.limit(mesh.local_devices[0], config.run.memory_limit_gib)
  for line in memory_table(stages, learner, most, config.run.steps_per_call):
    echo(line)
  params, _ = jax.eval_shape(learner.model.init, jax.random.key(0))
  rows = models.parameter_table(params)
  echo(f"\n{'parameter':<60} {'shape':<20} {'count':>12}")
  for path, shape, count in rows:
    echo(f"{path:<60} {str(shape):<20} {count:>12,}")
  echo(f"{'total':<81} {sum(row[-1] for row in rows):>12,}\n")
  echo(str(ml_collections.ConfigDict(registry.told(config))))


def memory_table(
  stages: Sequence[Stage],
  learner: Learner,
  most: int | None,
  steps_per_call: int = 0,
) -> Iterator[str]:
  """Draws what each stage needs on a device, and says what does not fit.

  Programs are compiled from shapes, and nothing of a stage is computed or put
  on the device: there are the images only.

  Args:
    stages: of a method, made with a learner that is `outlined`.
    learner: the network and the task.
    most: bytes that a device has; None if unknown.
    steps_per_call: see `ltjax.training.fit`.

  Yields:
    A line at a time.
  """
  yield _line("memory on a device", ("data", "state", "temporaries", "peak"))
  peak, errors = 0, []
  programs = _programs(stages, learner, steps_per_call)
  for name, batch, data, state, temporaries in programs:
    try:
      with memory.explained(batch):
        needs = memory.Needs(data, state, temporaries())
      sizes = (data, state, needs.temporaries, needs.peak)
      yield _line(name, map(memory.text, sizes))
      peak = max(peak, needs.peak)
      memory.check(needs, batch, most)
    except memory.OutOfMemoryError as error:
      errors.append(str(error))
  yield _line("largest", ("", "", "", memory.text(peak)))
  yield _line("the device has", ("", "", "", memory.text(most)))
  yield from errors


def _programs(
  stages: Sequence[Stage], learner: Learner, steps_per_call: int
) -> Iterator[tuple[str, memory.Batch, int, int, Callable[[], int]]]:
  """Yields name, batch, bytes of data and state, and how to find the rest."""
  mesh, predictor = learner.mesh, learner.predictor
  there = memory.in_use(mesh.local_devices[0])
  initial = jax.eval_shape(learner.init)
  model = sharding.shaped(initial, mesh)
  known: dict[Any, Callable[[], int]] = {}
  for number, stage in enumerate(stages):
    if not stage.steps:
      continue
    before = shapes_after(stages[:number], initial)
    model = sharding.shaped(before, mesh)
    assert stage.init is not None
    state: Any = jax.eval_shape(stage.init, before)
    arrays, new = reads(stage, before, learner)
    count = fit.steps_in_call(stage, arrays, mesh, steps_per_call)
    call, shapes = fit.program(stage, state, arrays, mesh, count)
    key = (call, str(jax.tree.map(jnp.shape, (shapes[0], new))))
    # A later loop has the programs of the first: they are compiled once.
    if key not in known:
      known[key] = functools.cache(
        functools.partial(lambda c, s: _compile(c.lower(*s)), call, shapes)
      )
    data = there + memory.bytes_of(new)
    updated = memory.bytes_of(shapes[0]) + memory.bytes_of(model)
    yield stage.name, stage.batch, data, updated, known[key]
  images = learner.task.test_images
  # The features of each batch, and all of them put together.
  results = 2 * 4 * len(images) * learner.model.feature_dim
  yield (
    "evaluation",
    predictor.batch(len(images)),
    there + results,
    memory.bytes_of(model),
    lambda: _compile(predictor.lower(model, images)),
  )


def _compile(lowered):
  return memory.temporaries(lowered, to_run=False)


def reads(
  stage: Stage, shapes: ModelState, learner: Learner
) -> tuple[PyTree, PyTree]:
  """Returns what a stage reads, and what of it is not on the device yet.

  Args:
    stage: one with steps.
    shapes: of the state before it.
    learner: see `memory_table`.
  """
  assert stage.prepare is not None
  prepare, places, structures = stage.prepare, {}, []
  # Labels are looked at while batches are drawn: these are values, not shapes.
  labels = jnp.arange(len(shapes.pseudo_labels)) % learner.task.num_classes

  def outline(state):
    state = state.replace(pseudo_labels=labels.astype(jnp.int32))
    with jax.ensure_compile_time_eval():
      arrays, _ = prepare(state)
    leaves, structure = jax.tree.flatten(arrays)
    for number, leaf in enumerate(leaves):
      if not isinstance(leaf, jax.core.Tracer):
        places[number] = leaf
    structures.append(structure)
    return [x for i, x in enumerate(leaves) if i not in places]

  new = jax.eval_shape(outline, shapes)
  new = sharding.shaped(new, learner.mesh)
  structure, rest = structures[0], iter(new)
  leaves = [
    places[i] if i in places else next(rest)
    for i in range(structure.num_leaves)
  ]
  return jax.tree.unflatten(structure, leaves), new


class _Outlined(inference.Predictor):
  """A predictor whose features have a shape, and no values."""

  def __init__(self, real: inference.Predictor):
    self.__dict__.update(real.__dict__)

  def features(self, state, images, *, key=None, view=None):
    del key, view
    first = jax.tree.leaves((state.backbone, state.head))[0].ravel()[0]
    shape = (len(images), self.model.feature_dim)
    return jnp.broadcast_to(first, shape).astype(jnp.float32)


def outlined(learner: Learner) -> Learner:
  """Returns a learner whose features are shapes: none are computed."""
  return dataclasses.replace(learner, predictor=_Outlined(learner.predictor))


def _line(name, sizes):
  return f"{name:<22}" + "".join(f"{size:>13}" for size in sizes)
