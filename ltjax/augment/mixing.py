"""MixUp and CutMix: images made of two, and labels made of two with them.

MixUp blends all pixels of an image and its *partner*, CutMix takes a box of
them from the partner. The `ratio`, lambda, is the share of the first image: one
number for the batch, as in the published code of both, or one for each image.
Labels are blended as images are; by the linearity of the cross-entropy blended
losses are the same:

    ratio = mixing.draw_ratio(key, beta=1.0)
    x = mixing.mixup(images, images[order], ratio)
    losses = mixing.mixup(
      cross_entropy(logits, labels), cross_entropy(logits, labels[order]), ratio
    )
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from ltjax import require

NAMES = ("mixup", "cutmix", "plain")
LABELS = ("published", "area")
SIDES = ("down", "up")


def draw_ratio(
  key: jax.Array, *, beta: float, shape: tuple[int, ...] = ()
) -> jax.Array:
  """Draws lambda from Beta(beta, beta), which is uniform at 1.

  Args:
    key: a random key.
    beta: above 0, else a ValueError; below 1 most pairs are mostly one of both.
    shape: `()` for one of the batch, `(B,)` for one of each image; fp32.
  """
  require.within("beta", beta, "(0, inf)", "1 draws lambda evenly")
  return jax.random.beta(key, beta, beta, shape, jnp.float32)


def mixup(
  first: jax.Array, second: jax.Array, ratio: jax.Array | float
) -> jax.Array:
  """Blends in fp32: `ratio * first + (1 - ratio) * second`.

  Args:
    first, second: `[B, ...]`, float: images, one-hot labels or losses.
    ratio: `[]` or `[B]`, in [0, 1].

  Source: Zhang et al. (2018), "mixup: beyond empirical risk minimization",
    Equation 2; as it draws partners, pairs of the same batch.
  """
  chex.assert_equal_shape([first, second])
  chex.assert_type([first, second], float)
  share = _for_each(ratio, first)
  mixed = share * first.astype(jnp.float32) + (1 - share) * second.astype(
    jnp.float32
  )
  return mixed.astype(first.dtype)


def box(
  key: jax.Array,
  ratio: jax.Array | float,
  *,
  height: int,
  width: int,
  side: str = "down",
) -> jax.Array:
  """Draws the pixels that come from the partner, bool `[H, W]`, as CutMix.

  The box has sides `floor(H r)` and `floor(W r)`, `r = sqrt(1 - ratio)`. Its
  centre is any pixel, all alike, with half of its sides, rounded down, to all
  sides; what lies beyond the border is cut off. So it covers `1 - ratio` of the
  image at most, and often less.

  Args:
    key: a random key.
    ratio: `[]`, in [0, 1]: the share of the image that is meant to stay.
    height, width: H and W, in pixels.
    side: whether the sides are rounded `down`, or `up` as in the code of GLMC;
      else a ValueError.

  Source: Yun et al. (2019), "CutMix", Equation 2, and their code for rounding
    and border; Du et al. (2023), GLMC, Equation 3.
  """
  require.choice("side", side, SIDES)
  chex.assert_rank(jnp.asarray(ratio), 0)
  rounded = jnp.floor if side == "down" else jnp.ceil
  root = jnp.sqrt(1 - jnp.asarray(ratio, jnp.float32))

  def along(key: jax.Array, size: int) -> jax.Array:
    half = rounded(size * root).astype(jnp.int32) // 2
    centre = jax.random.randint(key, (), 0, size)
    pixels = jnp.arange(size, dtype=jnp.int32)
    return (pixels >= centre - half) & (pixels < centre + half)

  k_rows, k_columns = jax.random.split(key)
  return along(k_rows, height)[:, None] & along(k_columns, width)[None, :]


def cutmix(
  key: jax.Array,
  images: jax.Array,
  partners: jax.Array,
  ratio: jax.Array | float,
  *,
  labels: str = "published",
  side: str = "down",
) -> tuple[jax.Array, jax.Array]:
  """Pastes a box of each partner, at the same place, into the image.

  Returns the images, and the share of the label of the first, fp32 as `ratio`.

  Args:
    key: a random key.
    images, partners: `[B, H, W, C]`, any dtype.
    ratio: in [0, 1], `[]` for one box in all images, `[B]` for one in each.
    labels: what the label's share of the image is: `published`, the ratio
      itself although the border cuts boxes off; or the real `area`.
    side: as of `box`; unknown ones are a ValueError.

  Source: Yun et al. (2019), Equation 1. Their text has the published ratio;
    their code the area, and GLMC's the ratio.
  """
  require.choice("labels", labels, LABELS)
  chex.assert_rank(images, 4)
  chex.assert_equal_shape([images, partners])
  ratio = jnp.asarray(ratio, jnp.float32)
  size = {"height": images.shape[1], "width": images.shape[2], "side": side}
  if ratio.ndim:
    keys = jax.random.split(key, len(images))
    pasted = jax.vmap(lambda key, ratio: box(key, ratio, **size))(keys, ratio)
  else:
    pasted = box(key, ratio, **size)[None]
  mixed = jnp.where(pasted[..., None], partners, images)
  if labels == "area":
    area = 1 - jnp.mean(pasted, (1, 2), dtype=jnp.float32)
    ratio = area if ratio.ndim else area[0]
  return mixed, ratio


def mix(
  name: str,
  key: jax.Array,
  images: jax.Array,
  partners: jax.Array,
  ratio: jax.Array | float,
  **rules: str,
) -> tuple[jax.Array, jax.Array]:
  """Mixes by name: `mixup`, `cutmix`, or `plain`, which leaves images alone.

  Returns as `cutmix`; the share is 1 for `plain`.

  Args:
    name: one of `NAMES`, else a ValueError.
    key: a random key, for the box.
    images, partners, ratio: as of `cutmix`, float.
    **rules: `labels` and `side` of `cutmix`.
  """
  require.choice("mixing", name, NAMES)
  ratio = jnp.asarray(ratio, jnp.float32)
  if name == "cutmix":
    return cutmix(key, images, partners, ratio, **rules)
  if name == "plain":
    return images, jnp.ones_like(ratio)
  return mixup(images, partners, ratio), ratio


def _for_each(ratio: jax.Array | float, like: jax.Array) -> jax.Array:
  """A ratio of the batch, or of each image, with as many axes as the images."""
  ratio = jnp.asarray(ratio, jnp.float32)
  chex.assert_rank(ratio, {0, 1})
  if ratio.ndim:
    chex.assert_equal_shape_prefix([ratio, like], 1)
    return ratio.reshape(-1, *[1] * (like.ndim - 1))
  return ratio
