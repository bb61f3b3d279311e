"""Depthwise convolutions: a kernel of its own for each channel.

XLA:CPU computes these as convolutions in as many groups as channels, at a tenth
of the speed of this sum: over the kernel's places, of a shifted image times a
weight a channel, which it fuses into one loop. EfficientNet-Lite0 then takes
0.5 seconds of processor time for 64 images of 128 pixels instead of 4.4, and
the gradients a tenth of theirs. Accelerators have XLA's own convolution.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp


class Conv(nn.Module):
  """A bias-free depthwise convolution which pads as TensorFlow's "SAME".

  Attributes:
    size: Height and width of the kernel, odd.
    stride: In both directions.
    dtype: Compute dtype; the kernel `[size, size, 1, D]` is an fp32 parameter,
      zero until `initializers.he_normal` fills it.
  """

  size: int
  stride: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, D]` to `[B, ceil(H / s), ceil(W / s), D]`."""
    shape = (self.size, self.size, 1, x.shape[-1])
    kernel = self.param("kernel", nn.initializers.zeros, shape, jnp.float32)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    return convolve(x, kernel, self.stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves each channel alone, differentiable in reverse mode.

  Args:
    x: `[B, H, W, D]`.
    kernel: `[K, K, 1, D]`, K odd, of the dtype of `x`.
    stride: In both directions.

  Returns:
    `[B, ceil(H / stride), ceil(W / stride), D]`; of an odd number of padded
    zeros the larger half is at the end. A CPU adds up in fp32.
  """
  on_cpu, plain = _both(stride)
  return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def _both(stride: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
  return (
    functools.partial(_shifted, stride=stride),
    functools.partial(_plain, stride=stride),
  )


def _shifted(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  size = kernel.shape[0]
  rows, columns = (-(-n // stride) for n in x.shape[1:3])
  pads = jax.lax.padtype_to_pads(
    x.shape[1:3], (size, size), (stride, stride), "SAME"
  )
  # Apart: else the padding is a branch inside the loop, for each place anew.
  padded = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
  kernel = jnp.expand_dims(kernel.astype(jnp.float32), (2, 3))
  total = jnp.zeros((), jnp.float32)
  for row in range(size):
    below = padded[:, row : row + (rows - 1) * stride + 1 : stride]
    for column in range(size):
      end = column + (columns - 1) * stride + 1
      seen = below[:, :, column:end:stride].astype(jnp.float32)
      total += seen * kernel[row, column]
  return total.astype(x.dtype)


def _plain(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def _forward(
  x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return convolve(x, kernel, stride), (x, kernel)


def _backward(
  stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  on_cpu, plain = (
    lambda x, kernel, grad, of=of: jax.vjp(of, x, kernel)[1](grad)
    for of in _both(stride)
  )
  return jax.lax.platform_dependent(*saved, grad, cpu=on_cpu, default=plain)


convolve.defvjp(_forward, _backward)
