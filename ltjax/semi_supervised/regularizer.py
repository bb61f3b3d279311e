"""Regularizers: what a semi-supervised method asks of unlabeled images.

Each holds a prediction near another one of the same image: that of a second
augmentation (`pi_model`), an average over epochs (`temporal_ensembling`) or of
the weights (`mean_teacher`), or that of the image itself, moved in the worst
direction (`vat`). `stage` has the loss that they share.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax

from ltjax.training import step
from ltjax.training.state import ModelState, TrainState

PyTree = Any
Forward = Callable[..., tuple[jax.Array, PyTree]]


class Views(NamedTuple):
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


@dataclasses.dataclass(frozen=True)
class Regularizer:
  """A consistency term and what it carries from step to step.

  Attributes:
    penalty: `(forward, params, train_state, views) -> (losses [B], changes)`.
      It is differentiated by params; `train_state` is that before the step;
      `forward(params, batch_stats, view, train=True) -> (logits, batch_stats)`.
      `changes` are fields of the step's `Outcome`: `memory` or `found`.
    extra: `model_state -> extra` before the first step.
    memory: as `step.Algorithm.memory`.
    follow: as `step.Algorithm.follow`.
    result: `train_state -> (params, batch_stats)`, the network to test.
  """

  penalty: Callable[
    [Forward, PyTree, TrainState, Views], tuple[jax.Array, dict[str, Any]]
  ]
  extra: Callable[[ModelState], PyTree] = lambda state: {}
  memory: Callable[[ModelState], jax.Array] = step.Algorithm.memory
  follow: Callable[[PyTree, TrainState, step.Batch, step.Outcome], PyTree] = (
    step.Algorithm.follow
  )
  result: Callable[[TrainState], tuple[PyTree, PyTree]] = lambda state: (
    state.params,
    state.batch_stats,
  )
