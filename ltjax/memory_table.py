"""The memory of a whole run, stage by stage, before any of it runs.

Every stage is outlined: the shapes of what it reads and updates are worked out
without computing a value, its step is compiled for them, and XLA's number for
its temporaries is taken. So the table costs the compilations of a run, and
nothing of the memory that it tells about.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.devices import memory, sharding
from ltjax.methods.learner import Learner
from ltjax.training import fit, inference, memory_check, prefetch
from ltjax.training.stage import Stage, shapes_after
from ltjax.training.state import ModelState

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Row:
  """A stage, or a pass over images.

  Attributes:
    name: of the stage.
    estimate: what it needs on a device.
    batch: how its batch is called, and how to compile another.
  """

  name: str
  estimate: memory.Estimate
  batch: memory.Batch


class Outlined(inference.Predictor):
  """A predictor whose features have a shape, and no values.

  Args:
    real: the predictor of the run.
  """

  def __init__(self, real: inference.Predictor):
    self.__dict__.update(real.__dict__)

  def features(
    self, state: ModelState, images: Any, *, key: jax.Array | None = None
  ) -> jax.Array:
    """See `Predictor`; to be called while shapes are traced.

    Args:
      state: traced.
      images: uint8 `[N, H, W, C]`.
      key: not used.
    """
    del key
    first = jax.tree.leaves(state.backbone)[0].ravel()[0]
    shape = (len(images), self.model.feature_dim)
    return jnp.broadcast_to(first, shape).astype(jnp.float32)


def rows(
  stages: Sequence[Stage], learner: Learner, *, steps_per_call: int = 0
) -> list[Row]:
  """Returns what each stage with steps, and the evaluation, need.

  Args:
    stages: of a method, made with a learner whose predictor is `Outlined`.
    learner: the network and the task.
    steps_per_call: see `ltjax.training.fit`.
  """
  mesh = learner.mesh
  there = memory.in_use(mesh.local_devices[0])
  initial = jax.eval_shape(learner.init)
  model = sharding.shaped(initial, mesh)
  known: dict[Any, int | None] = {}
  found = []
  for number, stage in enumerate(stages):
    if not stage.steps:
      continue
    before = shapes_after(stages[:number], initial)
    model = sharding.shaped(before, mesh)
    assert stage.init is not None and stage.step is not None
    state = sharding.shaped(jax.eval_shape(stage.init, before), mesh)
    arrays, new = _reads(stage, before, learner)
    count = fit.steps_in_call(stage, arrays, mesh, steps_per_call)
    batch = dataclasses.replace(stage.batch, multiple=mesh.size)
    call: Any = fit.compiled(
      stage.step, mesh, count > 1, not state.memory.sharding.is_fully_replicated
    )

    def lower(size, call=call, state=state, arrays=arrays, count=count):
      return call.lower(*fit.outline(state, arrays, mesh, count, size))

    key = (call, str(jax.tree.map(jnp.shape, (state, new))), count)
    if key not in known:
      lowered = lower(stage.batch_size)
      known[key] = memory.temporaries(lowered, to_run=False)
    if stage.images_per_sample == 1:
      batch = dataclasses.replace(batch, lower=lower)
    estimate = memory.Estimate(
      data=there + memory.bytes_of(new),
      state=memory.bytes_of(state) + memory.bytes_of(model),
      temporaries=known[key],
    )
    found.append(Row(stage.name, estimate, batch))
  return [*found, _evaluation(learner, model, there)]


def table(found: Sequence[Row], most: int | None) -> str:
  """Draws the rows, and says what does not fit and what would.

  Args:
    found: of `rows`.
    most: bytes that a device has; None if unknown.
  """
  head = ("memory on a device", "data", "state", "temporaries", "peak")
  lines = [_line(head)]
  for row in found:
    part = row.estimate
    sizes = (part.data, part.state, part.temporaries, part.peak)
    lines.append(_line((row.name, *map(memory.text, sizes))))
  peak = max(row.estimate.peak for row in found)
  lines.append(_line(("largest", "", "", "", memory.text(peak))))
  lines.append(_line(("the device has", "", "", "", memory.text(most))))
  for row in found:
    try:
      memory_check.check(row.estimate, row.batch, most)
    except memory_check.OutOfMemoryError as error:
      lines.append(str(error))
  return "\n".join(lines)


def _reads(
  stage: Stage, shapes: ModelState, learner: Learner
) -> tuple[PyTree, PyTree]:
  """Returns what a stage reads, and what of it is not on the device yet."""
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


def _evaluation(learner: Learner, model: ModelState, there: int) -> Row:
  """Returns what a pass over the test images needs."""
  images, mesh = learner.task.test_images, learner.mesh
  predictor = learner.predictor

  def lower(size):
    return predictor.lower(model, prefetch.outline(images, size, mesh), size)

  size = predictor.size(len(images))
  results = 2 * 4 * len(images) * learner.model.feature_dim
  needed = memory.temporaries(lower(size), to_run=False)
  estimate = memory.Estimate(
    data=there + results, state=memory.bytes_of(model), temporaries=needed
  )
  batch = memory.Batch(
    f"A pass over {len(images):,} images",
    "eval.batch_size",
    size,
    mesh.size,
    lower,
  )
  return Row("evaluation", estimate, batch)


def _line(cells: Sequence[str]) -> str:
  name, *sizes = cells
  return f"{name:<22}" + "".join(f"{size:>13}" for size in sizes)
