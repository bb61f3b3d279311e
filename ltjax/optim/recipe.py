"""The optimization recipe of a stage: how long, how fast, with what decay."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

import optax

from ltjax.optim import optimizers, schedules

WARMUPS = ("step", "epoch")


@dataclasses.dataclass(frozen=True)
class Recipe:
  """An optimizer for a number of epochs; the defaults are those of the paper.

  Attributes:
    epochs: passes over the stage's samples.
    batch_size: samples in a step.
    learning_rate: the highest learning rate.
    schedule: `cosine`, `step`, `constant` or `exponential`, over the steps of
      the stage.
    milestones: fractions of the stage where `step` decays.
    factor: what `step` multiplies the learning rate by.
    momentum: momentum of SGD and LARS, the decay of Adam's mean gradient.
    nesterov: whether the momentum looks ahead; not with Adam.
    weight_decay: L2 penalty on all parameters of the stage; with LARS not on
      biases and normalisation.
    warmup_epochs: epochs over which the learning rate rises linearly first.
    warmup_every: it rises every `step`, or every `epoch` as in the code of
      LDAM: in epoch e, from 0, `learning_rate * (e + 1) / warmup_epochs`.
    optimizer: `sgd`, `adam` or `lars`, see `ltjax.optim.optimizers`.
    final_learning_rate: where `exponential` ends; 0 for the other schedules.

  Source: Liu et al., Section 4.4.
  """

  epochs: int
  batch_size: int = 128
  learning_rate: float = 0.1
  schedule: str = "cosine"
  milestones: tuple[float, ...] = ()
  factor: float = 0.1
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 5e-4
  warmup_epochs: int = 0
  warmup_every: str = "step"
  optimizer: str = "sgd"
  final_learning_rate: float = 0.0

  def __post_init__(self):
    if self.epochs < 1:
      raise ValueError(f"epochs is {self.epochs}; a stage needs 1 or more.")
    if not 0 <= self.warmup_epochs < self.epochs:
      raise ValueError(
        f"warmup_epochs is {self.warmup_epochs}; it must be 0 or more, and below"
        f" the {self.epochs} epochs of the stage."
      )
    if self.warmup_every not in WARMUPS:
      raise ValueError(
        f"warmup_every is {self.warmup_every!r}; choose one of"
        f" {', '.join(WARMUPS)}."
      )

  def lasting(self, min_steps: int, steps_per_epoch: int) -> Recipe:
    """Returns the recipe with as many epochs as `min_steps` take, or more.

    Whole epochs, so that schedules follow the new length and warm-up keeps its
    own.

    Args:
      min_steps: least number of steps of the stage, 0 or more.
      steps_per_epoch: steps in an epoch, 1 or more.
    """
    least = -(-min_steps // steps_per_epoch)
    return dataclasses.replace(self, epochs=max(self.epochs, least))

  def make_schedule(self, steps_per_epoch: int) -> Any:
    """Returns `step -> learning rate` over the whole stage."""
    return schedules.make(
      self.schedule,
      learning_rate=self.learning_rate,
      total_steps=self.epochs * steps_per_epoch,
      warmup_steps=self.warmup_epochs * steps_per_epoch,
      warmup_every=steps_per_epoch if self.warmup_every == "epoch" else 1,
      milestones=self.milestones,
      factor=self.factor,
      final_learning_rate=self.final_learning_rate,
    )

  def make_optimizer(self, schedule: Any) -> optax.GradientTransformation:
    """Returns the optimizer that follows `schedule`."""
    return optimizers.make(
      self.optimizer,
      schedule,
      momentum=self.momentum,
      weight_decay=self.weight_decay,
      nesterov=self.nesterov,
    )


def of(field: str, settings: Mapping[str, Any]) -> Recipe:
  """Returns the recipe that a block of a config describes.

  Args:
    field: the name of the block, such as `refit`, for errors.
    settings: the attributes of `Recipe`; others, which are the stage's own, are
      left alone.

  Raises:
    ValueError: if a setting is out of range; names the block.
  """
  names = [entry.name for entry in dataclasses.fields(Recipe)]
  try:
    recipe = Recipe(**{n: settings[n] for n in names if n in settings})
    recipe.make_optimizer(recipe.make_schedule(1))
  except ValueError as error:
    raise ValueError(f"{field}: {error}") from None
  return recipe
