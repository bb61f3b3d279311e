"""Transforms: what becomes of a batch of bytes before the network sees it.

`crop_flip` is for images that fill their square, as CIFAR's: a shift of a few
pixels and a mirror. `random_resized_crop` is for photographs: a window of any
size, rescaled, and a mirror. Testing sees the middle of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import require
from ltjax.augment import crop_flip, crops

AUGMENTS = ("crop_flip", "random_resized_crop")

Train = Callable[[jax.Array, jax.Array], jax.Array]
Test = Callable[[jax.Array], jax.Array]


def check(
  *, image_shape: tuple[int, ...], augment: str, pad: int, crop_size: int
) -> None:
  """Raises a ValueError unless settings, as of `make`, fit the images.

  Args:
    image_shape: `(H, W, C)`.
    augment, pad, crop_size: as of `make`.
  """
  size = min(image_shape[:2])
  require.choice("data.augment", augment, AUGMENTS)
  if not 0 <= pad <= size:
    raise ValueError(
      f"data.pad is {pad}; it must be 0 to {size} pixels, the size of an image."
    )
  if not 0 <= crop_size <= size:
    raise ValueError(
      f"data.crop_size is {crop_size}; it must be 1 to {size} pixels, the size"
      " of an image, or 0 for the whole image."
    )
  whole = augment == "random_resized_crop" and not crop_size
  if whole and image_shape[0] != image_shape[1]:
    raise ValueError(
      f"data.augment is {augment!r}, which makes squares, and the images are"
      f" {image_shape[0]} x {image_shape[1]}; set data.crop_size."
    )


def make(
  *,
  mean: Sequence[float],
  std: Sequence[float],
  dtype: Any = jnp.float32,
  augment: str = "crop_flip",
  pad: int = 4,
  flip: bool = True,
  crop_size: int = 0,
) -> tuple[Train, Test]:
  """Returns `(train_transform(key, images), test_transform(images))`.

  Both map uint8 `[B, H, W, C]` to normalised `dtype` of the crop size; the
  first augments each image by its own key.

  Args:
    mean, std: per channel, on the scale [0, 1].
    dtype: of the result.
    augment: one of `AUGMENTS`.
    pad: pixels of `crop_flip`'s border.
    flip: whether training flips images horizontally.
    crop_size: pixels of the result; 0 for those of the images.
  """

  def normalize(images: jax.Array) -> jax.Array:
    return crop_flip.normalize(images, mean, std, dtype)

  def test_transform(images: jax.Array) -> jax.Array:
    if crop_size:
      images = crops.center_crop(images, size=crop_size)
    return normalize(images)

  def train_transform(key: jax.Array, images: jax.Array) -> jax.Array:
    if augment == "crop_flip":
      return normalize(
        crop_flip.random_crop_flip(
          key, images, pad=pad, flip=flip, size=crop_size
        )
      )
    k_crop, k_flip = jax.random.split(key)
    images = crops.random_resized_crop(
      k_crop, images, size=crop_size or images.shape[1]
    )
    return normalize(
      crop_flip.random_crop_flip(k_flip, images, pad=0, flip=flip)
    )

  return train_transform, test_transform
