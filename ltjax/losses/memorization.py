"""Memorization: how hard each image is, from the history of its losses.

A network learns the images of frequent kinds first: one whose contrastive loss
stays high is likely rare. Boosted contrastive learning keeps a moving average
of each image's loss, and augments images with a high one more strongly.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

# Of an image that has had no loss yet; losses are 0 or more.
UNSEEN = -1.0


def start(num_images: int) -> jax.Array:
  """The memory before the first step, fp32 `[N]`: no image has been seen.

  Example:
    >>> memorization.start(3)
    Array([-1., -1., -1.], dtype=float32)
  """
  return jnp.full(num_images, UNSEEN, jnp.float32)


def update(
  memory: jax.Array,
  losses: jax.Array,
  index: jax.Array,
  *,
  decay: float,
  first: bool | jax.Array,
) -> jax.Array:
  """Moves the averages of a batch: `decay * L + (1 - decay) * l`.

  Args:
    memory: L, fp32 `[N]`, as from `start`.
    losses: l, `[B]`, float, 0 or more: one an image, the mean of its two views.
    index: integer `[B]`, in [0, N): the images of the batch. Of one that is
      there twice, one of the losses counts.
    decay: in [0, 1), 0.97 in the published code; others are a ValueError.
    first: bool `[]`: whether this is the first epoch, when each image takes its
      loss as it is. An image not seen before does so at any time.

  Example:
    >>> losses, index = jnp.array([2.0, 1.0]), jnp.array([2, 0])
    >>> memory = memorization.start(3)
    >>> memorization.update(memory, losses, index, decay=0.97, first=True)
    Array([ 1., -1.,  2.], dtype=float32)

  Source: Zhou et al. (2022), "Contrastive learning with boosted memorization"
    (BCL).
  """
  if not 0 <= decay < 1:
    raise ValueError(
      f"decay is {decay}; that of the memory of losses must be in [0, 1), such"
      " as 0.97."
    )
  chex.assert_rank([memory, losses, index], 1)
  chex.assert_equal_shape([losses, index])
  chex.assert_type([memory, losses, index], [float, float, int])
  losses = jax.lax.stop_gradient(losses.astype(jnp.float32))
  old = memory[index]
  moved = decay * old + (1.0 - decay) * losses
  fresh = jnp.where(first | (old < 0), losses, moved)
  return memory.at[index].set(fresh)


def strengths(memory: jax.Array) -> jax.Array:
  """How strongly to augment each image, from its average loss.

  `M = 1/2 + (L - mean L) / (2 max |L - mean L|)`, fp32 `[N]`, in [0, 1]

  Mean and maximum are over the images seen; others get 0. Where all losses are
  equal each image, being average, has 1/2; the published formula gives 0 / 0.

  Args:
    memory: L, fp32 `[N]`.

  Example:
    >>> memorization.strengths(jnp.array([1.0, 2.0, 3.0, -1.0]))
    Array([0. , 0.5, 1. , 0. ], dtype=float32)

  Source: Zhou et al. (2022) and their code.
  """
  chex.assert_rank(memory, 1)
  chex.assert_type(memory, float)
  memory = memory.astype(jnp.float32)
  seen = memory >= 0
  total = jnp.sum(jnp.where(seen, memory, 0.0))
  mean = total / jnp.maximum(jnp.sum(seen), 1).astype(jnp.float32)
  away = jnp.where(seen, memory - mean, 0.0)
  farthest = jnp.max(jnp.abs(away))
  # What rounding leaves of equal losses is no distance.
  equal = farthest <= 1e-6 * mean
  away = jnp.where(equal, 0.0, away / jnp.where(equal, 1.0, farthest))
  return jnp.where(seen, 0.5 + 0.5 * away, 0.0)
