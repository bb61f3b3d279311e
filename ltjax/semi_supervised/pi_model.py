"""The Pi-model: two augmentations of an image should be seen alike."""

from __future__ import annotations

import jax

from ltjax.losses import consistency
from ltjax.semi_supervised import regularizer


def make() -> regularizer.Regularizer:
  """Returns the squared distance of the softmax of two augmented views.

  As in the paper's Algorithm 1 the gradient flows through both passes. The
  networks here have no dropout, so the augmentation is the only noise.

  Source: Laine & Aila (2017), "Temporal ensembling for semi-supervised
    learning", Algorithm 1.
  """

  def penalty(forward, params, state, views):
    logits, _ = forward(params, state.batch_stats, views.augment(views.key))
    return consistency.mean_squared_error(
      jax.nn.softmax(logits), views.logits
    ), {}

  return regularizer.Regularizer(penalty)
