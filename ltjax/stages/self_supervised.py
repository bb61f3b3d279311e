"""What self-supervised stages share: images in, an embedding out, no labels.

The stage reads images alone and leaves the parameters and BatchNorm statistics
of `f` behind. Whatever it needed beside `f` (a head of its own, a projection, a
queue) is dropped, and both heads of the model stay as they were: fresh, where
the stage is the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from ltjax import fit, sampling
from ltjax import recipe as recipes
from ltjax.state import ModelState, TrainState


def make(
  name: str,
  *,
  images: jax.Array,
  recipe: recipes.Recipe,
  init: Callable[[ModelState, optax.GradientTransformation], TrainState],
  make_step: Callable[..., fit.Step],
  seed: int,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> fit.Stage:
  """Returns a stage that trains `f` on images.

  Args:
    name: the stage's name; the config block is `pretrain`.
    images: uint8 `[N, H, W, C]`; each is drawn once an epoch.
    recipe: epochs, batch size and SGD settings.
    init: `(model_state, optimizer) -> train_state`, whose `params` hold the
      `backbone` beside what else is trained.
    make_step: `(optimizer, steps_per_epoch) -> step`, called with both by
      keyword; the step's arrays hold `images`, and as `head` the parameters of
      `g'`, for networks that cannot be run without one.
    seed: the run's seed, for the index stream.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if the batch is larger than the set.
  """
  steps = sampling.steps_per_epoch(len(images), recipe.batch_size, "pretrain")
  schedule = recipe.make_schedule(steps)
  optimizer = recipe.make_optimizer(schedule)

  def prepare(state: ModelState):
    stream = sampling.random(
      len(images), recipe.batch_size, seed=seed, stage=name
    )
    return {"images": images, "head": state.head}, stream

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    return state.replace(  # type: ignore[attr-defined]
      backbone=trained.params["backbone"], batch_stats=trained.batch_stats
    )

  return fit.Stage(
    name=name,
    epochs=recipe.epochs,
    steps_per_epoch=steps,
    batch_size=recipe.batch_size,
    init=lambda state: init(state, optimizer),
    prepare=prepare,
    step=make_step(optimizer=optimizer, steps_per_epoch=steps),
    finish=finish,
    report=report,
    schedule=schedule,
  )


def check_square(pretraining: str, image_shape: tuple[int, int, int]) -> None:
  """Checks that images can be turned, or cut into squares, and fit again.

  Args:
    pretraining: the choice of `pretrain.name`, for the error.
    image_shape: `(H, W, C)` of the network's input.

  Raises:
    ValueError: if height and width differ.
  """
  height, width, _ = image_shape
  if height != width:
    raise ValueError(
      f"pretrain.name is {pretraining!r}, which needs square images, but these"
      f" have {height} x {width} pixels; make them square (data.image_size does"
      " so for a folder) or set pretrain.name to 'none'."
    )
