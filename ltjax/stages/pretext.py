"""Pretext tasks: what a network is asked about images whose class is not known.

A `Pretext` is the loss of a self-supervised method with what it carries from
step to step. The rest is the same for all: batches of images, the gradient, the
watch for a *collapse* (an embedding that maps all images to one point has the
best loss of some methods, and shows in the spread and the rank of the features),
and an optional online probe, a linear classifier on the features which `f` does
not feel.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltjax import fit, monitors, sampling
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.models import projections
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
    follow: `(new params, train_state, outcome) -> extra`, after the step, such
      as a teacher that follows.
    metrics: names of the scalars of `Outcome.metrics`.
    shapes: as `fit.Stage.shapes`.
  """

  init: Callable[[ModelState], tuple[dict[str, Any], PyTree, PyTree]]
  loss: Callable[[Any, TrainState, Batch], tuple[jax.Array, Outcome]]
  finish: Callable[[ModelState, TrainState], ModelState]
  refresh: Callable[[TrainState, Batch], PyTree] = lambda state, batch: (
    state.extra
  )
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
) -> fit.Step:
  """Returns the pure step of a pretext task.

  Args:
    pretext: the task.
    optimizer: moves its params.
    steps_per_epoch: steps in an epoch.
    epochs: of the stage.
    online_probe: whether a linear classifier is trained on the features.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    `images` uint8 `[N, H, W, C]`, `labels` int32 `[N]`, `counts` float32 `[C]`
    and `head`.
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
        probe_loss, accuracy = _probe(
          params["online_probe"], outcome.features, batch.labels
        )
        metrics["online_accuracy"] = accuracy
        return loss + probe_loss, (outcome, metrics)
      return loss, (outcome, metrics)

    grads, (outcome, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
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
  *,
  feature_dim: int,
  images: jax.Array,
  labels: jax.Array,
  counts: jax.Array,
  recipe: recipes.Recipe,
  seed: int,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
  online_probe: bool = False,
) -> fit.Stage:
  """Returns the stage that trains a network on a pretext task.

  Args:
    name: the stage's name, which is also that of its config block.
    pretext: the task.
    feature_dim: F, of the network.
    images: uint8 `[N, H, W, C]`; each is drawn once an epoch.
    labels: int32 `[N]`, -1 where unknown.
    counts: float32 `[C]`, images of each class.
    recipe: epochs, batch size and optimizer.
    seed: the run's seed, for the index stream.
    key: the stage's random key.
    report: rows to write when the stage is over.
    online_probe: whether a linear classifier is trained on the features, for
      the log. It has the optimizer of the stage, and reads features of length 4
      (so that a learning rate of contrastive learning does not make it
      diverge); the gradient stops at them.

  Raises:
    ValueError: if the batch is larger than the set, or has a single image.
  """
  if recipe.batch_size < 2:
    raise ValueError(
      f"{name}.batch_size is {recipe.batch_size}; self-supervised learning with"
      " BatchNorm compares the images of a batch and needs 2 or more."
    )
  steps = sampling.steps_per_epoch(len(images), recipe.batch_size, name)
  schedule = recipe.make_schedule(steps)
  optimizer = recipe.make_optimizer(schedule)
  metrics = ("loss", *pretext.metrics, "feature_std", "effective_rank")

  def init(state: ModelState) -> TrainState:
    params, batch_stats, extra = pretext.init(state)
    if online_probe:
      linear = {
        "kernel": jnp.zeros((feature_dim, len(counts))),
        "bias": jnp.zeros(len(counts)),
      }
      params = params | {"online_probe": linear}
    return states.create(
      params=params,
      batch_stats=batch_stats,
      opt_state=optimizer.init(params),
      memory=state.memory[:0],
      key=key,
      metrics=metrics + (("online_accuracy",) if online_probe else ()),
      extra=states.copy(extra),
    )

  def prepare(state: ModelState):
    stream = sampling.random(
      len(images), recipe.batch_size, seed=seed, stage=name
    )
    arrays = {
      "images": images,
      "labels": labels,
      "counts": counts,
      "head": state.head,
    }
    return arrays, stream

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    return pretext.finish(state, trained)

  return fit.Stage(
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
      online_probe=online_probe,
    ),
    finish=finish,
    report=report,
    schedule=schedule,
    shapes=pretext.shapes,
  )


def _probe(
  params: Any, features: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the loss and the accuracy of the online probe on a batch."""
  x = 4.0 * projections.unit(jax.lax.stop_gradient(features))
  logits = x @ params["kernel"] + params["bias"][None]
  known = (labels >= 0).astype(jnp.float32)
  total = jnp.maximum(jnp.sum(known), 1.0)
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.maximum(labels, 0)
  )
  right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
  return jnp.sum(known * losses) / total, jnp.sum(known * right) / total
