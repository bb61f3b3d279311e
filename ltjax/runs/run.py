"""A run: executes the stages of a method and survives being killed.

At the end of every stage, and every so many seconds within one, the whole state
is saved with its position (stage, step). Run again, it goes on from there;
since index streams and random keys are functions of (seed, stage, step), the
result is bit for bit what an uninterrupted run gives on the same machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import time
from typing import Any

from jax.sharding import Mesh

from ltjax import require
from ltjax.checkpoints import manager as checkpointing
from ltjax.data.host import host_images
from ltjax.devices import distributed
from ltjax.runs import interrupts, rehearsal, writers
from ltjax.runs import progress as progressing
from ltjax.runs.positions import Positions
from ltjax.training import fit, inference
from ltjax.training import state as states
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState


class Run:
  """Executes stages, with checkpoints, metrics and progress.

  Args:
    workdir: the run's folder; gets `checkpoints/` and `metrics.jsonl`.
    mesh: the devices.
    steps_per_call: see `ltjax.training.fit`.
    checkpoint_every_s: seconds between checkpoints within a stage.
    keep: checkpoints to keep.
    memory_limit_gib: what a device has; 0 asks it, see `ltjax.devices.memory`.
    rehearse: whether all programs are compiled before the first stage, see
      `rehearsal.due`.
    predictor: the one that the stages use, for a rehearsal; None for none.
    tensorboard: whether to write TensorBoard events.
    progress: where to show progress; None for none.
  """

  def __init__(
    self,
    workdir: str | Path,
    *,
    mesh: Mesh,
    steps_per_call: int = 0,
    checkpoint_every_s: float = 60.0,
    keep: int = 3,
    memory_limit_gib: float = 0.0,
    rehearse: str = "auto",
    predictor: inference.Predictor | None = None,
    tensorboard: bool = False,
    progress: progressing.Progress | None = None,
  ):
    require.at_least("run.steps_per_call", steps_per_call, 0)
    self._workdir = Path(workdir)
    self._mesh = mesh
    self._steps_per_call = steps_per_call
    self._checkpoint_every_s = checkpoint_every_s
    self._memory_limit_gib = memory_limit_gib
    due = predictor is not None and rehearsal.due(rehearse, mesh)
    self._predictor = predictor if due else None
    self._tensorboard = tensorboard
    self._progress = progress
    self._checkpoints = checkpointing.Checkpoints(
      self._workdir / "checkpoints", keep=keep
    )
    # The running stage's state, where it is newer than its last checkpoint.
    self._unsaved: TrainState | None = None

  def execute(self, stages: Sequence[Stage], state: ModelState) -> ModelState:
    """Runs the stages that are not done yet and returns the final state.

    Args:
      stages: all stages of the method, in order; names differ.
      state: the state before the first stage.

    Raises:
      Interrupted: after a signal, with everything saved.
      CompilationError: if a rehearsal finds what XLA cannot compile.
      OutOfMemoryError: if a stage does not fit on the device.
      NonFiniteLossError: if a loss is not finite; checkpoints stay.
      CheckpointError: if saving fails; earlier checkpoints are kept.
      BrokenImageError: if an image cannot be read, with everything saved.
    """
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names), names
    positions = Positions(stages, self._checkpoints, self._mesh)
    position, state, train = positions.restore(state)
    first = 0 if position is None else position[0]
    if self._predictor is not None:
      rehearsal.rehearse(
        stages[first:],
        state,
        self._predictor,
        mesh=self._mesh,
        steps_per_call=self._steps_per_call,
        memory_limit_gib=self._memory_limit_gib,
        show=self._progress.message if self._progress else lambda text: None,
      )
    writer = writers.MultiWriter()
    if distributed.first():
      writer = writers.open_run(
        self._workdir, position=position, tensorboard=self._tensorboard
      )
    if self._progress and first:
      self._progress.skip(sum(stage.images for stage in stages[:first]))
    try:
      with interrupts.catch() as flag:
        for index in range(first, len(stages)):
          state = self._stage(
            index,
            positions,
            state,
            train if index == first else None,
            writer,
            flag,
          )
          self._stop_for(distributed.Votes(self._mesh).now(flag.signum))
    finally:
      writer.close()
      self._checkpoints.close()
    return state

  def _stage(
    self,
    index: int,
    positions: Positions,
    state: ModelState,
    train: TrainState | None,
    writer: writers.MultiWriter,
    flag: interrupts.Flag,
  ) -> ModelState:
    """Runs one stage from where it stands to its checkpoint at the end."""
    stage = positions.stages[index]
    done = 0 if train is None else int(train.step)
    if self._progress:
      self._progress.stage(
        stage.name,
        index,
        len(positions.stages),
        stage.epochs,
        stage.steps_per_epoch * stage.batch_size,
        resumed_at=done * stage.batch_size,
      )
    self._unsaved = None
    end = (index + 1, 0)
    try:
      if stage.steps:
        train = self._train(index, positions, state, train, writer, flag)
      new = stage.finish(state, train)
      for row in stage.report(new):
        writer.write({"stage": stage.name, "position": list(end), **row})
        self._show(stage, row)
    except host_images.BrokenImageError:
      # Other processes know nothing of it, and none saves alone.
      if self._unsaved is not None and not distributed.several():
        step = int(self._unsaved.step)
        positions.save((index, step), state, self._unsaved)
      raise
    positions.save(end, new, None)
    return new

  def _train(
    self,
    index: int,
    positions: Positions,
    state: ModelState,
    train: TrainState | None,
    writer: writers.MultiWriter,
    flag: interrupts.Flag,
  ) -> TrainState:
    """Runs the steps of a stage that are left."""
    stage = positions.stages[index]
    assert stage.init is not None and stage.prepare is not None
    if train is None:
      train = states.copy(stage.init(state))
    arrays, stream = stage.prepare(state)
    began, first_step = time.monotonic(), int(train.step)
    votes = distributed.Votes(self._mesh)
    ticks = fit.fit(
      stage,
      train,
      arrays,
      stream,
      mesh=self._mesh,
      steps_per_call=self._steps_per_call,
      memory_limit_gib=self._memory_limit_gib,
    )
    for tick in ticks:
      train = self._unsaved = tick.state
      means = tick.means or {}
      if self._progress:
        self._progress.update(
          tick.step * stage.batch_size,
          tick.epoch,
          means.get("loss"),
          means.get("accuracy"),
        )
      if tick.epoch_done:
        now = time.monotonic()
        drawn = (tick.step - first_step) * stage.batch_size
        writer.write(
          {
            "kind": "train",
            "stage": stage.name,
            "position": [index, tick.step],
            "epoch": tick.epoch,
            "epochs": stage.epochs,
            "learning_rate": float(stage.schedule(tick.step - 1))
            if stage.schedule
            else None,
            "images_per_second": round(drawn / max(now - began, 1e-9), 1),
            **means,
          }
        )
        began, first_step = now, tick.step
      if tick.step == stage.steps:
        continue  # The end of the stage saves.
      due = positions.seconds_since_save() >= self._checkpoint_every_s
      signum, due = votes.ask(flag.signum, due)
      if due or signum is not None:
        fit.check(stage, fit.watch(tick.state))
        positions.save((index, tick.step), state, tick.state)
        self._unsaved = None
        self._stop_for(signum)
    assert train is not None
    return train

  def _stop_for(self, signum: int | None) -> None:
    """Raises Interrupted if a signal came to a process of the run."""
    if signum is not None:
      raise interrupts.Interrupted(signum)

  def _show(self, stage: Stage, row: dict[str, Any]) -> None:
    """Prints an evaluation as it comes."""
    if self._progress is None:
      return
    if row["kind"] == "eval" and row["split"] == "test":
      title = row["model"]
      parts = [("test accuracy", "accuracy"), *_groups("accuracy")]
      if abs(row["accuracy"] - row["balanced_accuracy"]) >= 5e-4:
        # A skewed test set: classes count alike.
        parts = [("test balanced accuracy", "balanced_accuracy")]
        parts += [*_groups("recall"), ("accuracy", "accuracy")]
    elif row["kind"] == "pseudo":
      title = f"{stage.name}"
      parts = [("accuracy", "pseudo/accuracy"), *_groups("pseudo/accuracy")]
    else:
      return
    values = ", ".join(
      f"{name} {100 * row[key]:.1f}"
      for name, key in parts
      if row.get(key) is not None
    )
    self._progress.message(f"{title}: {values}")


def _groups(prefix: str) -> list[tuple[str, str]]:
  return [(g, f"{prefix}/{g}") for g in ("many", "medium", "few")]
