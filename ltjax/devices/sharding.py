"""Data parallelism: one mesh axis, the same step function on any device count.

Parameters and images are replicated; a batch (a vector of indices) and the
per-sample memory are split over the devices. Under `jit` means over the batch
and BatchNorm statistics are global, not per device, so the results equal those
of one device up to the order of summation. Each of several processes holds a
part of every array, from its own memory; nothing is sent.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

PyTree = Any


def make_mesh(num_devices: int | None = None) -> Mesh:
  """Returns a 1-D mesh named `data` over the first devices; by default all.

  More than there are are a ValueError.
  """
  devices = jax.devices()
  count = len(devices) if num_devices is None else num_devices
  if not 1 <= count <= len(devices):
    raise ValueError(f"{count} devices asked for, {len(devices)} at hand.")
  # Explicit axes (the default of make_mesh) would refuse `images[index]`.
  return jax.make_mesh(
    (count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count]
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of arrays that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh, batch_axis: int = 0) -> NamedSharding:
  """Returns the sharding that splits axis `batch_axis` over the devices."""
  return NamedSharding(mesh, PartitionSpec(*([None] * batch_axis), "data"))


def of_state(tree: PyTree, mesh: Mesh) -> PyTree:
  """Returns the sharding of each array, or `jax.ShapeDtypeStruct`, of a state.

  This is the one rule for what is split: per-sample memories, the leaves of
  name `memory` and shape `[R, C]`, by rows, if there are several devices and
  they divide the rows. `padded` gives such an `R`. All else is replicated.
  """
  whole, rows = replicated(mesh), batched(mesh)

  def rule(path, leaf):
    memory = path and getattr(path[-1], "name", None) == "memory"
    divides = leaf.ndim == 2 and leaf.size and leaf.shape[0] % mesh.size == 0
    return rows if memory and divides and mesh.size > 1 else whole

  return jax.tree_util.tree_map_with_path(rule, tree)


def shaped(tree: PyTree, mesh: Mesh) -> PyTree:
  """Returns the shapes of a state with the sharding of each array."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    tree,
    of_state(tree, mesh),
  )


def padded(num_rows: int, mesh: Mesh) -> int:
  """Returns the least number of rows, `num_rows` or more, that can be split.

  Memory is padded, not replicated, where the devices do not divide it: what
  does not fit on one device is why there are many. Nobody reads the rows added.
  """
  return -(-num_rows // mesh.size) * mesh.size


def place(tree: PyTree, mesh: Mesh) -> PyTree:
  """Puts a state on the devices, as `of_state` says."""
  return jax.tree.map(put, tree, of_state(tree, mesh))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
  """Puts every array of `tree` on all devices of the mesh."""
  whole = replicated(mesh)
  return jax.tree.map(lambda x: put(x, whole), tree)


def put(array: Any, sharding: NamedSharding) -> jax.Array:
  """Puts an array, the same in each process, on devices, others' too."""
  if sharding.is_fully_addressable or isinstance(array, jax.core.Tracer):
    return jax.device_put(array, sharding)
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    return jax.device_put(array, sharding)
  # `device_put` would first compare the values of all processes; and it does
  # not know random keys there.
  if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
    data = put(jax.random.key_data(array), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
  host = np.asarray(array)
  return jax.make_array_from_callback(
    host.shape, sharding, lambda part: host[part]
  )


def local(index: np.ndarray, mesh: Mesh) -> np.ndarray:
  """Returns the part of a batch that the devices of this process hold.

  `index` is `[B]`, the same in every process; the part is `[B * L / D]`, where
  `L` of the `D` devices, which divide `B`, are of this process.
  """
  return np.asarray(index)[_local_rows(len(index), mesh)]


def assemble(rows: np.ndarray, mesh: Mesh) -> jax.Array:
  """Returns the whole batch, split over the devices, from the local parts.

  `rows` is `[B * L / D, ...]`, what belongs to `local` of the batch's index;
  the result is `[B, ...]`, of which each process holds the rows it gave.
  """
  here = sum(d.process_index == jax.process_index() for d in mesh.devices.flat)
  shape = (len(rows) // here * mesh.size, *rows.shape[1:])
  return jax.make_array_from_process_local_data(batched(mesh), rows, shape)


def _local_rows(count: int, mesh: Mesh) -> np.ndarray:
  """Returns the rows `[L]` of `count` that this process holds, rising."""
  parts = batched(mesh).addressable_devices_indices_map((count,)).values()
  rows = np.arange(count)
  return np.sort(np.concatenate([rows[part] for part in parts]))


def check_batch(batch_size: int, mesh: Mesh, name: str) -> None:
  """Raises ValueError if a batch does not split evenly over the devices.

  Args:
    batch_size: samples in a step.
    mesh: the devices.
    name: the stage's block in the config, for the error.
  """
  if batch_size % mesh.size:
    raise ValueError(
      f"{name}.batch_size is {batch_size}, which {mesh.size} devices cannot"
      f" share evenly; set --config.{name}.batch_size to a multiple of"
      f" {mesh.size}."
    )
