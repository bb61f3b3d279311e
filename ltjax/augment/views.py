"""Views: two random looks at one image, for contrastive learning.

A view is a random window at a random size, mirrored, with other colours. What
two views of an image have in common is then, one hopes, its content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment import colors, crop_flip, crops


def contrastive(
  key: jax.Array,
  images: jax.Array,
  *,
  size: int,
  mean: Sequence[float],
  std: Sequence[float],
  flip: bool = True,
  scale: tuple[float, float] = (0.2, 1.0),
  dtype: Any = jnp.float32,
) -> jax.Array:
  """Makes a view of each image, as MoCo v2 does for small images.

  A random resized crop, a mirror image with probability one half, colour jitter
  with probability 0.8, grayscale with 0.2, and normalisation. The blur of
  MoCo v2 is left out, as is common at 32 pixels. Nothing is rounded to bytes.

  Args:
    key: one key; each image draws by its own part of it.
    images: uint8 `[B, H, W, C]`, of 3 channels or 1.
    size: pixels of the result's sides.
    mean: per channel `[C]`, on the scale [0, 1].
    std: per channel `[C]`, on the scale [0, 1].
    flip: whether to mirror.
    scale: least and largest share of the area that a window covers.
    dtype: of the result; the arithmetic is fp32.

  Returns:
    `[B, size, size, C]` of `dtype`, normalised.

  Source: Chen et al. (2020), "Improved baselines with momentum contrastive
    learning", Section 3.
  """
  chex.assert_rank(images, 4)
  chex.assert_type(images, jnp.uint8)
  k_crop, k_flip, k_jitter, k_gray = jax.random.split(key, 4)
  x = images.astype(jnp.float32) / 255
  x = crops.random_resized_crop(k_crop, x, size=size, scale=scale)
  x = crop_flip.random_crop_flip(k_flip, x, pad=0, flip=flip)
  # The resampling may leave [0, 1] by a rounding error.
  x = colors.random_jitter(k_jitter, jnp.clip(x, 0, 1))
  x = colors.random_grayscale(k_gray, x)
  shift = np.asarray(mean, np.float32)[None, None, None]
  width = np.asarray(std, np.float32)[None, None, None]
  return ((x - shift) / width).astype(dtype)


def two(
  key: jax.Array,
  images: jax.Array,
  view: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """Makes two independent views of each image.

  Args:
    key: one key.
    images: `[B, H, W, C]`.
    view: `(key, images) -> views`, such as `contrastive` with its settings.

  Returns:
    Two arrays as `view` gives them.
  """
  first, second = jax.random.split(key)
  return view(first, images), view(second, images)
