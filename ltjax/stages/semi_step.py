"""The training step that all semi-supervised methods share.

It minimizes

    L = objective(labeled) + weight * ramp(t) * mean consistency(all),

where the objective is any supervised loss and the consistency term is one of
`ltjax.regularizers`. The mean is over the labeled and the unlabeled images of
the batch.

BatchNorm: labeled and unlabeled images are two batches in every pass, each
normalised by its own statistics, and the labeled one of the first pass alone
moves the running statistics (as in the code of VAT and in USB; the Pi-model and
Mean Teacher mixed them). So with a weight of 0 the step is the supervised one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax import models, ramps, regularizers
from ltjax import state as states
from ltjax.stage import Step
from ltjax.state import TrainState

METRICS = ("loss", "accuracy", "cross_entropy", "consistency")


def make(
  model: models.Model,
  optimizer: optax.GradientTransformation,
  regularizer: regularizers.Regularizer,
  *,
  objective: Callable[..., jax.Array],
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  num_labeled: int,
  steps_per_epoch: int,
  epochs: int,
  weight: float,
  rampup: float,
) -> Step:
  """Returns the pure step of a supervised loss with a consistency term.

  Args:
    model: the network.
    optimizer: moves `{"backbone", "head"}`.
    regularizer: the consistency term.
    objective: the supervised loss, see `ltjax.objective`.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    num_labeled: `B_l`; the first so many of a batch are labeled.
    steps_per_epoch: when the epoch's metrics start anew.
    epochs: of the stage.
    weight: of the consistency term.
    rampup: share of the stage over which the weight rises.

  Returns:
    `(train_state, index [B_l + B_u] int32, arrays) -> train_state`, where arrays
    holds `images` uint8 `[N + M, H, W, C]`, `labels` int32 `[N]` and `counts`
    float32 `[C]`, the images of each class.
  """
  length = rampup * epochs * steps_per_epoch

  def forward(params, batch_stats, view, train=True):
    # Apart, so that neither changes the statistics of the other.
    _, labeled, new_stats = model.apply(
      params, batch_stats, view[:num_labeled], train
    )
    _, unlabeled, _ = model.apply(
      params, batch_stats, view[num_labeled:], train
    )
    return jnp.concatenate([labeled, unlabeled]), new_stats

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    key = jax.random.fold_in(state.key, state.step)
    view_key, own_key = jax.random.split(key)
    images = arrays["images"][index]
    view = transform(view_key, images)
    labels = arrays["labels"][index[:num_labeled]]
    ramp = ramps.sigmoid(state.step, length=length)

    def loss_fn(params):
      logits, batch_stats = forward(params, state.batch_stats, view)
      batch = regularizers.Batch(
        index=index,
        view=view,
        logits=logits,
        augment=lambda key: transform(key, images),
        key=own_key,
      )
      supervised = objective(
        logits[:num_labeled],
        labels,
        counts=arrays["counts"],
        epoch=state.step // steps_per_epoch,
        epochs=epochs,
        example_weights=None,
      )
      losses, news = regularizer.penalty(forward, params, state, batch)
      drift = jnp.mean(losses)
      loss = supervised + weight * ramp * drift
      return loss, (logits, batch_stats, supervised, drift, news)

    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    logits, batch_stats, supervised, drift, news = aux
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    guesses = jnp.argmax(logits[:num_labeled], -1)
    after = states.advance(
      state,
      {
        "loss": loss,
        "accuracy": jnp.mean(guesses == labels),
        "cross_entropy": supervised,
        "consistency": drift,
      },
      steps_per_epoch=steps_per_epoch,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
    )
    return regularizer.update(after, news)

  return step
