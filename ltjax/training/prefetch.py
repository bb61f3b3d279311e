"""Gathering: the rows of the next batches, read while the device computes.

A step reads its images by `arrays["images"][index]`. Where they are on the
host, another thread gathers the rows, two batches ahead, and hands them to the
step as `Gathered`, which answers the same expression. So the same step runs on
images of either place; but it may read only the images of its own batch.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from ltjax.data.host import host_images
from ltjax.devices import sharding

PyTree = Any
_AHEAD = 2


class Gathered:
  """The rows of one batch, in the place of all images.

  Args:
    rows: `[B, H, W, C]`, the images of the batch.
    count: `N`, all images.
    index: int32 `[B]`, which images the rows are.
  """

  def __init__(
    self, rows: jax.Array, count: int, index: jax.Array | None = None
  ):
    self._rows, self._count, self._index = rows, count, index

  @property
  def shape(self) -> tuple[int, ...]:
    """`(N, H, W, C)`."""
    return (self._count, *self._rows.shape[1:])

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: jax.Array) -> jax.Array:
    """Returns the images `index`, which must be among those of the batch."""
    if self._index is None:
      raise TypeError("Gathered rows are read within a step only.")
    if index is self._index:
      return self._rows
    flat = jnp.ravel(index)
    place = jnp.argmax(flat[:, None] == self._index[None, :], axis=1)
    return self._rows[place].reshape((*index.shape, *self._rows.shape[1:]))

  def at_index(self, index: jax.Array) -> Gathered:
    """Returns the same rows, knowing which images they are."""
    return Gathered(self._rows, self._count, index)


jax.tree_util.register_pytree_node(
  Gathered,
  lambda x: ((x._rows, x._index), x._count),
  lambda count, children: Gathered(children[0], count, children[1]),
)


def bind(arrays: PyTree, index: jax.Array) -> PyTree:
  """Tells gathered rows in `arrays` which images they are, `index [B]`."""
  return jax.tree.map(
    lambda x: x.at_index(index) if isinstance(x, Gathered) else x,
    arrays,
    is_leaf=lambda x: isinstance(x, Gathered),
  )


def outline(arrays: PyTree, size: int, mesh: Mesh) -> PyTree:
  """Returns the shapes of what `ahead` yields, and reads nothing.

  Args:
    arrays, mesh: as of `ahead`; shapes will do.
    size: B.
  """

  def rows_of(leaf):
    if isinstance(leaf, host_images.HostImages):
      shape = (size, *leaf.shape[1:])
      placed = sharding.batched(mesh)
      row: Any = jax.ShapeDtypeStruct(shape, np.uint8, sharding=placed)
      return Gathered(row, len(leaf))
    placed = getattr(leaf, "sharding", None)
    if not isinstance(placed, jax.sharding.NamedSharding):
      placed = sharding.replicated(mesh)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed)

  return jax.tree.map(rows_of, arrays)


def on_host(arrays: PyTree) -> bool:
  """Whether any of `arrays` is read from the host."""
  leaves = jax.tree.leaves(arrays)
  return any(isinstance(leaf, host_images.HostImages) for leaf in leaves)


def ahead(
  arrays: PyTree, batches: Iterable[np.ndarray], mesh: Mesh
) -> Iterator[PyTree]:
  """Yields for each batch what its step reads, gathered ahead.

  That is `arrays`, with `Gathered` in the place of `HostImages`. An image that
  cannot be read is a BrokenImageError when its batch is due.

  Args:
    arrays: a tree of arrays and `HostImages`.
    batches: int32 `[B]` each.
    mesh: the devices; rows are split over them, arrays are on each.
  """
  leaves, structure = jax.tree.flatten(arrays)
  places = [
    i for i, x in enumerate(leaves) if isinstance(x, host_images.HostImages)
  ]
  fixed = sharding.replicate(
    [None if i in places else x for i, x in enumerate(leaves)], mesh
  )

  def load(index: np.ndarray) -> PyTree:
    full = list(fixed)
    for i in places:
      # Each process reads the rows of its own devices, no others.
      rows = leaves[i].read(sharding.local(index, mesh))
      full[i] = Gathered(sharding.assemble(rows, mesh), len(leaves[i]))
    return jax.tree.unflatten(structure, full)

  if not places:
    whole = jax.tree.unflatten(structure, fixed)
    for _ in batches:
      yield whole
    return
  executor = futures.ThreadPoolExecutor(1, thread_name_prefix="gather")
  waiting: collections.deque[futures.Future] = collections.deque()
  try:
    for index in batches:
      waiting.append(executor.submit(load, np.asarray(index)))
      if len(waiting) > _AHEAD:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    # What was being read when the run was stopped is not waited for.
    executor.shutdown(wait=False, cancel_futures=True)
