"""Pretext tasks: what a network is asked about images whose class is not known.

A `Pretext` is the loss of a self-supervised method with what it carries from
step to step. The rest is the same for all: batches of images, the gradient, the
watch for a *collapse* (an embedding that maps all images to one point has the
best loss of some methods, and shows in the spread and the rank of the features),
and an optional online probe.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltjax import monitors, sampling
from ltjax import state as states
from ltjax.stage import Stage, Step
from ltjax.stages import online_probe as online_probes
from ltjax.stages import pretext_setup
from ltjax.state import ModelState, TrainState

PyTree = Any


class Batch(NamedTuple):
  """What a pretext task sees of a step.

  Attributes:
    key: the step's random key.
    index: `[B]` int32, which images.
    images: uint8 `[B, H, W, C]`.
    labels: `[B]` int32, -1 where unknown; only for supervised tasks and logs.
    counts: `[C]` float32, images of each class in the set, for logs.
    head: parameters of `g'`, without which a network cannot be run.
    fresh: `[]` bool, whether the step is the first of an epoch.
    epoch: `[]` int32, from 0.
    progress: `[]` float32, share of the stage's steps done before this one.
  """

  key: jax.Array
  index: jax.Array
  images: jax.Array
  labels: jax.Array
  counts: jax.Array
  head: PyTree
  fresh: jax.Array
  epoch: jax.Array
  progress: jax.Array


class Outcome(NamedTuple):
  """What a pretext task finds beside its loss.

  Attributes:
    features: `[B, F]` of one view, for the monitors and the online probe.
    batch_stats: the new BatchNorm statistics.
    metrics: scalars `[]` by the names of `Pretext.metrics`.
    found: what `Pretext.follow` needs.
  """

  features: jax.Array
  batch_stats: PyTree
  metrics: dict[str, jax.Array]
  found: PyTree = None


@dataclasses.dataclass(frozen=True)
class Pretext:
  """A pretext task, as pure functions.

  Attributes:
    init: `model_state -> (params, batch_stats, extra)`: params is a dictionary
      of what is trained; extra is what else is carried, as
      `TrainState.extra`.
    loss: `(params, train_state, batch) -> (loss [], Outcome)`; the state's
      `extra` is that of `refresh`.
    finish: `(model_state, train_state) -> model_state`.
    refresh: `(train_state, batch) -> extra`, before the step, such as what is
      made anew at the start of an epoch.
    constrain: `(params, train_state) -> params`, after the optimizer's step and
      before `follow`, such as of length 1 again; the state is that before it.
    follow: `(new params, train_state, outcome) -> extra`, after the step, such
      as a teacher that follows.
    metrics: names of the scalars of `Outcome.metrics`.
    shapes: as `Stage.shapes`.
  """

  init: Callable[[ModelState], tuple[dict[str, Any], PyTree, PyTree]]
  loss: Callable[[Any, TrainState, Batch], tuple[jax.Array, Outcome]]
  finish: Callable[[ModelState, TrainState], ModelState]
  refresh: Callable[[TrainState, Batch], PyTree] = lambda state, batch: (
    state.extra
  )
  constrain: Callable[[Any, TrainState], Any] = lambda params, state: params
  follow: Callable[[Any, TrainState, Outcome], PyTree] = (
    lambda params, state, outcome: state.extra
  )
  metrics: tuple[str, ...] = ()
  shapes: Callable[[ModelState], ModelState] = lambda state: state


def make_step(
  pretext: Pretext,
  optimizer: optax.GradientTransformation,
  *,
  steps_per_epoch: int,
  epochs: int,
  online_probe: bool,
) -> Step:
  """Returns the pure step of a pretext task.

  Args:
    pretext: the task.
    optimizer: moves its params.
    steps_per_epoch: steps in an epoch.
    epochs: of the stage.
    online_probe: whether a linear classifier is trained on the features.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, the arrays being
    those of the stage's `Setup`.
  """

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    batch = Batch(
      key=jax.random.fold_in(state.key, state.step),
      index=index,
      images=arrays["images"][index],
      labels=arrays["labels"][index],
      counts=arrays["counts"],
      head=arrays["head"],
      fresh=state.step % steps_per_epoch == 0,
      epoch=state.step // steps_per_epoch,
      progress=state.step.astype(jnp.float32) / (epochs * steps_per_epoch),
    )
    state = state.replace(  # type: ignore[attr-defined]
      extra=pretext.refresh(state, batch)
    )

    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
      loss, outcome = pretext.loss(params, state, batch)
      metrics = {"loss": loss, **outcome.metrics}
      if online_probe:
        probe_loss, accuracy = online_probes.loss(
          params["online_probe"], outcome.features, batch.labels
        )
        metrics["online_accuracy"] = accuracy
        return loss + probe_loss, (outcome, metrics)
      return loss, (outcome, metrics)

    grads, (outcome, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params = pretext.constrain(params, state)
    features = jax.lax.stop_gradient(outcome.features)
    metrics["feature_std"] = monitors.feature_std(features)
    metrics["effective_rank"] = monitors.effective_rank(features)
    return states.advance(
      state,
      metrics,
      steps_per_epoch=steps_per_epoch,
      params=params,
      batch_stats=outcome.batch_stats,
      opt_state=opt_state,
      extra=pretext.follow(params, state, outcome),
    )

  return step


def make(
  name: str,
  pretext: Pretext,
  setup: pretext_setup.Setup,
  *,
  feature_dim: int,
  key: jax.Array,
) -> Stage:
  """Returns the stage that trains a network on a pretext task.

  Args:
    name: the stage's name, which is also that of its config block.
    pretext: the task.
    setup: the images, and how to train on them. The online probe has the
      optimizer of the stage.
    feature_dim: F, of the network.
    key: the random key of its steps.

  Raises:
    ValueError: if the batch is larger than the set, or has a single image.
  """
  recipe, num = setup.recipe, len(setup.images)
  if recipe.batch_size < 2:
    raise ValueError(
      f"{name}.batch_size is {recipe.batch_size}; self-supervised learning with"
      " BatchNorm compares the images of a batch and needs 2 or more."
    )
  steps = sampling.steps_per_epoch(num, recipe.batch_size, name)
  schedule = recipe.make_schedule(steps)
  optimizer = recipe.make_optimizer(schedule)
  metrics = ("loss", *pretext.metrics, "feature_std", "effective_rank")

  def init(state: ModelState) -> TrainState:
    params, batch_stats, extra = pretext.init(state)
    if setup.online_probe:
      linear = online_probes.init(feature_dim, len(setup.counts))
      params = params | {"online_probe": linear}
    return states.create(
      params=params,
      batch_stats=batch_stats,
      opt_state=optimizer.init(params),
      memory=state.memory[:0],
      key=key,
      metrics=metrics + (("online_accuracy",) if setup.online_probe else ()),
      extra=states.copy(extra),
    )

  def prepare(state: ModelState):
    stream = sampling.random(
      num, recipe.batch_size, seed=setup.seed, stage=name
    )
    return setup.arrays(state.head), stream

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    return pretext.finish(state, trained)

  return Stage(
    name=name,
    epochs=recipe.epochs,
    steps_per_epoch=steps,
    batch_size=recipe.batch_size,
    init=init,
    prepare=prepare,
    step=make_step(
      pretext,
      optimizer,
      steps_per_epoch=steps,
      epochs=recipe.epochs,
      online_probe=setup.online_probe,
    ),
    finish=finish,
    report=setup.report,
    schedule=schedule,
    shapes=pretext.shapes,
  )
