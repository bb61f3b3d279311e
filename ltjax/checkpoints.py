"""Checkpoints: whole state to disk, newest readable state back.

The only module that knows orbax. A checkpoint is a pytree of arrays with a
small JSON record (where in the run it was taken) and a digest of its bytes, so
that a damaged one is noticed and the one before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import hashlib
import logging
from pathlib import Path
from typing import Any
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

PyTree = Any

# Orbax numbers checkpoints; the position (stage, step) becomes one number.
_STEPS_PER_STAGE = 1_000_000_000


class CheckpointError(RuntimeError):
  """A checkpoint could not be written, or none could be read."""


def digest(tree: PyTree) -> str:
  """Returns a SHA-256 over the paths, types and bytes of a tree's arrays."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    sha.update(jax.tree_util.keystr(path).encode())
    sha.update(f"{array.dtype}{array.shape}".encode())
    sha.update(array.data)
  return sha.hexdigest()


class Checkpoints:
  """The checkpoints of one run, in one directory.

  Args:
    directory: made if missing.
    keep: how many of the newest stay; at least 2, so that a damaged newest
      has one before it.

  Raises:
    ValueError: if `keep` is below 2.
  """

  def __init__(self, directory: str | Path, *, keep: int = 3):
    if keep < 2:
      raise ValueError(f"run.keep is {keep}; at least 2 checkpoints are kept.")
    self._directory = Path(directory).absolute()
    self._directory.mkdir(parents=True, exist_ok=True)
    self._checkpointer = ocp.training.Checkpointer(
      self._directory,
      preservation_policy=ocp.training.preservation_policies.LatestN(keep),
      cleanup_tmp_directories=True,
    )

  def save(
    self, position: tuple[int, int], tree: PyTree, meta: Mapping[str, Any]
  ) -> None:
    """Writes `tree` as the checkpoint of `position` = (stage, step).

    Returns when it is on disk. An older one at the same position is replaced.

    Raises:
      CheckpointError: if it could not be written; earlier ones stay.
    """
    number = position[0] * _STEPS_PER_STAGE + position[1]
    meta = dict(
      meta, position=list(position), digest=digest(tree), shapes=_shapes(tree)
    )
    try:
      self._checkpointer.save(
        number,
        _without_empty(tree),
        overwrite=True,
        force=True,
        custom_metadata=meta,
      )
    except Exception as error:
      raise CheckpointError(
        f"The checkpoint could not be written to {self._directory}"
        f" ({type(error).__name__}: {str(error).splitlines()[0]}). The earlier"
        " checkpoints are kept: free space or permissions there, then run the"
        " same command again."
      ) from error

  def restore(
    self, make_target: Callable[[Mapping[str, Any]], PyTree]
  ) -> tuple[PyTree, Mapping[str, Any]] | None:
    """Returns the newest readable checkpoint and its record.

    A damaged checkpoint is reported and deleted, and the one before it is
    tried.

    Args:
      make_target: maps the record to the tree expected, of arrays or
        `jax.ShapeDtypeStruct`s; its ValueErrors mean "of another model" and
        are not taken for damage.

    Returns:
      `(tree, record)`, or None if there is no checkpoint at all.

    Raises:
      CheckpointError: if there are checkpoints, but none can be read.
      ValueError: if a checkpoint holds other shapes than the target.
    """
    numbers = sorted((c.step for c in self._checkpointer.checkpoints), key=int)
    if not numbers:
      return None
    for number in reversed(numbers):
      try:
        meta = self._checkpointer.metadata(number).custom_metadata
        position = tuple(meta["position"])
      except Exception as error:
        self._skip(number, error)
        continue
      target = make_target(meta)
      _check_shapes(meta["shapes"], _shapes(target), self._directory)
      try:
        with warnings.catch_warnings():
          # One process, one topology: shardings are set by the caller.
          warnings.filterwarnings("ignore", message="Sharding info")
          tree = self._checkpointer.load(number, _without_empty(target))
        tree = _with_empty(tree, target)
        if digest(tree) != meta["digest"]:
          raise ValueError("its bytes do not match its digest")
      except Exception as error:
        self._skip(number, error)
        continue
      logging.info("Restored checkpoint %s of %s", position, self._directory)
      return tree, meta
    raise CheckpointError(
      f"None of the {len(numbers)} checkpoints in {self._directory} can be"
      " read. Remove that folder to start the run again."
    )

  def _skip(self, number: int, error: Exception) -> None:
    """Warns about a damaged checkpoint and takes it out of the way."""
    position = divmod(number, _STEPS_PER_STAGE)
    logging.warning(
      "The checkpoint of stage %d, step %d in %s is damaged (%s); it is removed"
      " and the one before it is used.",
      *position,
      self._directory,
      _reason(error),
    )
    self._checkpointer.delete(number)

  def close(self) -> None:
    """Releases orbax's threads."""
    self._checkpointer.close()


def read(
  directory: str | Path, make_target: Callable[[Mapping[str, Any]], PyTree]
) -> tuple[PyTree, Mapping[str, Any]]:
  """Reads the newest checkpoint of a directory, and changes nothing there.

  Args:
    directory: holds the checkpoints.
    make_target: as for `Checkpoints.restore`.

  Returns:
    `(tree, record)`.

  Raises:
    CheckpointError: if there is none, or it cannot be read.
    ValueError: if it holds other shapes than the target.
  """
  directory = Path(directory).absolute()
  names = [p.name for p in directory.glob("[0-9]*") if p.name.isdigit()]
  if not names:
    raise CheckpointError(f"There is no checkpoint in {directory}.")
  path = directory / max(names, key=int)
  damaged = f"The checkpoint {path} is damaged"
  try:
    meta = ocp.metadata(path).custom_metadata
    shapes, wanted = meta["shapes"], meta["digest"]
  except Exception as error:
    raise CheckpointError(f"{damaged} ({_reason(error)}).") from error
  target = make_target(meta)
  _check_shapes(shapes, _shapes(target), directory)
  try:
    with warnings.catch_warnings():
      warnings.filterwarnings("ignore", message="Sharding info")
      tree = ocp.load(path, _without_empty(target))
    tree = _with_empty(tree, target)
    if digest(tree) != wanted:
      raise ValueError("its bytes do not match its digest")
  except Exception as error:
    raise CheckpointError(f"{damaged} ({_reason(error)}).") from error
  return tree, meta


def _reason(error: Exception) -> str:
  """Returns the first line of an error, or its name where it says nothing."""
  return str(error).splitlines()[0] if str(error) else type(error).__name__


def _without_empty(tree: PyTree) -> PyTree:
  """Returns the tree with None for arrays of no element (orbax refuses them)."""
  return jax.tree.map(lambda x: x if x.size else None, tree)


def _with_empty(tree: PyTree, target: PyTree) -> PyTree:
  """Returns the tree with the target's arrays of no element put back."""
  leaves = iter(jax.tree.leaves(tree))
  return jax.tree.map(
    lambda x: next(leaves) if x.size else jnp.zeros(x.shape, x.dtype), target
  )


def _shapes(tree: PyTree) -> dict[str, list[int]]:
  """Returns the shape of each array of a tree, by its path."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def _check_shapes(
  stored: Mapping[str, list[int]],
  wanted: Mapping[str, list[int]],
  directory: Path,
) -> None:
  """Raises ValueError if a stored tree is not of the wanted shapes."""
  wrong = [
    f"{name}: stored {stored.get(name, 'nothing')}, needed"
    f" {wanted.get(name, 'nothing')}"
    for name in sorted({*stored, *wanted})
    if stored.get(name) != wanted.get(name)
  ]
  if wrong:
    raise ValueError(
      f"The checkpoint in {directory} is of another model or data set"
      f" ({len(wrong)} arrays differ; {wrong[0]}). Use the config that wrote"
      " it, or another workdir."
    )
