"""The training step that all stages share, whatever they minimize.

An `Algorithm` is what makes a stage the one it is: a loss, and what is carried
from step to step. `Data` says which samples it draws. The batch, the gradient,
the optimizer, rows of memory and metrics are the same for all.

    stage = step.make("embedding", algorithm, data, recipe, key=key, ...)
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltjax.optim import layers, optimizers
from ltjax.optim import recipe as recipes
from ltjax.training import sampling
from ltjax.training import state as states
from ltjax.training.stage import Stage, Step
from ltjax.training.state import ModelState, TrainState

PyTree = Any


class Batch(NamedTuple):
  """What an algorithm sees of a step.

  Attributes:
    key: the step's random key.
    index: `[B]` int32, which samples.
    images: uint8 `[B, H, W, C]`; None where the stage reads no images.
    labels: `[B]` int32, -1 where unknown.
    arrays: all that `Data.prepare` gave, such as `counts [C]`.
    epoch: `[]` int32, from 0.
    fresh: `[]` bool, whether the step is the first of an epoch.
    progress: `[]` float32, share of the stage's steps done before this one.
    epochs: epochs of the stage.
    steps: steps of the stage.
  """

  key: jax.Array
  index: jax.Array
  images: Any
  labels: jax.Array
  arrays: dict[str, Any]
  epoch: jax.Array
  fresh: jax.Array
  progress: jax.Array
  epochs: int
  steps: int


class Outcome(NamedTuple):
  """What a loss finds beside its value.

  Attributes:
    batch_stats: the new BatchNorm statistics.
    metrics: scalars `[]` by the names of `Algorithm.metrics`.
    memory: `[B, C]`, the new rows of the state's memory; None: no row changes.
    found: what `Algorithm.follow` needs.
    features: `[B, F]`, for what watches them.
  """

  batch_stats: PyTree
  metrics: dict[str, jax.Array]
  memory: jax.Array | None = None
  found: PyTree = None
  features: Any = None


def network(state: ModelState) -> tuple[dict[str, Any], PyTree, PyTree]:
  """Trains `f` and `g'` from where they are; nothing else is carried."""
  return {"backbone": state.backbone, "head": state.head}, state.batch_stats, {}


def keep_network(state: ModelState, trained: TrainState) -> ModelState:
  """Leaves `f` and `g'`; `g` stays as it was."""
  return state.replace(  # type: ignore[attr-defined]
    backbone=trained.params["backbone"],
    batch_stats=trained.batch_stats,
    head=trained.params["head"],
  )


def keep_final(state: ModelState, trained: TrainState) -> ModelState:
  """Leaves `f` and `g'`, which becomes `g` as well: the head to test."""
  kept = keep_network(state, trained)
  return kept.replace(  # type: ignore[attr-defined]
    balanced_head=states.copy(kept.head)
  )


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """A loss with what it carries from step to step, as pure functions.

  Stages of one and the same loss, recipe and number of steps, such as those of
  the loops of a method, share one compiled step.

  Attributes:
    loss: `(params, train_state, batch) -> (loss [], Outcome)`, differentiated
      by params; the state's `extra` is that of `refresh`.
    metrics: names of the scalars of `Outcome.metrics`.
    init: `model_state -> (params, batch_stats, extra)`: what is trained, and
      what else is carried, as `TrainState.extra`.
    memory: `model_state -> float32 [N + M, C]`, what is carried per sample;
      `[0, C]` for nothing.
    refresh: `(train_state, batch) -> extra`, before the step.
    constrain: `(new params, train_state) -> params`, such as of length 1 again;
      the state is that before the step.
    follow: `(new params, train_state, batch, outcome) -> extra`, after the
      step, such as a teacher that follows; the state is that before it.
    keep: `(model_state, train_state) -> model_state`, what the stage leaves.
    shapes: as `Stage.shapes`.
    layer_decay: of the learning rates of the backbone's layers, as of
      `models.create`.
  """

  loss: Callable[[Any, TrainState, Batch], tuple[jax.Array, Outcome]]
  metrics: tuple[str, ...] = ()
  init: Callable[[ModelState], tuple[dict[str, Any], PyTree, PyTree]] = network
  memory: Callable[[ModelState], jax.Array] = lambda state: state.memory[:0]
  refresh: Callable[[TrainState, Batch], PyTree] = lambda state, batch: (
    state.extra
  )
  constrain: Callable[[Any, TrainState], Any] = lambda params, state: params
  follow: Callable[[Any, TrainState, Batch, Outcome], PyTree] = (
    lambda params, state, batch, outcome: state.extra
  )
  keep: Callable[[ModelState, TrainState], ModelState] = keep_network
  shapes: Callable[[ModelState], ModelState] = lambda state: state
  layer_decay: float = 1.0

  @property
  def moving(self) -> Algorithm:
    """What of it a step runs: not where it begins, nor what it leaves."""
    return Algorithm(
      self.loss,
      refresh=self.refresh,
      constrain=self.constrain,
      follow=self.follow,
      layer_decay=self.layer_decay,
    )


@dataclasses.dataclass(frozen=True)
class Data:
  """Which samples a stage draws, and in what order.

  Attributes:
    steps: in an epoch.
    batch_size: samples in a step.
    prepare: `(model_state, stage name, epochs) -> (arrays, stream)`: what the
      step reads, `labels` and mostly `images` among it, and the batches as
      `stream(epoch) -> int32 [steps, batch_size]`.
    images_per_sample: images of a step for each one that the config's batch
      size counts.
  """

  steps: int
  batch_size: int
  prepare: Callable[
    [ModelState, str, int], tuple[dict[str, Any], sampling.Stream]
  ]
  images_per_sample: int = 1


class Program(NamedTuple):
  """A step with what moves its parameters.

  Attributes:
    step: `(train_state, index [B] int32, arrays) -> train_state`; pure.
    optimizer: of `recipe`.
    schedule: `step -> learning rate`.
  """

  step: Step
  optimizer: optax.GradientTransformation
  schedule: Callable[[Any], Any]


@functools.lru_cache(maxsize=64)
def program(
  algorithm: Algorithm,
  recipe: recipes.Recipe,
  steps_per_epoch: int,
  parts: int = 1,
) -> Program:
  """Returns the step of an algorithm, the same for the same arguments.

  Args:
    algorithm, recipe, parts: as of `make`.
    steps_per_epoch: steps in an epoch.
  """
  whole = dataclasses.replace(recipe, epochs=parts * recipe.epochs)
  schedule = whole.make_schedule(steps_per_epoch)
  optimizer = layers.decayed(
    recipe.make_optimizer(schedule), algorithm.layer_decay
  )
  steps = recipe.epochs * steps_per_epoch

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    batch = Batch(
      key=jax.random.fold_in(state.key, state.step),
      index=index,
      images=arrays["images"][index] if "images" in arrays else None,
      labels=arrays["labels"][index],
      arrays=arrays,
      epoch=state.step // steps_per_epoch,
      fresh=state.step % steps_per_epoch == 0,
      progress=state.step.astype(jnp.float32) / steps,
      epochs=recipe.epochs,
      steps=steps,
    )
    state = state.replace(  # type: ignore[attr-defined]
      extra=algorithm.refresh(state, batch)
    )
    (loss, outcome), grads = jax.value_and_grad(
      lambda params: algorithm.loss(params, state, batch), has_aux=True
    )(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params = algorithm.constrain(params, state)
    memory = state.memory
    if outcome.memory is not None:
      memory = memory.at[index].set(outcome.memory)
    return states.advance(
      state,
      {"loss": loss, **outcome.metrics},
      steps_per_epoch=steps_per_epoch,
      params=params,
      batch_stats=outcome.batch_stats,
      opt_state=opt_state,
      memory=memory,
      extra=algorithm.follow(params, state, batch, outcome),
    )

  return Program(step, optimizer, schedule)


def make(
  name: str,
  algorithm: Algorithm,
  data: Data,
  recipe: recipes.Recipe,
  *,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
  block: str = "",
  part: int = 0,
  parts: int = 1,
) -> Stage:
  """Returns the stage that trains by an algorithm.

  Args:
    name: the stage's name, from which its batches derive.
    algorithm, data: what to minimize, and what to draw.
    recipe: epochs and optimizer.
    key: the random key of its steps.
    report: rows to write when the stage is over.
    block: as `Stage.block`.
    part: which of `parts` it is, from 0.
    parts: stages of the same length over which one schedule extends, warm-up
      included. Momentum starts from 0 in each.
  """
  step, optimizer, schedule = program(
    algorithm.moving, recipe, data.steps, parts
  )
  start = part * recipe.epochs * data.steps

  def init(state: ModelState) -> TrainState:
    params, batch_stats, extra = algorithm.init(state)
    return states.create(
      params=params,
      batch_stats=batch_stats,
      opt_state=optimizers.at_step(optimizer.init(params), start),
      memory=algorithm.memory(state),
      key=key,
      metrics=("loss", *algorithm.metrics),
      extra=states.copy(extra),
    )

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    return algorithm.keep(state, trained)

  return Stage(
    name=name,
    epochs=recipe.epochs,
    steps_per_epoch=data.steps,
    batch_size=data.batch_size,
    images_per_sample=data.images_per_sample,
    block=block,
    init=init,
    prepare=lambda state: data.prepare(state, name, recipe.epochs),
    step=step,
    finish=finish,
    report=report,
    schedule=lambda step: schedule(step + start),
    shapes=algorithm.shapes,
  )
