"""The random views of pre-training, as `config.pretrain` and the task say.

All methods see the same ones, so that they can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.augment import views as augment
from ltjax.methods.learner import Learner
from ltjax.self_supervised import pretext
from ltjax.settings.fields import setting

_setting = functools.partial(
  setting, size=True, when={"name": pretext.OF_VIEWS}
)


@dataclasses.dataclass(frozen=True)
class Settings:
  """The strengths of random views: of the block `pretrain`."""

  crop_scale: tuple[float, ...] = _setting(
    (0.2, 1.0), "least and largest share of the area"
  )
  interpolation: str = _setting(
    "linear", "or cubic", choices=("linear", "cubic")
  )
  jitter: tuple[float, ...] = _setting(
    (0.4, 0.4, 0.4, 0.1), "brightness, contrast, saturation, hue"
  )
  grayscale: float = _setting(0.2, "probability", least=0, most=1)
  blur: float = _setting(0.0, "probability", least=0, most=1)


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
