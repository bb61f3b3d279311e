"""Embedding training: `f` and `g'` together, with random sampling.

The first half of the decoupling of Kang et al.: a plain supervised network on
the labeled images. Its head `g'` favours the head classes; its embedding does
not suffer from that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax import fit, models, sampling
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.losses import classification
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy")


def make_step(
  model: models.Model,
  optimizer: optax.GradientTransformation,
  *,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  steps_per_epoch: int,
) -> fit.Step:
  """Returns the pure step that minimizes cross-entropy over `f` and `g'`.

  Args:
    model: the network.
    optimizer: moves `{"backbone", "head"}`.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    steps_per_epoch: when the epoch's metrics start anew.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    `images` uint8 `[N, H, W, C]` and `labels` int32 `[N]`.
  """

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    key = jax.random.fold_in(state.key, state.step)
    images = transform(key, arrays["images"][index])
    labels = arrays["labels"][index]

    def loss_fn(params):
      _, logits, batch_stats = model.apply(
        params, state.batch_stats, images, True
      )
      losses = classification.cross_entropy(logits, labels)
      return jnp.mean(losses), (logits, batch_stats)

    (loss, (logits, batch_stats)), grads = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return states.advance(
      state,
      {"loss": loss, "accuracy": jnp.mean(jnp.argmax(logits, -1) == labels)},
      steps_per_epoch=steps_per_epoch,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
    )

  return step


def make(
  name: str,
  model: models.Model,
  *,
  images: jax.Array,
  labels: jax.Array,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  recipe: recipes.Recipe,
  seed: int,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> fit.Stage:
  """Returns the stage that trains `f` and `g'` on the labeled images.

  Args:
    name: the stage's name.
    model: the network.
    images: uint8 `[N', H, W, C]`, the labeled images first.
    labels: int32 `[N]`, of the labeled images.
    transform: the training transform.
    recipe: epochs, batch size and SGD settings.
    seed: the run's seed, for the index stream.
    key: the stage's random key, for the augmentation.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if the batch is larger than the labeled set.

  Source: Liu et al., Section 3.3; Kang et al. (2020).
  """
  steps = sampling.steps_per_epoch(len(labels), recipe.batch_size, name)
  schedule = recipe.make_schedule(steps)
  optimizer = recipe.make_optimizer(schedule)

  def init(state: ModelState) -> TrainState:
    params = {"backbone": state.backbone, "head": state.head}
    return states.create(
      params=params,
      batch_stats=state.batch_stats,
      opt_state=optimizer.init(params),
      memory=state.memory[:0],
      key=key,
      metrics=METRICS,
    )

  def prepare(state: ModelState):
    del state
    stream = sampling.random(
      len(labels), recipe.batch_size, seed=seed, stage=name
    )
    return {"images": images, "labels": labels}, stream

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    return state.replace(  # type: ignore[attr-defined]
      backbone=trained.params["backbone"],
      head=trained.params["head"],
      batch_stats=trained.batch_stats,
    )

  return fit.Stage(
    name=name,
    epochs=recipe.epochs,
    steps_per_epoch=steps,
    batch_size=recipe.batch_size,
    init=init,
    prepare=prepare,
    step=make_step(
      model, optimizer, transform=transform, steps_per_epoch=steps
    ),
    finish=finish,
    report=report,
    schedule=schedule,
  )
