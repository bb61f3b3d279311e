"""Small shifts and mirrors, and the normalisation that ends every transform."""

from __future__ import annotations

from collections.abc import Sequence
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax import require

PAD_MODES = ("zero", "reflect")


def normalize(
  images: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
  dtype: Any = jnp.float32,
) -> jax.Array:
  """Maps bytes to standardised floats: `(images / 255 - mean) / std`.

  Args:
    images: uint8 `[B, H, W, C]`.
    mean, std: Per channel `[C]`, on [0, 1]; std is positive, else a ValueError.
    dtype: Of the result; the arithmetic is fp32.
  """
  chex.assert_rank(images, 4)
  chex.assert_type(images, jnp.uint8)
  channels = images.shape[-1]
  mean_c, std_c = np.asarray(mean, np.float64), np.asarray(std, np.float64)
  if mean_c.shape != (channels,) or std_c.shape != (channels,):
    raise ValueError(
      f"Images of {channels} channels need {channels} means and standard "
      f"deviations, not mean {tuple(mean)} and std {tuple(std)}."
    )
  if not (np.isfinite(mean_c).all() and (std_c > 0).all()):
    raise ValueError(
      f"Normalisation needs finite means and standard deviations above 0, not "
      f"mean {tuple(mean)} and std {tuple(std)}."
    )
  # One multiply and one add a pixel, their constants rounded once.
  scale = (1 / (255 * std_c)).astype(np.float32)[None, None, None]
  shift = (-mean_c / std_c).astype(np.float32)[None, None, None]
  return (images.astype(jnp.float32) * scale + shift).astype(dtype)


def random_crop_flip(
  key: jax.Array,
  images: jax.Array,
  *,
  pad: int = 4,
  flip: bool = True,
  size: int = 0,
  pad_mode: str = "zero",
) -> jax.Array:
  """Shifts each image by up to `pad` pixels and mirrors every second one.

  The image is padded on all sides and a window of its own size cut at one of
  `(2 pad + 1)^2` equally likely offsets; then it is mirrored left to right with
  probability one half. A window may also be smaller.

  Args:
    key: One key.
    images: `[B, H, W, C]`, any dtype.
    pad: Pixels, 0 for no crop. Negative or too few for `size`: a ValueError.
    flip: Whether to mirror; not where that is another thing, such as digits.
    size: Pixels of the window's sides; 0 for those of the images.
    pad_mode: One of `PAD_MODES`, else a ValueError: with black, or with the
      image mirrored, its outermost pixels not repeated; then `pad` is below the
      smaller side, else a ValueError.

  Source: Lee et al. (2015), "Deeply-supervised nets", as used by He et al.
    (2016) on CIFAR.
  """
  chex.assert_rank(images, 4)
  if pad < 0:
    raise ValueError(f"Padding must be 0 pixels or more, not {pad}.")
  sides = images.shape[1:3]
  require.choice("pad_mode", pad_mode, PAD_MODES)
  if pad_mode == "reflect" and pad >= min(sides):
    raise ValueError(
      f"Images of {sides[0]} x {sides[1]} cannot be mirrored to {pad} pixels of"
      " padding; it must be below the smaller side."
    )
  if not 0 <= size <= min(sides) + 2 * pad:
    raise ValueError(
      f"A window of {size} pixels does not fit images of {sides[0]} x"
      f" {sides[1]} with {pad} pixels of padding."
    )
  if pad == 0 and not flip and (not size or sides == (size, size)):
    return images
  keys = jax.random.split(key, images.shape[0])
  one = functools.partial(
    _crop_flip, pad=pad, flip=flip, size=size, pad_mode=pad_mode
  )
  return jax.vmap(one)(keys, images)


def _crop_flip(
  key: jax.Array,
  image: jax.Array,
  *,
  pad: int,
  flip: bool,
  size: int = 0,
  pad_mode: str = "zero",
) -> jax.Array:
  k_crop, k_flip = jax.random.split(key)
  height, width = (size, size) if size else image.shape[:2]
  if pad or (height, width) != image.shape[:2]:
    border = ((pad, pad), (pad, pad), (0, 0))
    image = jnp.pad(
      image, border, "constant" if pad_mode == "zero" else pad_mode
    )
    places = (image.shape[0] - height + 1, image.shape[1] - width + 1)
    row, column = jax.random.randint(k_crop, (2,), 0, np.array(places))
    image = jax.lax.dynamic_slice(
      image, (row, column, 0), (height, width, image.shape[2])
    )
  if flip:
    mirror = jax.random.bernoulli(k_flip)
    image = jnp.where(mirror, image[:, ::-1], image)
  return image
