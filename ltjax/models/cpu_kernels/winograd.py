"""Convolutions of 3x3 kernels by fewer products, for a CPU.

Winograd's minimal filtering takes 36 products for a tile of 4x4 outputs, where
nine taps for each would be 144. What XLA:CPU is fast at are products of
matrices, so every step is one: those 36, each over all channels, and the sums
before and after them, with a banded matrix along the height and one along the
width. The batch goes through in pieces, so that what one needs stays in the
cache.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"
(arXiv:1509.09308), Section 4.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.models.cpu_kernels import batches

_TILE = 4  # Outputs of a tile, along the height and along the width.
# Where the polynomials of Toom and Cook are evaluated, infinity besides.
# Rounding in fp32 is about 0.6 of what it is with the usual 0, 1, -1, 2 and -2.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
_TAPS = 3
_N = len(_POINTS) + 1
_PIECE_BYTES = 2**21
_MAX_PIECES = 16


def suits(x: jax.Array, kernel: jax.Array, stride: int) -> bool:
  """Whether the functions here can take these shapes.

  Args:
    x: `[B, H, W, D]`.
    kernel: `[K, K, D, F]`.
    stride: In both directions.
  """
  height, width = x.shape[1:3]
  whole = height % _TILE == 0 and width % _TILE == 0
  return kernel.shape[0] == _TAPS and stride == 1 and whole


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves images that are padded by one zero on every side.

  Args:
    x: `[B, H, W, D]`, H and W multiples of four.
    kernel: `[3, 3, D, F]`, of the dtype of `x`.

  Returns:
    `[B, H, W, F]` of the dtype of `x`, computed in fp32.
  """
  into, out_of, _, _ = _bands(x.shape)
  weights = _of_each_row(_weights(kernel), x)
  count = _count(kernel, x)
  # The zeros wait for x: else memory is set aside for them from the start.
  x, zero = jax.lax.optimization_barrier((batches.split(x, count), 0.0))

  def piece(i):
    spread = _tiles(_along_both(into, _pixels_first(x[:, i])))
    products = _multiply(spread, weights, by=3)
    y = _along_both(out_of, _joined(products))
    return _images_first(y).astype(x.dtype)

  if count == 1:
    return piece(0)
  y = jnp.full((*x.shape[:-1], kernel.shape[-1]), zero, x.dtype)
  y = jax.lax.fori_loop(0, count, lambda i, y: y.at[:, i].set(piece(i)), y)
  return y.reshape(-1, *y.shape[2:])


def gradients(
  x: jax.Array, kernel: jax.Array, grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The gradients of `convolve` by its input and by its kernel.

  Args:
    x: `[B, H, W, D]`, as `convolve` takes it.
    kernel: `[3, 3, D, F]`.
    grad: Gradient of the output, `[B, H, W, F]`.

  Returns:
    Arrays as `x` and `kernel`, computed in fp32.
  """
  shape, dtype = x.shape, kernel.dtype
  # Else XLA would keep the weights, large ones, from the forward pass on.
  kernel, grad, zero = jax.lax.optimization_barrier((kernel, grad, 0.0))
  into, _, from_out_of, from_into = _bands(shape)
  weights = _weights(kernel)
  of_each_row = _of_each_row(weights, x)
  count = _count(kernel, x, grad)
  x, grad = batches.split(x, count), batches.split(grad, count)

  def piece(i):
    products = _tiles(_along_both(from_out_of, _pixels_first(grad[:, i])))
    spread = _joined(_multiply(products, of_each_row, by=4))
    by_x = _images_first(_along_both(from_into, spread)).astype(x.dtype)
    spread = _tiles(_along_both(into, _pixels_first(x[:, i])))
    return by_x, _correlate(spread, products)

  def add_piece(i, sums):
    by_x, by_weights = piece(i)
    return sums[0].at[:, i].set(by_x), sums[1] + by_weights

  if count == 1:
    by_x, by_weights = piece(0)
  else:
    zeros = (
      jnp.full(x.shape, zero, x.dtype),
      jnp.full(weights.shape, zero, weights.dtype),
    )
    by_x, by_weights = jax.lax.fori_loop(0, count, add_piece, zeros)
  by_weights = by_weights.reshape(_N * _N, *weights.shape[2:])
  by_kernel = jnp.tensordot(_kernel_to_weights().T, by_weights, 1)
  by_kernel = by_kernel.reshape(_TAPS, _TAPS, *weights.shape[2:])
  return by_x.reshape(shape), by_kernel.astype(dtype)


@functools.cache
def _line() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """`y = outputs @ ((kernel @ w) * (inputs @ x))`, a tile of one dimension."""
  points = np.array(_POINTS)
  outputs = np.zeros((_TILE, _N))
  kernel = np.zeros((_N, _TAPS))
  inputs = np.zeros((_N, _N))
  for i, point in enumerate(points):
    others = np.delete(points, i)
    outputs[:, i] = point ** np.arange(_TILE)
    kernel[i] = point ** np.arange(_TAPS) / np.prod(point - others)
    inputs[i, :-1] = np.poly(others)[::-1]
  # The point at infinity.
  outputs[-1, -1] = kernel[-1, -1] = 1
  inputs[-1] = np.poly(points)[::-1]
  outputs, kernel, inputs = (
    a.astype(np.float32) for a in (outputs, kernel, inputs)
  )
  return outputs, kernel, inputs


@functools.cache
def _kernel_to_weights() -> np.ndarray:
  """`[N N, 9]`: `_line`'s for the kernel, in two dimensions."""
  kernel = _line()[1]
  return np.einsum("ia,jb->ijab", kernel, kernel).reshape(_N * _N, -1)


def _weights(kernel: jax.Array) -> jax.Array:
  """`[3, 3, D, F]` to `[N, N, D, F]`."""
  flat = kernel.astype(jnp.float32).reshape(_TAPS * _TAPS, -1)
  weights = jnp.matmul(_kernel_to_weights(), flat)
  return weights.reshape(_N, _N, *kernel.shape[2:])


@functools.cache
def _band(size: int) -> tuple[np.ndarray, np.ndarray]:
  """`_line` for all T tiles of a side: `[N T, size]` and `[size, N T]`."""
  outputs, _, inputs = _line()
  tiles = size // _TILE
  into = np.zeros((_N, tiles, size + _TAPS - 1), np.float32)
  out_of = np.zeros((tiles, _TILE, _N, tiles), np.float32)
  for t in range(tiles):
    into[:, t, t * _TILE : t * _TILE + _N] = inputs
    out_of[t, :, :, t] = outputs
  # What falls on the padding, one pixel at either end, is left out.
  into = into.reshape(_N * tiles, -1)[:, 1:-1]
  return into, out_of.reshape(size, _N * tiles)


def _bands(shape: tuple[int, ...]) -> list[tuple[np.ndarray, jax.Array]]:
  """Into and out of the products, and the transposed of both."""
  (into_h, out_of_h), (into_w, out_of_w) = map(_band, shape[1:3])
  pairs = [
    (into_h, into_w),
    (out_of_h, out_of_w),
    (out_of_h.T, out_of_w.T),
    (into_h.T, into_w.T),
  ]
  return [(h, _repeated(w, (len(h), *w.shape), (1, 2))) for h, w in pairs]


def _repeated(
  x: jax.Array | np.ndarray, shape: tuple[int, ...], axes: tuple[int, ...]
) -> jax.Array:
  # Once, and not in each round of a loop.
  x = jax.lax.broadcast_in_dim(jnp.asarray(x), shape, axes)
  return jax.lax.optimization_barrier(x)


def _of_each_row(weights: jax.Array, x: jax.Array) -> jax.Array:
  """`[N, N, D, F]` to `[N, T, N, D, F]`, for T rows of tiles."""
  shape = (_N, x.shape[1] // _TILE, *weights.shape[1:])
  return _repeated(weights, shape, (0, 2, 3, 4))


def _count(kernel: jax.Array, *arrays: jax.Array) -> int:
  # Each piece reads the weights: one no larger than the kernel is too small.
  least = max(_PIECE_BYTES, 4 * kernel.size)
  return batches.count(*arrays, least=least, most=_MAX_PIECES)


def _pixels_first(x: jax.Array) -> jax.Array:
  return jnp.transpose(x, (1, 2, 0, 3)).astype(jnp.float32)


def _images_first(x: jax.Array) -> jax.Array:
  return jnp.transpose(x, (2, 0, 1, 3))


def _along_both(
  matrices: tuple[np.ndarray, jax.Array], x: jax.Array
) -> jax.Array:
  """Products with one matrix along height and width of `[H, W, B, C]`."""
  by_height, by_width = matrices
  rows = jax.lax.dot_general(by_height, x, (((1,), (0,)), ((), ())))
  return jax.lax.dot_general(by_width, rows, (((2,), (1,)), ((0,), (0,))))


def _tiles(x: jax.Array) -> jax.Array:
  """`[N T, N S, B, C]` as `[N, T, N, S, B, C]`."""
  height, width = (size // _N for size in x.shape[:2])
  return x.reshape(_N, height, _N, width, *x.shape[2:])


def _joined(x: jax.Array) -> jax.Array:
  """The reverse of `_tiles`."""
  return x.reshape(_N * x.shape[1], _N * x.shape[3], *x.shape[4:])


def _multiply(x: jax.Array, weights: jax.Array, *, by: int) -> jax.Array:
  """`[N, T, N, S, B, C]` with each of `[N, T, N, D, F]`, C being axis `by`."""
  each = ((0, 1, 2), (0, 1, 2))
  return jax.lax.dot_general(x, weights, (((5,), (by,)), each))


def _correlate(x: jax.Array, grad: jax.Array) -> jax.Array:
  """Sums over tiles and images: `[N, T, N, S, B, D]` to `[N, N, D, F]`."""
  each = ((0, 1, 2), (0, 1, 2))
  return jax.lax.dot_general(x, grad, (((3, 4), (3, 4)), each)).sum(1)
