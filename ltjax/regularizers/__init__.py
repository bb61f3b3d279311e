"""Regularizers: what a semi-supervised method asks of unlabeled images.

Each holds a prediction near another one of the same image. They differ in where
that other one comes from: a second augmentation (`pi_model`), an average over
epochs (`temporal_ensembling`), an average of the weights (`mean_teacher`), or
the image itself, moved in the worst direction (`vat`).

A regularizer is three functions around the loss. `stages.semi_supervised` has
the step that they share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ltjax.state import ModelState, TrainState

PyTree = Any
Forward = Callable[..., tuple[jax.Array, PyTree]]


class Batch(NamedTuple):
  """What a regularizer sees of a step; B counts all images, labeled first.

  Attributes:
    index: int32 `[B]`, which images.
    view: float `[B, H, W, C]`, augmented and normalised.
    logits: fp32 `[B, C]`, what the network in training says of `view`.
    augment: `key -> float [B, H, W, C]`, another augmentation of the images.
    key: the regularizer's own random key for this step.
  """

  index: jax.Array
  view: jax.Array
  logits: jax.Array
  augment: Callable[[jax.Array], jax.Array]
  key: jax.Array


class Regularizer(NamedTuple):
  """A consistency term and what it carries from step to step.

  Attributes:
    init: `(train_state, model_state) -> train_state` before the first step,
      with the memory and the `extra` that it needs.
    penalty: `(forward, params, train_state, batch) -> (losses [B], news)`. It
      is differentiated by params; `train_state` is that before the step;
      `forward(params, batch_stats, view, train=True) -> (logits, batch_stats)`.
      `news` (a pytree) is for `update`.
    update: `(train_state, news) -> train_state` after the optimizer moved the
      parameters and the step was counted.
    result: `train_state -> (params, batch_stats)`, the network to test.
  """

  init: Callable[[TrainState, ModelState], TrainState]
  penalty: Callable[
    [Forward, PyTree, TrainState, Batch], tuple[jax.Array, PyTree]
  ]
  update: Callable[[TrainState, PyTree], TrainState]
  result: Callable[[TrainState], tuple[PyTree, PyTree]]


def nothing_to_carry(state: TrainState, start: ModelState) -> TrainState:
  """Returns the state as it is: the `init` of a regularizer without memory."""
  del start
  return state


def no_update(state: TrainState, news: PyTree) -> TrainState:
  """Returns the state as it is: the `update` that goes with it."""
  del news
  return state


def trained_network(state: TrainState) -> tuple[PyTree, PyTree]:
  """Returns the parameters that the optimizer moved, and their statistics."""
  return state.params, state.batch_stats
