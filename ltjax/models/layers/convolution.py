"""The convolution under every backbone.

Its mathematics is the usual one; what is its own is how a CPU computes it, and
the gradients above all, where XLA:CPU is slow: kernels of one pixel as
products, 3x3 kernels of many channels by Winograd's method, strided ones by
dense convolutions and products, and the gradient of any other kernel as the sum
over small sub-batches, two to four times as fast as over a batch that does not
fit the cache. Accelerators have XLA's own convolutions, whatever the kernel,
and so do grouped ones.
"""

from __future__ import annotations

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.cpu_kernels import batches, strided, winograd

# Measured on 2 cores: sub-batches of about a MiB are best, from 16 to 64
# channels and from 8 to 32 pixels; more than 32 pieces only cost compilation.
_PIECE_BYTES = 2**20
_MAX_PIECES = 32
# Where XLA:CPU multiplies matrices by YNNPACK. Before, its own convolutions are
# faster than what is made of products here.
_BY_PRODUCTS = jax.__version_info__ >= (0, 11)
# Input and output channels from which that is faster on 2 cores: Winograd's
# method forward, and the gradients, strided or not.
_FORWARD_CHANNELS = 128
_GRADIENT_CHANNELS = 64


class Conv(nn.Module):
  """A bias-free convolution which pads `size // 2` on every side.

  Attributes:
    features: Output channels.
    size: Height and width of the kernel, odd.
    stride: In both directions.
    dtype: Compute dtype; the kernel `[size, size, D / groups, features]` is an
      fp32 parameter, zero until `initializers.he_normal` fills it.
    groups: Parts of the channels that do not mix, a divisor of both.
  """

  features: int
  size: int
  stride: int
  dtype: Any
  groups: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, D]` to `[B, ceil(H / s), ceil(W / s), features]`."""
    inputs = x.shape[-1] // self.groups
    shape = (self.size, self.size, inputs, self.features)
    kernel = self.param("kernel", nn.initializers.zeros, shape, jnp.float32)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    return convolve(x, kernel, self.stride)


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves images, differentiable in reverse mode.

  Args:
    x: `[B, H, W, D]`.
    kernel: `[K, K, D / G, F]`, K odd, of the dtype of `x`. With G above 1 the
      channels are in G groups: each part of F sees its part of D alone.
    stride: In both directions.

  Returns:
    `[B, ceil(H / stride), ceil(W / stride), F]`; the padding is K // 2 zeros on
    every side, as PyTorch's, where "SAME" would pad a strided one unevenly.
  """
  return _convolve(x, kernel, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  plain, whole = (
    functools.partial(_plain, stride=stride),
    _groups(x, kernel) == 1,
  )
  many = whole and _by_products(kernel, _FORWARD_CHANNELS)
  if whole and kernel.shape[0] == 1:
    on_cpu = functools.partial(_product, stride=stride)
  elif many and winograd.suits(x, kernel, stride):
    on_cpu = winograd.convolve
  elif x.dtype == jnp.bfloat16:
    on_cpu = functools.partial(_apart, stride=stride)
  else:
    return plain(x, kernel)
  return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def _product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  # XLA:CPU needs twice as long for the gradients of a convolution, and four to
  # ten times as long if it is strided. XLA:GPU dies of this one (JAX 0.11.2).
  return x[:, ::stride, ::stride] @ kernel[0, 0]


def _apart(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  # Two convolutions, their activations and a mean as one fusion of YNNPACK, as
  # at the end of a network, give NaN (JAX 0.11 and 0.12).
  return jax.lax.optimization_barrier(_plain(x, kernel, stride))


def _plain(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  pad = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((pad, pad), (pad, pad)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=_groups(x, kernel),
  )


def _groups(x: jax.Array, kernel: jax.Array) -> int:
  return x.shape[-1] // kernel.shape[2]


def _by_products(kernel: jax.Array, channels: int) -> bool:
  return _BY_PRODUCTS and min(kernel.shape[2:]) >= channels


def _forward(
  x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _convolve(x, kernel, stride), (x, kernel)


def _backward(
  stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  whole = functools.partial(_gradients, stride=stride, count=1)
  if _groups(x, kernel) > 1:
    return whole(x, kernel, grad)
  many = _by_products(kernel, _GRADIENT_CHANNELS)
  if kernel.shape[0] == 1:
    on_cpu = functools.partial(_of_product, stride=stride)
  elif many and winograd.suits(x, kernel, stride):
    on_cpu = winograd.gradients
  elif many and strided.suits(x, kernel, stride):
    on_cpu = strided.gradients
  else:
    count = batches.count(x, grad, least=_PIECE_BYTES, most=_MAX_PIECES)
    on_cpu = functools.partial(_gradients, stride=stride, count=count)
  return jax.lax.platform_dependent(x, kernel, grad, cpu=on_cpu, default=whole)


_convolve.defvjp(_forward, _backward)


def _of_product(
  x: jax.Array, kernel: jax.Array, grad: jax.Array, *, stride: int
) -> tuple[jax.Array, jax.Array]:
  _, back = jax.vjp(functools.partial(_product, stride=stride), x, kernel)
  return back(grad)


def _gradients(
  x: jax.Array, kernel: jax.Array, grad: jax.Array, *, stride: int, count: int
) -> tuple[jax.Array, jax.Array]:
  """XLA's, that of the kernel as a sum over `count` pieces of the batch."""
  by_x = jax.linear_transpose(lambda x: _plain(x, kernel, stride), x)

  def by_kernel(x, grad):
    back = jax.linear_transpose(lambda k: _plain(x, k, stride), kernel)
    return back(grad)[0]

  if count == 1:
    return by_x(grad)[0], by_kernel(x, grad)
  xs, grads = batches.split(x, count), batches.split(grad, count)
  total = jnp.zeros(kernel.shape, jnp.float32)
  for i in range(count):
    total += by_kernel(xs[:, i], grads[:, i]).astype(jnp.float32)
  return by_x(grad)[0], total.astype(kernel.dtype)
