"""Digests of trees of arrays: equal if and only if the arrays are, bit for bit.

A SHA-256 reads bytes in order, so one process must have them all. Arrays that
are split over several processes enter as sums instead: each device adds up its
own rows, and the total is the same however the rows are split. Integers wrap
around, so the sums are exact, too.
"""

from __future__ import annotations

from collections.abc import Collection
import hashlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

PyTree = Any

_SEEDS = (0x9E3779B9, 0x3C6EF372)


def digest(tree: PyTree, summed: Collection[str] = ()) -> str:
  """Returns a SHA-256 over the paths, types and bytes of a tree's arrays.

  Args:
    tree: the arrays; those that no process holds whole are gathered.
    summed: paths of arrays of which only checksums enter, `[R, C]` float32
      that are too large to be gathered.
  """
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    name = jax.tree_util.keystr(path)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    sha.update(name.encode())
    sha.update(f"{leaf.dtype}{leaf.shape or (1,)}".encode())
    if name in summed:
      leaf = checksum(leaf)
    elif in_parts(leaf):
      leaf = multihost_utils.process_allgather(leaf, tiled=True)
    array = np.ascontiguousarray(leaf)
    sha.update(array.reshape(-1).view(np.uint8).data)  # bfloat16 has no .data
  return sha.hexdigest()


def checksum(rows: jax.Array | np.ndarray) -> np.ndarray:
  """Returns two sums over all elements of a hash of its bits and its place.

      s_k = sum_i h(h(i + seed_k) xor b_i)  mod 2^32

  with `b_i` the bits of element `i` as an integer, and `h` a hash of integers,
  one to one: a change of one element always changes the sums, any other all
  but surely.

  Args:
    rows: float32 `[R, C]`, on any devices.

  Returns:
    uint32 `[2]`, the same in all processes.
  """
  return np.asarray(_sums(rows))


@jax.jit
def _sums(rows: jax.Array) -> jax.Array:
  bits = jax.lax.bitcast_convert_type(rows, jnp.uint32)
  row = jax.lax.broadcasted_iota(jnp.uint32, rows.shape, 0)
  column = jax.lax.broadcasted_iota(jnp.uint32, rows.shape, 1)
  place = row * jnp.uint32(rows.shape[1]) + column
  hashes = [_hash(_hash(place + jnp.uint32(s)) ^ bits) for s in _SEEDS]
  return jnp.stack([jnp.sum(h, dtype=jnp.uint32) for h in hashes])


def _hash(x: jax.Array) -> jax.Array:
  """Two rounds of shift and multiply, as in common integer hashes."""
  for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
    x = (x ^ (x >> shift)) * jnp.uint32(factor)
  return x ^ (x >> 16)


def in_parts(leaf: Any) -> bool:
  """Whether no process has all of an array."""
  return isinstance(leaf, jax.Array) and not (
    leaf.is_fully_addressable or leaf.is_fully_replicated
  )


def paths_in_parts(tree: PyTree) -> list[str]:
  """Returns the paths of the arrays that no process has whole."""
  return [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    if in_parts(leaf)
  ]
