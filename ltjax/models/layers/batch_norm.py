"""Batch normalisation (Ioffe & Szegedy, 2015), with a gradient of its own.

The mathematics and the names of parameters and statistics are the usual ones;
its own is the gradient, the closed formula over the input, the mean and the
inverse spread. Derived step by step it keeps and reads more arrays of the
input's size: on a CPU a step of ResNet-32 then needs half as much memory again
(docs/performance.md).

Constants are PyTorch's. One difference is left: the running variance averages
the *biased* batch variance, where PyTorch averages the unbiased one,
n / (n - 1) times larger with n = B * H * W (below 0.2 % at a 4x4 map and batch
32). Under jit on several devices the statistics are those of the global batch.
"""

from __future__ import annotations

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from ltjax.optim import ema

# The weight of the old value; PyTorch's momentum of 0.1 is that of the new one.
MOMENTUM = 0.9
EPSILON = 1e-5


class BatchNorm(nn.Module):
  """Normalises the channels of a feature map.

  Attributes:
    train: Use the batch's statistics and update the running ones.
    dtype: Of the result; statistics and parameters are fp32.
    zero: Start from scale 0, so that a residual block starts as its shortcut.
  """

  train: bool
  dtype: Any
  zero: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, ..., D]` to the same shape."""
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    shape = x.shape[-1:]
    scale = self.param(
      "scale", zeros if self.zero else ones, shape, jnp.float32
    )
    bias = self.param("bias", zeros, shape, jnp.float32)
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    if not self.train:
      y = with_statistics(x, scale, bias, mean.value, var.value)
    else:
      y, new_mean, new_var = normalize(x, scale, bias)
      if not self.is_initializing():
        mean.value, var.value = ema.update(
          (mean.value, var.value), (new_mean, new_var), decay=MOMENTUM
        )
    return y.astype(self.dtype)


def with_statistics(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  mean: jax.Array,
  var: jax.Array,
) -> jax.Array:
  """Normalises by given statistics.

  Args:
    x: `[B, ..., D]`, any float dtype.
    scale, bias, mean, var: fp32 `[D]`.

  Returns:
    `(x - mean) / sqrt(var + 1e-5) * scale + bias`, of the shape and dtype of
    `x`.
  """
  factor = scale * jax.lax.rsqrt(var + EPSILON)
  y = _less(x, mean) * _wide(factor, x) + _wide(bias, x)
  return y.astype(x.dtype)


def _apart(tree: Any) -> Any:
  # XLA:CPU would see that `x - mean` is needed again, and keep it from the
  # forward pass for the backward one beside `x`: half as much memory again. It
  # is made anew. What other compilers fuse is left to them.
  barrier = jax.lax.optimization_barrier
  return jax.lax.platform_dependent(tree, cpu=barrier, default=lambda x: x)


@jax.custom_vjp
def normalize(
  x: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises by the statistics of the batch, differentiable in reverse mode.

  Args:
    x: `[B, ..., D]`, any float dtype.
    scale, bias: fp32 `[D]`.

  Returns:
    The result, of the shape and dtype of `x`, and the batch's mean and biased
    variance, fp32 `[D]`. No gradient goes through the latter two: they are for
    running averages.
  """
  mean, var = statistics(x)
  return with_statistics(x, scale, bias, _apart(mean), var), mean, var


def statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the mean and the biased variance of each channel.

  The variance is E[(x - mean)^2], not the cheaper E[x^2] - mean^2, which loses
  all digits when the mean is large against the spread.

  Args:
    x: `[B, ..., D]`, any float dtype.

  Returns:
    Both fp32 `[D]`.
  """
  axes = tuple(range(x.ndim - 1))
  mean = jnp.mean(x, axes, dtype=jnp.float32)
  return mean, jnp.mean(jnp.square(_less(x, mean)), axes)


def _forward(
  x: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[Any, tuple[jax.Array, ...]]:
  y, mean, var = normalize(x, scale, bias)
  return (y, mean, var), (x, scale, mean, jax.lax.rsqrt(var + EPSILON))


def _backward(
  saved: tuple[jax.Array, ...], grads: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  x, scale, mean, inverse = _apart(saved)
  grad = grads[0].astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  by_bias = jnp.sum(grad, axes)
  by_scale = jnp.sum(grad * _less(x, mean), axes) * inverse
  # With u = (x - mean) * inverse and means over the batch:
  # dx = scale * inverse * (grad - mean(grad) - u * mean(grad * u)).
  count = x.size // x.shape[-1]
  slope = _wide(inverse * by_scale / count, x)
  by_x = grad - _wide(by_bias / count, x) - _less(x, _apart(mean)) * slope
  by_x = by_x * _wide(scale * inverse, x)
  return by_x.astype(x.dtype), by_scale, by_bias


normalize.defvjp(_forward, _backward)


def _less(x: jax.Array, mean: jax.Array) -> jax.Array:
  return x.astype(jnp.float32) - _wide(mean, x)


def _wide(value: jax.Array, x: jax.Array) -> jax.Array:
  """Returns `[D]` with the leading axes of `[B, ..., D]`."""
  return jnp.expand_dims(value, tuple(range(x.ndim - 1)))
