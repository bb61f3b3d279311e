"""Affine warps: shear, shift and turn, as one matrix an image.

The matrix `[[a, b, c], [d, e, f]]` gives for each pixel (x, y) of the result
the place `(a x + b y + c, d x + e y + f)` of the image that it shows, so that
warping a batch is one lookup a pixel. Pixels are places at their centers, the
nearest one is taken and what lies outside is filled, as Pillow's `transform`
does by default. Matrices are float32 `[B, 2, 3]`, made from numbers `[B]`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

_ONE = 1 << 16  # Pillow's fixed point


def warp(images: jax.Array, matrices: jax.Array, *, fill: int = 0) -> jax.Array:
  """Warps each image by its own matrix.

  Args:
    images: `[B, H, W, C]`, any dtype.
    matrices: float `[B, 2, 3]`, from places of the result to those of the
      image, x (to the right) before y (down).
    fill: what is shown where the image has no such place, in all channels.
  """
  batch, height, width, channels = images.shape
  chex.assert_shape(matrices, (batch, 2, 3))
  steps = _fixed(matrices[..., :2])[..., None, None]  # [B, 2, 2, 1, 1]
  start = _fixed(matrices[..., 2] + matrices[..., :2].sum(-1) / 2)
  x = jnp.arange(width)[None, None, None, :]
  y = jnp.arange(height)[None, None, :, None]
  places = start[..., None, None] + steps[:, :, 0] * x + steps[:, :, 1] * y
  columns, rows = places[:, 0] >> 16, places[:, 1] >> 16  # [B, H, W]
  inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
  flat = images.reshape(batch, height * width, channels)
  index = jnp.where(inside, rows * width + columns, 0)
  found = jnp.take_along_axis(flat, index.reshape(batch, -1, 1), axis=1)
  found = found.reshape(images.shape)
  return jnp.where(inside[..., None], found, jnp.full_like(found, fill))


def identity(batch: int) -> jax.Array:
  """Returns matrices that change none of `batch` images."""
  zero = jnp.zeros(batch)
  return _matrix(zero + 1, zero, zero, zero, zero + 1, zero)


def shear_x(amount: jax.Array) -> jax.Array:
  """Shifts each row by its height: `x + amount y`, the first row hardly."""
  zero = jnp.zeros_like(amount)
  return _matrix(zero + 1, amount, zero, zero, zero + 1, zero)


def shear_y(amount: jax.Array) -> jax.Array:
  """Shifts each column: `y + amount x`."""
  zero = jnp.zeros_like(amount)
  return _matrix(zero + 1, zero, zero, amount, zero + 1, zero)


def translate(columns: jax.Array, rows: jax.Array) -> jax.Array:
  """Shifts the image to the left and up, by so many pixels."""
  zero = jnp.zeros_like(columns)
  return _matrix(zero + 1, zero, columns, zero, zero + 1, rows)


def rotate(degrees: jax.Array, *, height: int, width: int) -> jax.Array:
  """Turns by degrees `[B]` about the middle of the image, counter-clockwise.

  Args:
    degrees: `[B]`.
    height, width: of the image, in pixels.
  """
  angle = jnp.deg2rad(degrees)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  x, y = width / 2, height / 2
  return _matrix(
    cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y
  )


def _matrix(*entries: jax.Array) -> jax.Array:
  stacked = jnp.stack([e.astype(jnp.float32) for e in entries], -1)
  return stacked.reshape(*stacked.shape[:-1], 2, 3)


def _fixed(x: jax.Array) -> jax.Array:
  return jnp.floor(x * _ONE + 0.5).astype(jnp.int32)
