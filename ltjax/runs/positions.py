"""Where a run stands: `(index of the stage, step in it)`, and the checkpoint.

A run that is over stands before step 0 of the stage after the last, `end`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import time
from typing import Any

import jax
from jax.sharding import Mesh

from ltjax.checkpoints import manager as checkpointing
from ltjax.devices import sharding
from ltjax.training.stage import Stage, shapes_after
from ltjax.training.state import ModelState, TrainState

Position = tuple[int, int]


class Positions:
  """Saves and restores the position of a run and its state there.

  Args:
    stages: all stages of the run, in order.
    checkpoints: of the run.
    mesh: the devices.
  """

  def __init__(
    self,
    stages: Sequence[Stage],
    checkpoints: checkpointing.Checkpoints,
    mesh: Mesh,
  ):
    self.stages = stages
    self._names = [stage.name for stage in stages] + ["end"]
    self._checkpoints = checkpoints
    self._mesh = mesh
    self._saved_at = time.monotonic()

  def save(
    self, position: Position, state: ModelState, train: TrainState | None
  ) -> None:
    """Writes the checkpoint of a position, or raises a CheckpointError.

    Args:
      position: where the run stands.
      state: what the stages before this one left.
      train: the state of this stage; None before its first step.
    """
    self._checkpoints.save(
      position,
      {"model": state, "train": train},
      {"stage": self._names[position[0]]},
    )
    self._saved_at = time.monotonic()

  def seconds_since_save(self) -> float:
    """Returns the age of the newest checkpoint, or of this object."""
    return time.monotonic() - self._saved_at

  def restore(
    self, state: ModelState
  ) -> tuple[Position | None, ModelState, TrainState | None]:
    """Returns the position to go on from, and both states there.

    Where nothing was saved, that is None and the given, first state.

    Raises:
      CheckpointError: if there are checkpoints, but none can be read.
      ValueError: if a checkpoint is of other stages or of another model.
    """
    initial = jax.eval_shape(lambda: state)

    def target(record: Mapping[str, Any]) -> Any:
      index, step = record["position"]
      if index >= len(self._names) or self._names[index] != record["stage"]:
        raise ValueError(
          f"The checkpoint is at stage {record['stage']!r}, number {index},"
          " which this config does not have there. Use the config that wrote"
          " it, or another workdir."
        )
      shapes = shapes_after(self.stages[:index], initial)
      train = None
      if step:
        init = self.stages[index].init
        assert init is not None
        train = jax.eval_shape(init, shapes)
      return sharding.shaped({"model": shapes, "train": train}, self._mesh)

    found = self._checkpoints.restore(target)
    if found is None:
      return None, state, None
    tree, record = found
    index, step = record["position"]
    return (index, step), tree["model"], tree["train"]
