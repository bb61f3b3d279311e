"""Semi-supervised training of `f` and its head: labels and consistency.

Each step draws labeled and unlabeled images and minimizes

    L = objective(labeled) + weight * ramp(t) * mean consistency(all),

with any supervised loss and a term of `ltjax.semi_supervised.regularizer`.

Labeled and unlabeled images are two batches of BatchNorm in every pass, and the
labeled one of the first pass alone moves the running statistics (as in the code
of VAT and in USB; the Pi-model and Mean Teacher mixed them). So with a weight
of 0 the step is the supervised one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.optim import schedules
from ltjax.semi_supervised import regularizer as regularizers
from ltjax.training import step
from ltjax.training.state import ModelState, TrainState

METRICS = ("accuracy", "cross_entropy", "consistency")


def algorithm(
  model: models.Model,
  regularizer: regularizers.Regularizer,
  *,
  objective: Callable[..., jax.Array],
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  num_labeled: int,
  weight: float,
  rampup: float = 0.4,
) -> step.Algorithm:
  """Returns a supervised loss with a consistency term.

  Args:
    model: the network.
    regularizer: the consistency term.
    objective: the supervised loss, see `ltjax.losses.objective`.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    num_labeled: `B_l`; the first so many of a batch are labeled, see
      `draw.pairs`.
    weight: of the consistency term, 0 or more.
    rampup: share of the stage over which the weight rises, in [0, 1].
  """

  def forward(params, batch_stats, view, train=True):
    # Apart, so that neither changes the statistics of the other.
    _, labeled, new_stats = model.apply(
      params, batch_stats, view[:num_labeled], train
    )
    _, unlabeled, _ = model.apply(
      params, batch_stats, view[num_labeled:], train
    )
    return jnp.concatenate([labeled, unlabeled]), new_stats

  def loss(params: Any, state: TrainState, batch: step.Batch):
    view_key, own_key = jax.random.split(batch.key)
    view = transform(view_key, batch.images)
    ramp = schedules.sigmoid(state.step, length=rampup * batch.steps)
    logits, batch_stats = forward(params, state.batch_stats, view)
    labels, guesses = batch.labels[:num_labeled], logits[:num_labeled]
    supervised = objective(
      guesses,
      labels,
      counts=batch.arrays["counts"],
      epoch=batch.epoch,
      epochs=batch.epochs,
      example_weights=None,
    )
    views = regularizers.Views(
      index=batch.index,
      view=view,
      logits=logits,
      augment=lambda key: transform(key, batch.images),
      key=own_key,
    )
    losses, changes = regularizer.penalty(forward, params, state, views)
    drift = jnp.mean(losses)
    metrics = {
      "accuracy": jnp.mean(jnp.argmax(guesses, -1) == labels),
      "cross_entropy": supervised,
      "consistency": drift,
    }
    outcome = step.Outcome(batch_stats, metrics, **changes)
    return supervised + weight * ramp * drift, outcome

  def keep(state: ModelState, trained: TrainState) -> ModelState:
    params, batch_stats = regularizer.result(trained)
    tested = trained.replace(  # type: ignore[attr-defined]
      params=params, batch_stats=batch_stats
    )
    return step.keep_final(state, tested)

  return step.Algorithm(
    loss,
    METRICS,
    init=lambda state: (*step.network(state)[:2], regularizer.extra(state)),
    memory=regularizer.memory,
    follow=regularizer.follow,
    keep=keep,
    layer_decay=model.layer_decay,
  )
