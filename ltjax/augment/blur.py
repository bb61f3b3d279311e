"""Gaussian blur on the device: a width for each image, taps that are fixed."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp

from ltjax import require


def radius(size: int) -> int:
  """Returns the taps on each side of the middle: a tenth of the side in all.

  That is half of a tenth of `size`, the pixels of the smaller side, rounded
  down, but 1 or more; 0 for a single pixel.
  """
  return min(max(1, size // 20), size - 1)


def gaussian(image: jax.Array, sigma: jax.Array, *, radius: int) -> jax.Array:
  """Blurs an image, along its columns and then along its rows.

  `sum_k w_k x[i + k]` for k = -radius, ..., radius, with
  `w_k ~ exp(-k^2 / (2 sigma^2))` and sum 1. Beyond its border the image is
  mirrored, without repeating the outermost pixels.

  Args:
    image: float `[H, W, C]`.
    sigma: `[]`, pixels, above 0.
    radius: taps on each side of the middle, fewer than the smaller side has
      pixels; 0 changes nothing. A ValueError if it does not fit.
  """
  chex.assert_rank([image, sigma], [3, 0])
  chex.assert_type(image, float)
  if not 0 <= radius < min(image.shape[:2]):
    raise ValueError(
      f"A blur of radius {radius} does not fit an image of {image.shape[0]} x"
      f" {image.shape[1]}; it must be 0 or more and below the smaller side."
    )
  taps = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
  weights = jax.nn.softmax(-jnp.square(taps / sigma) / 2)
  for axis in (0, 1):
    border = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
    padded = jnp.pad(image.astype(jnp.float32), border, mode="reflect")
    length = image.shape[axis]
    shifted = [
      weights[k] * jax.lax.slice_in_dim(padded, k, k + length, axis=axis)
      for k in range(2 * radius + 1)
    ]
    image = functools.reduce(jnp.add, shifted).astype(image.dtype)
  return image


def random_blur(
  key: jax.Array,
  images: jax.Array,
  *,
  probability: float = 0.5,
  sigma: tuple[float, float] = (0.1, 2.0),
) -> jax.Array:
  """Blurs some of the images, each by its own width.

  Args:
    key: one key.
    images: float `[B, H, W, C]`.
    probability: that an image is blurred, in [0, 1], else a ValueError.
    sigma: least and largest standard deviation of the filter, in pixels; the
      filter is cut off at `radius` of the smaller side.

  Source: Chen et al. (2020), "A simple framework for contrastive learning of
    visual representations", Appendix A. Its 16 pixels would get a filter of one
    tap, which blurs nothing; ours has three.
  """
  chex.assert_rank(images, 4)
  require.within("The probability of blur", probability, "[0, 1]")
  if not 0 < sigma[0] <= sigma[1] < float("inf"):
    raise ValueError(
      f"The sigma of blur is {tuple(sigma)}; it must be two positive numbers of"
      " pixels, the smaller first."
    )
  taps = radius(min(images.shape[1:3]))

  def one(key: jax.Array, image: jax.Array) -> jax.Array:
    k_chosen, k_sigma = jax.random.split(key)
    width = jax.random.uniform(k_sigma, minval=sigma[0], maxval=sigma[1])
    blurred = gaussian(image, width, radius=taps)
    return jnp.where(
      jax.random.bernoulli(k_chosen, probability), blurred, image
    )

  return jax.vmap(one)(jax.random.split(key, images.shape[0]), images)
