"""Transforms: what becomes of a batch of bytes before the network sees it.

`crop_flip` is for images that fill their square, as CIFAR's: a shift of a few
pixels and a mirror. `random_resized_crop` is for photographs: a window of any
size, rescaled, and a mirror. Testing sees the middle of the image. A strong
transform changes the cut further, by a policy and by Cutout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import require
from ltjax.augment import crop_flip, crops, operations, policies

AUGMENTS = ("crop_flip", "random_resized_crop")

Train = Callable[[jax.Array, jax.Array], jax.Array]
Test = Callable[[jax.Array], jax.Array]

_GRAY = (127, 127, 127)  # of Cutout, before the normalisation


def check(
  *,
  image_shape: tuple[int, ...],
  augment: str,
  pad: int,
  crop_size: int,
  pad_mode: str = "zero",
) -> None:
  """Raises a ValueError unless settings, as of `make`, fit the images.

  Args:
    image_shape: `(H, W, C)`.
    augment, pad, crop_size, pad_mode: as of `make`.
  """
  size = min(image_shape[:2])
  require.choice("data.augment", augment, AUGMENTS)
  if not 0 <= pad <= size:
    raise ValueError(
      f"data.pad is {pad}; it must be 0 to {size} pixels, the size of an image."
    )
  require.choice("data.pad_mode", pad_mode, crop_flip.PAD_MODES)
  if pad_mode == "reflect" and pad == size:
    raise ValueError(
      f"data.pad is {pad}; data.pad_mode is 'reflect', which mirrors at most"
      f" {size - 1} of {size} pixels."
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
  pad_mode: str = "zero",
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
    pad_mode: what the border shows, one of `crop_flip.PAD_MODES`.
  """
  cut = _cut(augment, pad, flip, crop_size, pad_mode)

  def normalize(images: jax.Array) -> jax.Array:
    return crop_flip.normalize(images, mean, std, dtype)

  def test_transform(images: jax.Array) -> jax.Array:
    if crop_size:
      images = crops.center_crop(images, size=crop_size)
    return normalize(images)

  def train_transform(key: jax.Array, images: jax.Array) -> jax.Array:
    return normalize(cut(key, images))

  return train_transform, test_transform


def strong(
  policy: str,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  dtype: Any = jnp.float32,
  augment: str = "crop_flip",
  pad: int = 4,
  flip: bool = True,
  crop_size: int = 0,
  pad_mode: str = "zero",
) -> Train:
  """Returns a `train_transform` that changes images beyond their cut.

  The cut of `make`, then a policy, then a gray square of half the smaller side
  at a random place (Cutout), then normalisation; all by each image's own key.

  Args:
    policy: one of `policies.NAMES`, else a ValueError.
    mean, std: per channel, of 3 or 1, else a ValueError.
    dtype, augment, pad, flip, crop_size, pad_mode: as of `make`.

  Source: Sohn et al. (2020), "FixMatch", Section 2.3; DeVries and Taylor
    (2017), "Improved regularization of convolutional neural networks with
    Cutout".
  """
  require.choice("policy", policy, policies.NAMES)
  if len(mean) not in (1, 3):
    raise ValueError(
      f"The images have {len(mean)} channels; strong augmentation is for 3"
      " (red, green, blue) or 1 (gray)."
    )
  cut = _cut(augment, pad, flip, crop_size, pad_mode)

  def train_transform(key: jax.Array, images: jax.Array) -> jax.Array:
    k_cut, k_policy, k_square = jax.random.split(key, 3)
    images = cut(k_cut, images)
    batch, height, width, _ = images.shape
    plan = policies.make(policy, height=height, width=width)
    images = policies.random_changes(k_policy, images, plan)
    centers = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(
      jax.random.split(k_square, batch)
    )
    share = jnp.full(batch, min(height, width) // 2 / width)
    images = operations.cutout(images, share, centers, _GRAY)
    return crop_flip.normalize(images, mean, std, dtype)

  return train_transform


def _cut(
  augment: str, pad: int, flip: bool, crop_size: int, pad_mode: str
) -> Train:
  """Returns `(key, images) -> images`, bytes: a window of each, mirrored."""
  if augment == "crop_flip":
    return functools.partial(
      crop_flip.random_crop_flip,
      pad=pad,
      flip=flip,
      size=crop_size,
      pad_mode=pad_mode,
    )

  def resized(key: jax.Array, images: jax.Array) -> jax.Array:
    k_crop, k_flip = jax.random.split(key)
    images = crops.random_resized_crop(
      k_crop, images, size=crop_size or images.shape[1]
    )
    return crop_flip.random_crop_flip(k_flip, images, pad=0, flip=flip)

  return resized
