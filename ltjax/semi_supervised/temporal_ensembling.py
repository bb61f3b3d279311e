"""Temporal ensembling: agree with the average of one's own past predictions.

The memory `Z [N + M, C]` holds the exponential moving average of each image's
softmax over the epochs. It is read before it is written, so the target is that
of the end of the epoch before, as in the paper.

    target = Z / (1 - alpha^t),   Z <- alpha Z + (1 - alpha) softmax(logits)

The paper counts t in epochs. Here an image can miss an epoch (the last, partial
batch) or come twice (a balanced sampler), so t is its own count of visits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ltjax.losses import consistency
from ltjax.semi_supervised import regularizer


def make(*, alpha: float = 0.6) -> regularizer.Regularizer:
  """Returns the regularizer of temporal ensembling.

  An image that was not visited yet has no target and adds nothing. One that is
  twice in a batch counts once, with the mean of its predictions. `alpha` is the
  momentum of the averages, in [0, 1); 0 compares with the last visit.

  Source: Laine & Aila (2017), "Temporal ensembling for semi-supervised
    learning", Algorithm 2; alpha of their experiments.
  """

  def penalty(forward, params, state, views):
    del forward, params
    index = views.index
    old, mass = state.memory[index], state.extra["mass"][index]
    target = old / jnp.where(mass > 0, mass, 1.0)[:, None]
    losses = consistency.mean_squared_error(target, views.logits)
    same = (index[:, None] == index[None, :]).astype(jnp.float32)
    same = same / jnp.sum(same, axis=1, keepdims=True)
    probs = jax.nn.softmax(jax.lax.stop_gradient(views.logits))
    probs = jnp.matmul(same, probs, precision=jax.lax.Precision.HIGHEST)
    memory = alpha * old + (1 - alpha) * probs
    return jnp.where(mass > 0, losses, 0.0), {"memory": memory}

  def follow(params, state, batch, outcome):
    del params, outcome
    mass = state.extra["mass"]
    visited = alpha * mass[batch.index] + (1 - alpha)
    return {"mass": mass.at[batch.index].set(visited)}

  return regularizer.Regularizer(
    penalty,
    extra=lambda state: {"mass": jnp.zeros(len(state.memory), jnp.float32)},
    memory=lambda state: jnp.zeros_like(state.memory),
    follow=follow,
  )
