"""Colour tables: for each image and channel, what becomes of 256 values.

A change of colour that looks at one byte at a time is a table of 256 bytes,
made from the image's histogram or from a number alone. Applying any is one
lookup a pixel. All tables are Pillow's.

Images are uint8 `[B, H, W, C]` of 3 channels or 1, tables uint8 `[B, C, 256]`,
histograms int32 `[B, C, 256]`, and numbers, one an image, `[B]`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def lookup(images: jax.Array, tables: jax.Array) -> jax.Array:
  """Replaces each byte of the images by its entry in the tables."""
  batch, height, width, channels = images.shape
  chex.assert_shape(tables, (batch, channels, 256))
  flat = images.reshape(batch, height * width, channels)
  entries = jnp.swapaxes(tables, 1, 2)
  found = jnp.take_along_axis(entries, flat.astype(jnp.int32), axis=1)
  return found.reshape(images.shape)


def histograms(images: jax.Array) -> jax.Array:
  """Returns how many pixels of the images have each value."""
  batch, _, _, channels = images.shape
  values = jnp.moveaxis(images, 3, 1).reshape(batch, channels, -1)
  counts = jnp.zeros((batch, channels, 256), jnp.int32)
  i = jnp.arange(batch)[:, None, None]
  c = jnp.arange(channels)[None, :, None]
  return counts.at[i, c, values.astype(jnp.int32)].add(1)


def gray(images: jax.Array) -> jax.Array:
  """Rounds `.299 R + .587 G + .114 B`, as Pillow does; int32 `[B, H, W, 1]`."""
  x = images.astype(jnp.int32)
  if images.shape[-1] == 1:
    return x
  # In parts of 65536; the last term rounds.
  total = 19595 * x[..., :1] + 38470 * x[..., 1:2] + 7471 * x[..., 2:]
  return (total + 32768) >> 16


def blend(other: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
  """Goes from one image to or past another: `other + factor (image - other)`.

  Returns uint8, clipped to 0 to 255 and cut to an integer, as Pillow's `blend`.

  Args:
    other, image: integers in 0 to 255, what factors of 0 and 1 give.
    factor: float. All three broadcast.
  """
  other, image = other.astype(jnp.float32), image.astype(jnp.float32)
  return jnp.clip(other + factor * (image - other), 0, 255).astype(jnp.uint8)


def identity(images: jax.Array) -> jax.Array:
  """Returns tables that change nothing; of the images only the shape counts."""
  shape = (images.shape[0], images.shape[3], 256)
  return jnp.broadcast_to(_values(), shape).astype(jnp.uint8)


def invert(images: jax.Array) -> jax.Array:
  """Returns tables that map v to `255 - v`."""
  return 255 - identity(images)


def auto_contrast(counts: jax.Array) -> jax.Array:
  """Stretches each channel's values to 0 to 255; a constant channel stays."""
  present, values = counts > 0, _values()
  low = jnp.min(jnp.where(present, values, 255), -1, keepdims=True)
  high = jnp.max(jnp.where(present, values, 0), -1, keepdims=True)
  stretched = (values - low) * 255 // jnp.maximum(high - low, 1)
  stretched = jnp.clip(stretched, 0, 255)
  return jnp.where(high > low, stretched, values).astype(jnp.uint8)


def equalize(counts: jax.Array) -> jax.Array:
  """Spreads each channel's values until all are about equally frequent.

  `v` becomes `(step / 2 + pixels below v) / step` with `step` a 255th of the
  pixels, those of the largest value left out; all divisions rounded down. A
  channel for which the step is 0 stays.
  """
  values = _values()
  highest = jnp.max(jnp.where(counts > 0, values, 0), -1, keepdims=True)
  last = jnp.take_along_axis(counts, highest, -1)
  step = (jnp.sum(counts, -1, keepdims=True) - last) // 255
  below = jnp.cumsum(counts, -1) - counts
  spread = (step // 2 + below) // jnp.maximum(step, 1)
  spread = jnp.clip(spread, 0, 255)
  return jnp.where(step > 0, spread, values).astype(jnp.uint8)


def solarize(images: jax.Array, threshold: jax.Array) -> jax.Array:
  """Returns tables that invert values that are not below a threshold."""
  plain = identity(images)
  below = plain.astype(threshold.dtype) < threshold[:, None, None]
  return jnp.where(below, plain, 255 - plain)


def posterize(images: jax.Array, bits: jax.Array) -> jax.Array:
  """Keeps the highest bits of each value, 1 to 8, cut to an integer."""
  kept = jnp.clip(bits.astype(jnp.int32), 1, 8)[:, None, None]
  plain = identity(images).astype(jnp.int32)
  return ((plain >> (8 - kept)) << (8 - kept)).astype(jnp.uint8)


def contrast(images: jax.Array, factor: jax.Array) -> jax.Array:
  """Blends with the images' mean gray, rounded; a factor of 1 keeps them."""
  mean = jnp.mean(gray(images).astype(jnp.float32), (1, 2, 3))
  other = jnp.floor(mean + 0.5)[:, None, None]
  return blend(other, identity(images), factor[:, None, None])


def brightness(images: jax.Array, factor: jax.Array) -> jax.Array:
  """Blends with black, which a factor of 0 gives; 1 changes nothing."""
  plain = identity(images)
  return blend(jnp.zeros_like(plain), plain, factor[:, None, None])


def _values() -> jax.Array:
  return jnp.arange(256, dtype=jnp.int32)[None, None]
