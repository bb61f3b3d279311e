"""BatchNorm's statistics in one pass over the images, as a variant to time."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib

import jax
import jax.numpy as jnp

from ltjax.models.layers import batch_norm


def statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the mean and the biased variance of each channel.

  `s + E[x - s]` and `E[(x - s)^2] - E[x - s]^2`, with the first of the values
  as the shift s, which keeps the digits that `E[x^2] - E[x]^2` loses: both sums
  are over the same values, so that one reading of them is enough.

  Args:
    x: `[B, ..., D]`, any float dtype.

  Returns:
    Both fp32 `[D]`.

  Source: Chan, Golub & LeVeque, Algorithms for computing the sample variance
    (1983), shifted data.
  """
  axes = tuple(range(x.ndim - 1))
  shift = x[(0,) * len(axes)].astype(jnp.float32)
  less = x.astype(jnp.float32) - jnp.expand_dims(shift, axes)
  mean = jnp.mean(less, axes)
  var = jnp.mean(jnp.square(less), axes) - jnp.square(mean)
  return shift + mean, jnp.maximum(var, 0.0)


@contextlib.contextmanager
def used(on: bool = True) -> Iterator[None]:
  """Has every network that is traced in the context use it, if `on`."""
  before = batch_norm.statistics
  batch_norm.statistics = statistics if on else before
  try:
    yield
  finally:
    batch_norm.statistics = before
