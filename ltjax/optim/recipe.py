"""The optimization recipe of a stage: how long, how fast, with what decay."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import optax

from ltjax.optim import optimizers, schedules
from ltjax.settings import fields

WARMUPS = ("step", "epoch")
_STEP = {"schedule": ("step",)}
_size = functools.partial(fields.setting, size=True)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """An optimizer for a number of epochs; the defaults are those of the paper.

  Source: Liu et al., Section 4.4.
  """

  epochs: int = _size(200, "passes over the stage's samples", least=1)
  batch_size: int = _size(128, "samples in a step", least=1)
  learning_rate: float = _size(0.1, "the highest one", above=0)
  schedule: str = _size(
    "cosine", "of the learning rate", choices=tuple(schedules.NAMES)
  )
  milestones: tuple[float, ...] = _size(
    (), "shares of the stage at which `step` decays", when=_STEP
  )
  factor: float = _size(
    0.1, "what `step` multiplies by", above=0, most=1, when=_STEP
  )
  momentum: float = _size(
    0.9, "of SGD and LARS; the decay of Adam's mean gradient", least=0, below=1
  )
  nesterov: bool = _size(False, "whether it looks ahead; not with Adam")
  weight_decay: float = _size(
    5e-4,
    "L2 penalty on the parameters of the stage",
    least=0,
  )
  decayed: str = _size(
    "all",
    "what weight_decay is of; kernels: not biases and normalisation",
    choices=optimizers.DECAYED,
  )
  warmup_epochs: int = _size(
    0, "epochs over which the learning rate rises linearly first", least=0
  )
  # By epoch as in the code of LDAM: `learning_rate * (e + 1) / warmup_epochs`.
  warmup_every: str = _size("step", "how it rises", choices=WARMUPS)
  optimizer: str = _size(
    "sgd", "see `ltjax.optim.optimizers`", choices=tuple(optimizers.NAMES)
  )
  final_learning_rate: float = _size(
    0.0,
    "where `exponential` ends; 0 for others",
    least=0,
    when={"schedule": ("exponential",)},
  )

  def __post_init__(self):
    if not 0 <= self.warmup_epochs < self.epochs:
      raise ValueError(
        f"warmup_epochs is {self.warmup_epochs}; it must be 0 or more, and"
        f" below the {self.epochs} epochs of the stage."
      )

  def lasting(self, min_steps: int, steps_per_epoch: int) -> Recipe:
    """Returns the recipe with as many epochs as `min_steps` take, or more.

    Schedules follow the new length; warm-up keeps its own.
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
      decayed=self.decayed,
    )


def of(field: str, settings: Mapping[str, Any]) -> Recipe:
  """Returns the recipe that a block of a config describes.

  `field` names the block, such as `refit`, for a ValueError if a setting is out
  of range. Settings that are not those of `Recipe` are left alone.
  """
  names = [entry.name for entry in dataclasses.fields(Recipe)]
  try:
    recipe = Recipe(**{n: settings[n] for n in names if n in settings})
    recipe.make_optimizer(recipe.make_schedule(1))
  except ValueError as error:
    raise ValueError(f"{field}: {error}") from None
  return recipe
