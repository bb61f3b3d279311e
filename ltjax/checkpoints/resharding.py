"""Resharding: a checkpoint of some devices is read by others.

A memory `[R, C]` has a row for each sample and a few more, so that the devices
share them evenly (`sharding.padded`). It is stored as it is, and what is read
is cut for the devices at hand, which need fewer or more of such rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, SingleDeviceSharding

from ltjax.devices import sharding

PyTree = Any


def shapes(tree: PyTree) -> dict[str, list[int]]:
  """Returns the shape of each array of a tree, by its path (`model/head`)."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def check(
  stored: Mapping[str, list[int]],
  wanted: Mapping[str, list[int]],
  devices: tuple[int, int],
  directory: Path,
) -> None:
  """Raises ValueError if a stored tree is not of the wanted shapes.

  Memories may differ in the rows that pad them, see `sharding.padded`.

  Args:
    stored, wanted: the shapes in the files, and those of the target.
    devices: how many devices the rows were padded for, stored and wanted.
    directory: where the files are, for the error.
  """

  def padding(name: str) -> bool:
    old, new = stored.get(name, []), wanted.get(name, [])
    if name.rpartition("/")[2] != "memory" or old[1:] != new[1:]:
      return False
    rows = (old[0], new[0])
    least = max(n - d for n, d in zip(rows, devices, strict=True))
    return 0 < min(rows) and least < min(rows)

  wrong = [
    f"{name}: stored {stored.get(name, 'nothing')}, needed"
    f" {wanted.get(name, 'nothing')}"
    for name in sorted({*stored, *wanted})
    if stored.get(name) != wanted.get(name) and not padding(name)
  ]
  if wrong:
    raise ValueError(
      f"The checkpoint in {directory} is of another model or data set"
      f" ({len(wrong)} arrays differ; {wrong[0]}). Use the config that wrote"
      " it, or another workdir."
    )


def num_devices(tree: PyTree) -> int:
  """Returns how many devices hold a tree; 1 if it does not say."""
  leaves = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(tree)]
  return max((s.num_devices for s in leaves if s is not None), default=1)


def stored(target: PyTree, shapes: Mapping[str, list[int]]) -> PyTree:
  """Returns what to read: the target in the shapes and places of the files.

  Where the devices do not divide the rows that others wrote, each reads all. A
  target without a sharding goes to one device.
  """

  def leaf_of(path, leaf):
    place = getattr(leaf, "sharding", None)
    if place is None:
      place = SingleDeviceSharding(jax.local_devices()[0])
    shape = tuple(
      shapes[jax.tree_util.keystr(path, simple=True, separator="/")]
    )
    if shape != leaf.shape and isinstance(place, NamedSharding):
      mesh: Any = place.mesh
      if shape[0] % mesh.size:
        place = sharding.replicated(mesh)
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=place)

  return jax.tree_util.tree_map_with_path(leaf_of, target)


def cut(tree: PyTree, target: PyTree) -> PyTree:
  """Returns a tree with the rows of the target: padding is dropped or added."""

  def resized(leaf, wanted):
    if leaf.shape == wanted.shape:
      return leaf
    rows = wanted.shape[0]
    more = max(rows - leaf.shape[0], 0)
    resize = jax.jit(
      lambda x: jnp.pad(x, ((0, more), (0, 0)))[:rows],
      out_shardings=wanted.sharding,
    )
    return resize(leaf)

  return jax.tree.map(resized, tree, target)
