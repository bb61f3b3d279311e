"""The convolution under every backbone.

Its mathematics is the usual one; what is its own is how the gradient of the
kernel is computed on a CPU. XLA:CPU is slow at that gradient, a contraction over
a whole batch that does not fit the cache, while the sum of the gradients of
small sub-batches is the same number and is two to four times faster to get.
Accelerators keep XLA's way.
"""

from __future__ import annotations

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

# Measured on 2 cores: sub-batches of about a MiB are best, from 16 to 64
# channels and from 8 to 32 pixels; more than 32 pieces only cost compilation.
_PIECE_BYTES = 2**20
_MAX_PIECES = 32


class Conv(nn.Module):
  """A bias-free convolution which pads `size // 2` on every side.

  Attributes:
    features: Output channels.
    size: Height and width of the kernel, odd.
    stride: In both directions.
    dtype: Compute dtype; the kernel `[size, size, D, features]` is an fp32
      parameter, zero until `initializers.he_normal` fills it.
  """

  features: int
  size: int
  stride: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, D]` to `[B, ceil(H / s), ceil(W / s), features]`."""
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.zeros, shape, jnp.float32)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    return convolve(x, kernel, self.stride)


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves images, differentiable in reverse mode.

  Args:
    x: `[B, H, W, D]`.
    kernel: `[K, K, D, F]`, K odd, of the dtype of `x`.
    stride: In both directions.

  Returns:
    `[B, ceil(H / stride), ceil(W / stride), F]`; the padding is K // 2 zeros on
    every side, as PyTorch's, where "SAME" would pad a strided one unevenly.
  """
  if kernel.shape[0] == 1 and stride > 1:
    # Only these pixels count. XLA:CPU makes both gradients of the strided
    # convolution, zeros and all: four to ten times the time.
    x, stride = x[:, ::stride, ::stride], 1
  return _convolve(x, kernel, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  return _plain(x, kernel, stride)


def _plain(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  pad = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((pad, pad), (pad, pad)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _forward(
  x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _plain(x, kernel, stride), (x, kernel)


def _backward(
  stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  by_x = jax.linear_transpose(lambda x: _plain(x, kernel, stride), x)
  whole = functools.partial(_kernel_gradient, kernel=kernel, stride=stride)
  in_pieces = functools.partial(_sum_of_pieces, kernel=kernel, stride=stride)
  by_kernel = jax.lax.platform_dependent(x, grad, cpu=in_pieces, default=whole)
  return by_x(grad)[0], by_kernel


_convolve.defvjp(_forward, _backward)


def _kernel_gradient(
  x: jax.Array, grad: jax.Array, *, kernel: jax.Array, stride: int
) -> jax.Array:
  by_kernel = jax.linear_transpose(lambda k: _plain(x, k, stride), kernel)
  return by_kernel(grad)[0]


def _sum_of_pieces(
  x: jax.Array, grad: jax.Array, *, kernel: jax.Array, stride: int
) -> jax.Array:
  count = pieces(x, grad)
  if count == 1:
    return _kernel_gradient(x, grad, kernel=kernel, stride=stride)
  # Piece i is every count-th image from i on: where the batch is sharded over
  # devices, each then has its part of each piece.
  x, grad = (
    a.reshape(a.shape[0] // count, count, *a.shape[1:]) for a in (x, grad)
  )
  total = jnp.zeros(kernel.shape, jnp.float32)
  for i in range(count):
    piece = _kernel_gradient(x[:, i], grad[:, i], kernel=kernel, stride=stride)
    total += piece.astype(jnp.float32)
  return total.astype(kernel.dtype)


def pieces(x: jax.Array, grad: jax.Array) -> int:
  """Into how many sub-batches a CPU splits the gradient of a kernel.

  Args:
    x: Input of the convolution, `[B, H, W, D]`.
    grad: Gradient of its output, `[B, H', W', F]`.

  Returns:
    A power of two that divides B.
  """
  batch = x.shape[0]
  size = max(a.size * a.dtype.itemsize for a in (x, grad))
  count = 1
  while (
    count < _MAX_PIECES
    and batch % (2 * count) == 0
    and size > count * _PIECE_BYTES
  ):
    count *= 2
  return count
