"""The random views of pre-training, as `config.pretrain` and the task say.

All methods see the same ones, so that they can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.augment import views as augment
from ltjax.methods.learner import Learner


def one(
  learner: Learner, config: Any, *, boosted: bool
) -> Callable[..., jax.Array]:
  """Returns the random view of `config.pretrain`, of one image each.

  Args:
    learner: its model gives the size of a view, its task whether to mirror, and
      the normalisation.
    config: its block `pretrain` has the strengths.
    boosted: whether RandAugment follows, by an image's strength.

  Returns:
    `(key, uint8 [B, H, W, C]) -> [B, S, S, C]`; boosted,
    `(key, images, strength [B])`.
  """
  block = config.pretrain
  settings = {
    "size": learner.model.image_shape[0],
    "mean": learner.task.mean,
    "std": learner.task.std,
    "flip": learner.task.flip,
    "scale": tuple(block.crop_scale),
    "interpolation": block.interpolation,
    "jitter": tuple(block.jitter),
    "grayscale": block.grayscale,
    "blur": block.blur,
    "dtype": jnp.dtype(config.model.dtype),
  }
  if boosted:
    return functools.partial(
      augment.boosted, num_ops=block.boost_ops, **settings
    )
  return functools.partial(augment.contrastive, **settings)


def two(
  learner: Learner, config: Any, *, boosted: bool = False
) -> Callable[..., Any]:
  """Returns what makes two random views of each image, see `one`.

  Args:
    learner: as for `one`.
    config: as for `one`.
    boosted: as for `one`.
  """
  return functools.partial(
    augment.two, view=one(learner, config, boosted=boosted)
  )
