"""Random colours on the device: jitter and grayscale, one key per image.

Two crops of one photograph share their colours, and a network asked to pair
them need look at nothing else; so contrastive learning changes them by chance.

Images are floats `[..., H, W, C]` in [0, 1] of 3 channels or 1, and are not
rounded, as torchvision does with tensors. Brightness, contrast and saturation
blend with black, the mean gray and each pixel's gray; a factor of 0 gives that,
of 1 changes nothing, and the result is clipped. Images of one channel have no
hue or saturation: there these two, and grayscale, change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools

import chex
import jax
import jax.numpy as jnp

from ltjax import require

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow


def adjust_brightness(image: jax.Array, factor: jax.Array) -> jax.Array:
  """Blends with black: `factor * image`, clipped; the factor is `[]`."""
  return jnp.clip(factor * image, 0, 1)


def adjust_contrast(image: jax.Array, factor: jax.Array) -> jax.Array:
  """Blends an image `[H, W, C]` with its mean gray; the factor is `[]`."""
  return _blend(image, jnp.mean(_gray(image), keepdims=True), factor)


def adjust_saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
  """Blends with the gray of each pixel; the factor is `[]`."""
  return _blend(image, _gray(image), factor)


def adjust_hue(image: jax.Array, shift: jax.Array) -> jax.Array:
  """Turns the colour circle: adds to the hue, keeps saturation and value.

  `shift` is `[]`, parts of a whole turn; 1/3 makes green of red.
  """
  if image.shape[-1] == 1:
    return image
  red, green, blue = image[..., 0], image[..., 1], image[..., 2]
  value = jnp.max(image, -1)
  chroma = value - jnp.min(image, -1)
  safe = jnp.where(chroma > 0, chroma, 1)
  sixth = jnp.where(
    value == red,
    (green - blue) / safe,
    jnp.where(
      value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe
    ),
  )

  def channel(offset: int) -> jax.Array:
    k = offset + sixth + 6 * shift
    k = k - 6 * jnp.floor(k / 6)
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return jnp.stack([channel(5), channel(3), channel(1)], -1)


def grayscale(image: jax.Array) -> jax.Array:
  """Replaces channels by the gray of the pixel, `.299 R + .587 G + .114 B`."""
  return jnp.broadcast_to(_gray(image), image.shape)


def random_jitter(
  key: jax.Array,
  images: jax.Array,
  *,
  brightness: float = 0.4,
  contrast: float = 0.4,
  saturation: float = 0.4,
  hue: float = 0.1,
  probability: float = 0.8,
) -> jax.Array:
  """Changes brightness, contrast, saturation and hue, in a random order.

  Each factor is uniform in `[max(0, 1 - s), 1 + s]` for its strength `s`, the
  shift of the hue uniform in `[-hue, hue]`; the 24 orders are equally likely.
  The defaults are those of MoCo v2.

  Args:
    key: one key.
    images: float `[B, H, W, C]` in [0, 1], of 3 channels or 1.
    brightness, contrast, saturation: strengths, 0 or more; 0 for none.
    hue: in [0, 0.5]. Other strengths or channels are a ValueError.
    probability: that an image is changed at all, in [0, 1].

  Source: Wu et al. (2018), "Unsupervised feature learning via non-parametric
    instance discrimination"; Chen et al. (2020), MoCo v2.
  """
  _check(images, probability)
  strengths = (brightness, contrast, saturation)
  for name, strength in zip(
    ("brightness", "contrast", "saturation"), strengths
  ):
    require.at_least(name, strength, 0)
  require.within("hue", hue, "[0, 0.5]", "parts of a turn")
  one = functools.partial(
    _jitter, strengths=(*strengths, hue), probability=probability
  )
  return jax.vmap(one)(jax.random.split(key, images.shape[0]), images)


def random_grayscale(
  key: jax.Array, images: jax.Array, *, probability: float = 0.2
) -> jax.Array:
  """Takes the colour from some of the images.

  Args:
    key: one key.
    images: float `[B, H, W, C]` in [0, 1], of 3 channels or 1 (else
      ValueError).
    probability: that an image becomes gray, in [0, 1], else a ValueError.
  """
  _check(images, probability)

  def one(key: jax.Array, image: jax.Array) -> jax.Array:
    chosen = jax.random.bernoulli(key, probability)
    return jnp.where(chosen, grayscale(image), image)

  return jax.vmap(one)(jax.random.split(key, images.shape[0]), images)


def in_random_order(
  key: jax.Array,
  image: jax.Array,
  operations: Sequence[Callable[[jax.Array], jax.Array]],
) -> jax.Array:
  """Applies each operation once, in an order drawn from all orders.

  Args:
    key: a key.
    image: `[H, W, C]`.
    operations: K functions of an image, which keep its shape and dtype.
  """
  order = jax.random.permutation(key, len(operations))
  for position in range(len(operations)):
    image = jax.lax.switch(order[position], operations, image)
  return image


def _jitter(
  key: jax.Array,
  image: jax.Array,
  *,
  strengths: tuple[float, ...],
  probability: float,
) -> jax.Array:
  k_chosen, k_order, k_amounts = jax.random.split(key, 3)
  draws = jax.random.uniform(k_amounts, (4,))
  least = [max(0.0, 1 - s) for s in strengths[:3]] + [-strengths[3]]
  most = [1 + s for s in strengths[:3]] + [strengths[3]]
  amounts = [a + (b - a) * draw for a, b, draw in zip(least, most, draws)]
  operations = [
    functools.partial(adjust_brightness, factor=amounts[0]),
    functools.partial(adjust_contrast, factor=amounts[1]),
    functools.partial(adjust_saturation, factor=amounts[2]),
    functools.partial(adjust_hue, shift=amounts[3]),
  ]
  changed = in_random_order(k_order, image, operations)
  return jnp.where(jax.random.bernoulli(k_chosen, probability), changed, image)


def _gray(image: jax.Array) -> jax.Array:
  """Returns `[..., H, W, 1]`."""
  if image.shape[-1] == 1:
    return image
  weighted = [image[..., c] * weight for c, weight in enumerate(_LUMA)]
  return (weighted[0] + weighted[1] + weighted[2])[..., None]


def _blend(image: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
  other = jnp.broadcast_to(other, image.shape)
  return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


def _check(images: jax.Array, probability: float) -> None:
  chex.assert_rank(images, 4)
  chex.assert_type(images, float)
  if images.shape[-1] not in (1, 3):
    raise ValueError(
      f"Images must have 3 channels (red, green, blue) or 1 (gray), not"
      f" {images.shape[-1]}."
    )
  require.within("probability", probability, "[0, 1]")
