"""A batch in pieces, so that what a CPU does with one stays in its cache."""

from __future__ import annotations

import jax


def count(*arrays: jax.Array, least: int, most: int) -> int:
  """Into how many pieces a batch is cut.

  Args:
    *arrays: `[B, ...]`, what is cut.
    least: Bytes of the largest of them that a piece has, or more.
    most: A bound on the result, for each piece has a cost of its own.

  Returns:
    A power of two that divides B.
  """
  batch = arrays[0].shape[0]
  size = max(a.size * a.dtype.itemsize for a in arrays)
  n = 1
  while 2 * n <= most and batch % (2 * n) == 0 and size > n * least:
    n *= 2
  return n


def split(x: jax.Array, n: int) -> jax.Array:
  """`[B, ...]` as `[B / n, n, ...]`; piece i is `[:, i]`.

  That is every n-th image from i on: where a batch is sharded over devices,
  each then has its part of each piece.
  """
  return x.reshape(x.shape[0] // n, n, *x.shape[1:])
