"""RandAugment with a strength of its own for each image.

RandAugment does all operations at one magnitude. Boosted contrastive learning
gives each image a strength M in [0, 1], high for those that the network
remembers badly: how likely an operation is done and how far it goes. The
operations are those of `ltjax.augment.operations`.
"""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax import require
from ltjax.augment import operations

_MOST = 30.0  # the magnitude at which a range ends


def random_augment(
  key: jax.Array,
  images: jax.Array,
  strength: jax.Array,
  *,
  num_ops: int = 1,
  min_magnitude: float | None = None,
) -> jax.Array:
  """Applies `num_ops` random operations, each with probability M.

  The operations are drawn with replacement, all equally likely. Their magnitude
  is `m = m_0 + (30 - m_0) M`, or `m_0 + (30 - m_0) M U` with one U uniform in
  [0, 1) for each image where there are several operations; it is a place in
  each operation's range, which ends at 30. Shears, shifts and turns go either
  way. A larger magnitude is not always a larger change: factors change nothing
  at 15, and Solarize and Posterize change less at 30.

  An image to which something is done is first rounded to bytes; others stay
  exactly. M = 0 does nothing.

  Args:
    key: one key.
    images: float `[B, H, W, C]` in [0, 1], of 3 channels or 1.
    strength: M, `[B]` in [0, 1].
    num_ops: operations drawn for each image, 1 or more, else a ValueError.
    min_magnitude: m_0, in [0, 30]; None for that of the authors, 10 with one
      operation and 5 with more. Others are a ValueError.

  Source: Zhou et al. (2022), "Contrastive learning with boosted memorization",
    Section 3.3; ranges, replacement, the least magnitude and U from the
    authors' code. Cubuk et al. (2020), "RandAugment".
  """
  chex.assert_rank([images, strength], [4, 1])
  chex.assert_type(images, float)
  one = functools.partial(draw, num_ops=num_ops, min_magnitude=min_magnitude)
  keys = jax.random.split(key, images.shape[0])
  which, done, values, centers = jax.vmap(one)(keys, strength)
  changed = jnp.round(images * 255).astype(jnp.uint8)
  for i in range(num_ops):
    after = operations.apply(changed, which[:, i], values[:, i], centers[:, i])
    changed = jnp.where(done[:, i, None, None, None], after, changed)
  touched = jnp.any(done, axis=1)[:, None, None, None]
  return jnp.where(touched, changed.astype(images.dtype) / 255, images)


def draw(
  key: jax.Array,
  strength: jax.Array,
  *,
  num_ops: int,
  min_magnitude: float | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Draws what to do to one image.

  Args:
    key, strength: the image's key, and M, `[]` in [0, 1].
    num_ops, min_magnitude: as of `random_augment`; K operations.

  Returns:
    the operations, int32 `[K]`, places in `operations.NAMES`; whether each is
    done, bool `[K]`; their values, float32 `[K]`; and the centers of their
    squares, float32 `[K, 2]`, of which Cutout takes notice.
  """
  require.at_least("num_ops", num_ops, 1)
  if min_magnitude is None:
    min_magnitude = 10.0 if num_ops == 1 else 5.0
  require.within("min_magnitude", min_magnitude, f"[0, {_MOST:g}]")
  keys = jax.random.split(key, 5)
  which = jax.random.randint(keys[0], (num_ops,), 0, len(operations.NAMES))
  done = jax.random.uniform(keys[1], (num_ops,)) < strength
  negative = jax.random.bernoulli(keys[2], shape=(num_ops,))
  centers = jax.random.uniform(keys[3], (num_ops, 2))
  factor = jax.random.uniform(keys[4]) if num_ops > 1 else 1.0
  magnitude = min_magnitude + (_MOST - min_magnitude) * strength * factor
  values = operation_values(
    which, jnp.full(num_ops, magnitude), negative=negative
  )
  return which, done, values, centers


def operation_values(
  which: jax.Array, magnitudes: jax.Array, *, negative: jax.Array
) -> jax.Array:
  """Returns what magnitudes mean, `low + (high - low) m / 30`, float32 `[K]`.

  Args:
    which: int32 `[K]`, places in `operations.NAMES`.
    magnitudes: m, `[K]`, in [0, 30].
    negative: bool `[K]`; whether to go the other way, where there is one.
  """
  ranges = np.array(list(operations.RANGES.values()), np.float32)
  low, high = jnp.asarray(ranges[:, 0])[which], jnp.asarray(ranges[:, 1])[which]
  values = low + (high - low) * magnitudes / _MOST
  signed = which < len(operations.SIGNED)
  return jnp.where(signed & negative, -values, values)
