"""What a stage of a method is: an initial state, a pure step, and what to read.

`ltjax.training.fit` trains one, `ltjax.runs.run` executes a list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

import jax

from ltjax.devices import memory
from ltjax.training import sampling
from ltjax.training.state import ModelState, TrainState

PyTree = Any
Step = Callable[[TrainState, jax.Array, PyTree], TrainState]


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of a method.

  Attributes:
    name: unique within the run, such as `loop1/consistency`; index streams and
      random keys derive from it.
    finish: `(model_state, train_state) -> model_state`, what the stage leaves
      behind; `train_state` is None in a stage without steps.
    report: `model_state -> rows`, what to write down when the stage is over.
    epochs: passes over the stage's samples; 0 for a stage without steps.
    steps_per_epoch: steps in an epoch.
    batch_size: samples in a step.
    init: `model_state -> train_state`; cheap and traceable.
    prepare: `model_state -> (arrays, stream)`: what the step reads, and
      `stream(epoch) -> int32 [steps_per_epoch, batch_size]`.
    step: `(train_state, index [B], arrays) -> train_state`; pure.
    schedule: `step -> learning rate`, for the log.
    block: the block of the config that holds its batch size; if empty, that of
      the last part of its name.
    images_per_sample: images of a step for each one that the config's batch
      size counts.
    shapes: `model_state -> model_state`, on shapes (`jax.ShapeDtypeStruct`):
      how `finish` changes them. Only a stage that leaves a head of another
      structure says so, for the checkpoints after it.
  """

  name: str
  finish: Callable[[ModelState, TrainState | None], ModelState]
  report: Callable[[ModelState], list[dict[str, Any]]] = lambda state: []
  epochs: int = 0
  steps_per_epoch: int = 0
  batch_size: int = 0
  init: Callable[[ModelState], TrainState] | None = None
  prepare: Callable[[ModelState], tuple[PyTree, sampling.Stream]] | None = None
  step: Step | None = None
  schedule: Callable[[int], Any] | None = None
  block: str = ""
  images_per_sample: int = 1
  shapes: Callable[[ModelState], ModelState] = lambda state: state

  @property
  def steps(self) -> int:
    """Steps in the whole stage."""
    return self.epochs * self.steps_per_epoch

  @property
  def images(self) -> int:
    """Samples drawn in the whole stage."""
    return self.steps * self.batch_size

  @property
  def batch(self) -> memory.Batch:
    """How its batch size is called in the config."""
    return memory.Batch(
      f"Stage {self.name}",
      f"{self.block or self.name.split('/')[-1]}.batch_size",
      self.batch_size // self.images_per_sample,
    )


def shapes_after(stages: Iterable[Stage], shapes: ModelState) -> ModelState:
  """Returns the shapes of the model state when stages, in order, are over."""
  for stage in stages:
    shapes = stage.shapes(shapes)
  return shapes
