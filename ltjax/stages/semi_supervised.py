"""Semi-supervised training of `f` and its head on labels and a consistency term.

Each step draws labeled and unlabeled images; `semi_step` has the loss.

An epoch is one pass over the unlabeled images. The labeled stream has its own,
shorter or longer epochs and goes on across those of the stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import models, regularizers, sampling
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.data import host_images
from ltjax.stage import Stage
from ltjax.stages import semi_step
from ltjax.state import ModelState, TrainState


def make_stream(
  labeled: sampling.Stream,
  unlabeled: sampling.Stream,
  *,
  num_labeled: int,
  labeled_steps: int,
  steps: int,
) -> sampling.Stream:
  """Joins two streams, each of which has epochs of its own.

  Args:
    labeled: `epoch -> int32 [labeled_steps, B_l]`.
    unlabeled: `epoch -> int32 [steps, B_u]`, from 0.
    num_labeled: `N`, where the unlabeled images begin.
    labeled_steps: batches in an epoch of the labeled stream.
    steps: batches in an epoch of the stage.

  Returns:
    `epoch -> int32 [steps, B_l + B_u]`, a function of the epoch alone: batch
    `t` of the stage has the labeled batch `t`, counted over all epochs.
  """

  def stream(epoch: int) -> np.ndarray:
    begin, end = epoch * steps, (epoch + 1) * steps
    first, last = begin // labeled_steps, (end - 1) // labeled_steps
    drawn = np.concatenate([labeled(e) for e in range(first, last + 1)])
    start = begin - first * labeled_steps
    return np.concatenate(
      [drawn[start : start + steps], num_labeled + unlabeled(epoch)], axis=1
    ).astype(np.int32)

  return stream


def make(
  name: str,
  model: models.Model,
  regularizer: regularizers.Regularizer,
  *,
  images: jax.Array | host_images.HostImages,
  labels: jax.Array,
  objective: Callable[..., jax.Array],
  make_sampler: Callable[..., sampling.Stream],
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  recipe: recipes.Recipe,
  weight: float,
  rampup: float = 0.4,
  unlabeled_ratio: int = 1,
  seed: int,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> Stage:
  """Returns the stage that trains `f` and its head with all images.

  Args:
    name: the stage's name.
    model: the network.
    regularizer: the consistency term.
    images: uint8 `[N + M, H, W, C]`, the labeled images first.
    labels: int32 `[N]`.
    objective: the supervised loss, see `ltjax.objective`.
    make_sampler: `(batch_size, epochs, stage) -> Stream` over the labels, by
      keyword.
    transform: the training transform.
    recipe: epochs, labeled images in a batch and SGD settings.
    weight: of the consistency term, 0 or more.
    rampup: share of the stage over which the weight rises, in [0, 1].
    unlabeled_ratio: unlabeled images to a labeled one, 1 or more.
    seed: the run's seed, for the index streams.
    key: the stage's random key.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if a setting is out of range, there are no unlabeled images, or
      a batch is larger than its set.
  """
  num_unlabeled = len(images) - len(labels)
  _check(weight, rampup, unlabeled_ratio, num_unlabeled)
  batch_size = recipe.batch_size
  labeled_steps = sampling.steps_per_epoch(len(labels), batch_size, "semi")
  if batch_size * unlabeled_ratio > num_unlabeled:
    raise ValueError(
      f"semi.batch_size is {batch_size} with {unlabeled_ratio} unlabeled images"
      f" to a labeled one, but there are only {num_unlabeled} unlabeled images;"
      " lower semi.batch_size or semi.unlabeled_ratio, or enlarge the pool."
    )
  steps = num_unlabeled // (batch_size * unlabeled_ratio)
  stream = make_stream(
    make_sampler(
      batch_size=batch_size,
      epochs=-(-recipe.epochs * steps // labeled_steps),
      stage=name,
    ),
    sampling.random(
      num_unlabeled,
      batch_size * unlabeled_ratio,
      seed=seed,
      stage=name + "/unlabeled",
    ),
    num_labeled=len(labels),
    labeled_steps=labeled_steps,
    steps=steps,
  )
  schedule = recipe.make_schedule(steps)
  optimizer = recipe.make_optimizer(schedule)

  def init(state: ModelState) -> TrainState:
    params = {"backbone": state.backbone, "head": state.head}
    return regularizer.init(
      states.create(
        params=params,
        batch_stats=state.batch_stats,
        opt_state=optimizer.init(params),
        memory=state.memory[:0],
        key=key,
        metrics=semi_step.METRICS,
      ),
      state,
    )

  def prepare(state: ModelState):
    del state
    counts = jnp.bincount(labels, length=model.num_classes)
    arrays = {
      "images": images,
      "labels": labels,
      "counts": counts.astype(jnp.float32),
    }
    return arrays, stream

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    params, batch_stats = regularizer.result(trained)
    return state.replace(  # type: ignore[attr-defined]
      backbone=params["backbone"],
      batch_stats=batch_stats,
      head=params["head"],
      balanced_head=states.copy(params["head"]),
    )

  return Stage(
    name=name,
    epochs=recipe.epochs,
    steps_per_epoch=steps,
    batch_size=batch_size * (1 + unlabeled_ratio),
    images_per_sample=1 + unlabeled_ratio,
    init=init,
    prepare=prepare,
    step=semi_step.make(
      model,
      optimizer,
      regularizer,
      objective=objective,
      transform=transform,
      num_labeled=batch_size,
      steps_per_epoch=steps,
      epochs=recipe.epochs,
      weight=weight,
      rampup=rampup,
    ),
    finish=finish,
    report=report,
    schedule=schedule,
  )


def _check(
  weight: float, rampup: float, unlabeled_ratio: int, num_unlabeled: int
) -> None:
  if not (weight >= 0 and np.isfinite(weight)):
    raise ValueError(
      f"semi.weight is {weight}; it must be 0 or more and finite."
    )
  if not 0 <= rampup <= 1:
    raise ValueError(
      f"semi.rampup is {rampup}; it is a share of the stage, in [0, 1]."
    )
  if unlabeled_ratio < 1:
    raise ValueError(
      f"semi.unlabeled_ratio is {unlabeled_ratio}; it must be 1 or more."
    )
  if num_unlabeled == 0:
    raise ValueError(
      "There are no unlabeled images for a consistency term. Raise"
      " data.unlabeled.factor, name a pool in data.unlabeled.source, or choose"
      " --config.method=supervised, which needs none."
    )
