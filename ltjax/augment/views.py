"""Views: two random looks at one image, for contrastive learning.

A view is a random window at a random size, mirrored, with other colours. A
boosted view is changed further by RandAugment, each image by its own strength.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax import require
from ltjax.augment import blur as blurring
from ltjax.augment import colors, crop_flip, crops, randaugment


def contrastive(
  key: jax.Array,
  images: jax.Array,
  *,
  size: int,
  mean: Sequence[float],
  std: Sequence[float],
  flip: bool = True,
  scale: tuple[float, float] = (0.2, 1.0),
  interpolation: str = "linear",
  jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
  grayscale: float = 0.2,
  blur: float = 0.0,
  dtype: Any = jnp.float32,
) -> jax.Array:
  """Makes a view of each image; by default as MoCo v2 does for small images.

  A random resized crop, a mirror image with probability one half, colour jitter
  with probability 0.8, grayscale, blur and normalisation. The blur of MoCo v2
  and SimCLR is off by default, as is common at 32 pixels. Nothing is rounded to
  bytes. Settings out of range are a ValueError, as are smaller images.

  Args:
    key: one key.
    images: uint8 `[B, H, W, C]`, of 3 channels or 1.
    size: pixels of the result's sides, at most those of the images.
    mean, std: per channel `[C]`, on the scale [0, 1].
    flip: whether to mirror.
    scale: least and largest share of the area that a window covers, in (0, 1].
    interpolation: "linear" or "cubic", of the window; what cubic leaves of
      [0, 1] is clipped.
    jitter: strengths of brightness, contrast, saturation and hue, see
      `colors.random_jitter`.
    grayscale: probability, in [0, 1].
    blur: probability of Gaussian blur, in [0, 1].
    dtype: of the result; the arithmetic is fp32.

  Source: Chen et al. (2020), "Improved baselines with momentum contrastive
    learning", Section 3; the order as in SimCLR.
  """
  x = _look(
    key,
    images,
    size=size,
    flip=flip,
    scale=scale,
    interpolation=interpolation,
    jitter=jitter,
    grayscale=grayscale,
    blur=blur,
  )
  return _normalize(x, mean, std, dtype)


def boosted(
  key: jax.Array,
  images: jax.Array,
  strength: jax.Array,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  num_ops: int = 1,
  dtype: Any = jnp.float32,
  **settings: Any,
) -> jax.Array:
  """Makes a view of each image and changes it by RandAugment.

  RandAugment comes after all else but the normalisation. Strength 0 gives the
  view that `contrastive` makes with the same key and settings.

  Args:
    key, images, mean, std, dtype: as of `contrastive`.
    strength: M, `[B]` in [0, 1]; see `randaugment.random_augment`.
    num_ops: operations drawn for each view, 1 or more, else a ValueError.
    **settings: `size`, and what else `contrastive` takes.

  Source: Zhou et al. (2022), "Contrastive learning with boosted memorization",
    Section 3.3.
  """
  x = _look(key, images, **settings)
  x = randaugment.random_augment(
    jax.random.fold_in(key, _BOOST), x, strength, num_ops=num_ops
  )
  return _normalize(x, mean, std, dtype)


def two(
  key: jax.Array,
  images: jax.Array,
  *strength: jax.Array,
  view: Callable[..., jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """Makes two independent views of each image, arrays as `view` gives them.

  Args:
    key: one key.
    images: `[B, H, W, C]`.
    *strength: what else the view depends on, the same for both: nothing, or for
      `boosted` the strength `[B]` in [0, 1].
    view: `(key, images, *strength) -> views`, such as `contrastive` or
      `boosted` with its settings.
  """
  first, second = jax.random.split(key)
  return view(first, images, *strength), view(second, images, *strength)


# Parts of a view's key beside the four of its crop, mirror, jitter and gray.
_BLUR, _BOOST = 4, 5


def _look(
  key: jax.Array,
  images: jax.Array,
  *,
  size: int,
  flip: bool = True,
  scale: tuple[float, float] = (0.2, 1.0),
  interpolation: str = "linear",
  jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1),
  grayscale: float = 0.2,
  blur: float = 0.0,
) -> jax.Array:
  """Returns float `[B, size, size, C]` in [0, 1]: all but the normalisation."""
  chex.assert_rank(images, 4)
  chex.assert_type(images, jnp.uint8)
  if size > min(images.shape[1:3]):
    raise ValueError(
      f"Views of {size} pixels are larger than the images of"
      f" {images.shape[1]} x {images.shape[2]}; the size of a view must be at"
      " most their smaller side."
    )
  require.within("The probability of blur", blur, "[0, 1]")
  if len(jitter) != 4:
    raise ValueError(
      f"jitter is {tuple(jitter)}; it must be four strengths: brightness,"
      " contrast, saturation and hue."
    )
  k_crop, k_flip, k_jitter, k_gray = jax.random.split(key, 4)
  x = images.astype(jnp.float32) / 255
  x = crops.random_resized_crop(
    k_crop, x, size=size, scale=scale, interpolation=interpolation
  )
  x = crop_flip.random_crop_flip(k_flip, x, pad=0, flip=flip)
  # The resampling may leave [0, 1], if only by a rounding error.
  x = jnp.clip(x, 0, 1)
  x = colors.random_jitter(
    k_jitter,
    x,
    brightness=jitter[0],
    contrast=jitter[1],
    saturation=jitter[2],
    hue=jitter[3],
  )
  x = colors.random_grayscale(k_gray, x, probability=grayscale)
  if blur:
    k_blur = jax.random.fold_in(key, _BLUR)
    x = blurring.random_blur(k_blur, x, probability=blur)
  return x


def _normalize(
  x: jax.Array, mean: Sequence[float], std: Sequence[float], dtype: Any
) -> jax.Array:
  shift = np.asarray(mean, np.float32)[None, None, None]
  width = np.asarray(std, np.float32)[None, None, None]
  return ((x - shift) / width).astype(dtype)
