"""The fifteen operations of RandAugment, a batch at a time.

Each image has its own operation, which is one of four kinds:

1. a table of 256 bytes (AutoContrast, Invert, Equalize, Solarize, Posterize,
   Contrast, Brightness),
2. a blend with another picture (Color: its grays; Sharpness: it, smoothed),
3. an affine warp (ShearX, ShearY, TranslateX, TranslateY, Rotate),
4. a filled square (Cutout).

Everything is as Pillow does it with bytes. Color does not change gray images.
All kinds start from the images as they came, so that XLA has no chain of passes
to fuse, in which each would be computed for every pixel that reads it.
"""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment import affine, color_tables

# Name and range: what magnitudes 0 and 30 mean.
RANGES = {
  "ShearX": (0.0, 0.6),
  "ShearY": (0.0, 0.6),
  "TranslateX": (0.0, 0.66),  # of the width
  "TranslateY": (0.0, 0.66),  # of the height
  "Rotate": (0.0, 60.0),  # degrees
  "AutoContrast": (0.0, 1.0),
  "Invert": (0.0, 1.0),
  "Equalize": (0.0, 1.0),
  "Solarize": (0.0, 110.0),  # threshold
  "Posterize": (4.0, 8.0),  # bits
  "Contrast": (0.1, 1.9),  # factor, as in the next three
  "Color": (0.1, 1.9),
  "Brightness": (0.1, 1.9),
  "Sharpness": (0.1, 1.9),
  "Cutout": (0.0, 0.4),  # of the width
}
NAMES = tuple(RANGES)
# Those of which half are done with the negative value.
SIGNED = NAMES[:5]
TABLES = NAMES[5:11] + ("Brightness",)

_PHOTOGRAPHS = (125, 123, 114)  # their mean colour


def apply(
  images: jax.Array,
  operations: jax.Array,
  values: jax.Array,
  centers: jax.Array | None = None,
  *,
  fill: int = 0,
) -> jax.Array:
  """Applies to each image its own operation.

  Args:
    images: uint8 `[B, H, W, C]`, of 3 channels or 1, else a ValueError.
    operations: int32 `[B]`, places in `NAMES`; -1 does nothing.
    values: float32 `[B]`, as in `RANGES`, or its negative for `SIGNED`.
    centers: float32 `[B, 2]`, as of `cutout`; None if no image is cut out.
    fill: what warps show outside of the image, 0 to 255 in all channels.
  """
  chex.assert_rank(images, 4)
  chex.assert_type(images, jnp.uint8)
  batch = images.shape[0]
  chex.assert_shape([operations, values], (batch,))
  if images.shape[-1] not in (1, 3):
    raise ValueError(
      "Images must have 3 channels (red, green, blue) or 1 (gray), not"
      f" {images.shape[-1]}."
    )
  changed = color_tables.lookup(images, _tables(images, operations, values))
  sharpness, color = _is(operations, "Sharpness"), _is(operations, "Color")
  other = jnp.where(sharpness, _smooth(images), color_tables.gray(images))
  blended = color_tables.blend(other, images, values[:, None, None, None])
  changed = jnp.where(sharpness | color, blended, changed)
  matrices = _matrices(images, operations, values)
  warped = affine.warp(images, matrices, fill=fill)
  changed = jnp.where(_among(operations, SIGNED), warped, changed)
  if centers is None:
    return changed
  hidden = cutout(images, values, centers)
  return jnp.where(_is(operations, "Cutout"), hidden, changed)


def cutout(
  images: jax.Array,
  shares: jax.Array,
  centers: jax.Array,
  color: tuple[int, int, int] = _PHOTOGRAPHS,
) -> jax.Array:
  """Hides a square of each image.

  From `max(0, center - side / 2)`, rounded down, to `side` pixels on, both ends
  in it: a square of `side + 1` pixels that is moved into the image at its upper
  and left border, and cut off at its lower and right.

  Args:
    images: uint8 `[B, H, W, C]`, of 3 channels or 1.
    shares: float32 `[B]`, the side as a share of the width.
    centers: float32 `[B, 2]`: row and column, as shares in [0, 1).
    color: red, green and blue, of which a gray image gets the gray.
  """
  batch, height, width, channels = images.shape
  chex.assert_shape(shares, (batch,))
  chex.assert_shape(centers, (batch, 2))
  side = shares * width
  inside = []
  for axis, length in enumerate((height, width)):
    first = jnp.floor(jnp.maximum(0, centers[:, axis] * length - side / 2))
    last = jnp.floor(first + side)
    place = jnp.arange(length, dtype=jnp.float32)[None]
    inside.append((place >= first[:, None]) & (place <= last[:, None]))
  hidden = inside[0][:, :, None] & inside[1][:, None, :]
  fill = jnp.array(color, jnp.uint8)[None, None, None]
  if channels == 1:
    fill = color_tables.gray(fill).astype(jnp.uint8)
  return jnp.where(hidden[..., None], fill, images)


def _is(operations: jax.Array, name: str) -> jax.Array:
  """Returns bool `[B, 1, 1, 1]`."""
  return (operations == NAMES.index(name))[:, None, None, None]


def _among(operations: jax.Array, names: tuple[str, ...]) -> jax.Array:
  """Returns bool `[B, 1, 1, 1]`."""
  return functools.reduce(jnp.logical_or, [_is(operations, n) for n in names])


def _tables(
  images: jax.Array, operations: jax.Array, values: jax.Array
) -> jax.Array:
  plain = color_tables.identity(images)

  def made() -> jax.Array:
    counts = color_tables.histograms(images)
    found = {
      "AutoContrast": color_tables.auto_contrast(counts),
      "Invert": color_tables.invert(images),
      "Equalize": color_tables.equalize(counts),
      "Solarize": color_tables.solarize(images, values),
      "Posterize": color_tables.posterize(images, values),
      "Contrast": color_tables.contrast(images, values),
      "Brightness": color_tables.brightness(images, values),
    }
    tables = plain
    for name, table in found.items():
      tables = jnp.where(_is(operations, name)[..., 0], table, tables)
    return tables

  # What a branch returns is stored; else XLA makes a table for every pixel.
  return jax.lax.cond(jnp.any(_among(operations, TABLES)), made, lambda: plain)


def _smooth(images: jax.Array) -> jax.Array:
  """Rounds the mean over 3 x 3 pixels, the middle fivefold; borders stay."""
  x = images.astype(jnp.int32)
  height, width = x.shape[1:3]
  if min(height, width) < 3:
    return x
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  total = 4 * x
  for row in range(3):
    for column in range(3):
      total += padded[:, row : height + row, column : width + column]
  inner = np.zeros((1, height, width, 1), bool)
  inner[:, 1:-1, 1:-1] = True
  return jnp.where(inner, (2 * total + 13) // 26, x)


def _matrices(
  images: jax.Array, operations: jax.Array, values: jax.Array
) -> jax.Array:
  batch, height, width, _ = images.shape
  zero = jnp.zeros_like(values)
  made = {
    "ShearX": affine.shear_x(values),
    "ShearY": affine.shear_y(values),
    "TranslateX": affine.translate(values * width, zero),
    "TranslateY": affine.translate(zero, values * height),
    "Rotate": affine.rotate(values, height=height, width=width),
  }
  matrices = affine.identity(batch)
  for name, matrix in made.items():
    matrices = jnp.where(_is(operations, name)[..., 0], matrix, matrices)
  return matrices
