"""Crops of larger images: a random window, rescaled, or the middle.

For training on photographs, a window of random area and shape is rescaled to
the network's input, so that an object is seen at many sizes (*random resized
crop*, "Inception crop"); for testing, the middle is cut out.
"""

from __future__ import annotations

import functools
import math

import chex
import jax
import jax.numpy as jnp

from ltjax import require

# Names in jax.image; "cubic" is Keys' kernel with a = -1/2, as Pillow's
# BICUBIC.
INTERPOLATIONS = ("linear", "cubic")

_TRIES = 10


def random_box(
  key: jax.Array,
  *,
  height: int,
  width: int,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Draws the window of a random resized crop: int32 top, left, height, width.

  The share of the area is uniform in `scale`, the logarithm of width / height
  uniform in `log(ratio)`; the sides are rounded to pixels and the place is
  uniform. The first of ten draws that fits is taken; if none does, the largest
  centered window within `ratio`.

  Args:
    key: a key.
    height, width: pixels of the image.
    scale: least and largest share of the image's area, in (0, 1].
    ratio: least and largest width / height. Wrong ones are a ValueError.

  Source: Szegedy et al. (2015), "Going deeper with convolutions", Section 6;
    the ten draws and the fallback as in torchvision's RandomResizedCrop.
  """
  _check_ranges(scale, ratio)
  k_area, k_ratio, k_top, k_left = jax.random.split(key, 4)
  area = (height * width) * jax.random.uniform(
    k_area, (_TRIES,), minval=scale[0], maxval=scale[1]
  )
  shape = jnp.exp(
    jax.random.uniform(
      k_ratio,
      (_TRIES,),
      minval=math.log(ratio[0]),
      maxval=math.log(ratio[1]),
    )
  )
  heights = jnp.round(jnp.sqrt(area / shape)).astype(jnp.int32)
  widths = jnp.round(jnp.sqrt(area * shape)).astype(jnp.int32)
  fits = (heights >= 1) & (heights <= height) & (widths >= 1)
  fits &= widths <= width
  first, found = jnp.argmax(fits), jnp.any(fits)
  middle_height, middle_width = _largest(height, width, ratio)
  box_height = jnp.where(found, heights[first], middle_height)
  box_width = jnp.where(found, widths[first], middle_width)
  top = jax.random.randint(k_top, (), 0, height - box_height + 1)
  left = jax.random.randint(k_left, (), 0, width - box_width + 1)
  top = jnp.where(found, top, (height - box_height) // 2)
  left = jnp.where(found, left, (width - box_width) // 2)
  return jnp.stack([top, left, box_height, box_width])


def resized_window(
  image: jax.Array,
  box: jax.Array,
  *,
  size: int,
  interpolation: str = "linear",
) -> jax.Array:
  """Rescales a window of an image to a square, antialiased.

  As Pillow's `resize(size, BILINEAR, box=...)`, or BICUBIC: at the window's
  border the filter reads the pixels beyond it, where the image has them. Bytes
  are clipped and rounded, floats are neither.

  Args:
    image: `[H, W, C]`, bytes or floats.
    box: `[4]` top, left, height, width, in pixels.
    size: pixels of the result's sides.
    interpolation: "linear", or "cubic" (a = -1/2), which is sharper and may
      leave the range of the image a little. Others are a ValueError.
  """
  chex.assert_rank([image, box], [3, 1])
  require.choice("The interpolation of a crop", interpolation, INTERPOLATIONS)
  top_left, sides = box[:2].astype(jnp.float32), box[2:].astype(jnp.float32)
  zoom = size / sides
  result = jax.image.scale_and_translate(
    image.astype(jnp.float32),
    (size, size, image.shape[-1]),
    (0, 1),
    zoom,
    -top_left * zoom,
    method=interpolation,
    antialias=True,
  )
  if jnp.issubdtype(image.dtype, jnp.integer):
    result = jnp.clip(jnp.round(result), 0, 255)
  return result.astype(image.dtype)


def random_resized_crop(
  key: jax.Array,
  images: jax.Array,
  *,
  size: int,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  interpolation: str = "linear",
) -> jax.Array:
  """Cuts a random window out of each image and rescales it to a square.

  Args:
    key: one key.
    images: `[B, H, W, C]`, bytes, which are rounded, or floats.
    size, interpolation: as of `resized_window`, else a ValueError.
    scale, ratio: as of `random_box`, as are errors.

  Source: Szegedy et al. (2015), Section 6; see `random_box`.
  """
  chex.assert_rank(images, 4)
  require.at_least("The size of a crop", size, 1)
  height, width = images.shape[1:3]
  draw = functools.partial(
    random_box, height=height, width=width, scale=scale, ratio=ratio
  )
  boxes = jax.vmap(draw)(jax.random.split(key, images.shape[0]))
  cut = functools.partial(
    resized_window, size=size, interpolation=interpolation
  )
  return jax.vmap(cut)(images, boxes)


def center_crop(images: jax.Array, *, size: int) -> jax.Array:
  """Cuts the middle `[B, size, size, C]` out of images `[B, H, W, C]`.

  Larger sizes than their smaller side, or below 1, are a ValueError.
  """
  chex.assert_rank(images, 4)
  height, width = images.shape[1:3]
  if not 1 <= size <= min(height, width):
    raise ValueError(
      f"A crop of {size} pixels does not fit images of {height} x {width};"
      " it must be 1 to their smaller side."
    )
  top, left = (height - size) // 2, (width - size) // 2
  return images[:, top : top + size, left : left + size]


def _largest(
  height: int, width: int, ratio: tuple[float, float]
) -> tuple[int, int]:
  if width / height < ratio[0]:
    return min(height, round(width / ratio[0])), width
  if width / height > ratio[1]:
    return height, min(width, round(height * ratio[1]))
  return height, width


def _check_ranges(
  scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
  if not 0 < scale[0] <= scale[1] <= 1:
    raise ValueError(
      f"The scale of a crop is {tuple(scale)}; it must be two shares of the"
      " area in (0, 1], the smaller first."
    )
  if not 0 < ratio[0] <= ratio[1] < math.inf:
    raise ValueError(
      f"The ratio of a crop is {tuple(ratio)}; it must be two positive ratios"
      " width / height, the smaller first."
    )
