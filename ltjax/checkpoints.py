"""Checkpoints: whole state to disk, newest readable state back.

The only module that knows orbax. A checkpoint is a pytree of arrays with a
small JSON record (where in the run it was taken), a digest of its arrays and a
seal of its files, so that a damaged one is noticed, without handing it to
orbax, and the one before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import hashlib
import logging
from pathlib import Path
from typing import Any
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from ltjax import seals

PyTree = Any

# Orbax numbers checkpoints; the position (stage, step) becomes one number.
_STEPS_PER_STAGE = 1_000_000_000


class CheckpointError(RuntimeError):
  """A checkpoint could not be written, or none could be read."""


class _DamagedError(Exception):
  """A checkpoint is there, but not what was written."""


def digest(tree: PyTree) -> str:
  """Returns a SHA-256 over the paths, types and bytes of a tree's arrays."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    sha.update(jax.tree_util.keystr(path).encode())
    sha.update(f"{array.dtype}{array.shape}".encode())
    sha.update(array.reshape(-1).view(np.uint8).data)  # bfloat16 has no .data
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
    # Any: LatestN is not quite what orbax's annotation says a policy is.
    policy: Any = ocp.training.preservation_policies.LatestN(keep)
    with _quiet():
      self._checkpointer = ocp.training.Checkpointer(
        str(self._directory),
        preservation_policy=policy,
        cleanup_tmp_directories=True,
      )

  def save(
    self, position: tuple[int, int], tree: PyTree, meta: Mapping[str, Any]
  ) -> None:
    """Writes `tree` as the checkpoint of `position` = (stage, step).

    Returns when it is on disk. An older one at the same position is replaced.

    Args:
      position: stage index and step.
      tree: a pytree of arrays.
      meta: what to note beside it, JSON-able.

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
      seals.write(self._directory / str(number))
    except Exception as error:
      raise CheckpointError(
        f"The checkpoint could not be written to {self._directory}"
        f" ({type(error).__name__}: {_reason(error)}). The earlier checkpoints"
        " are kept: free space or permissions there, then run the same command"
        " again."
      ) from error

  def restore(
    self, make_target: Callable[[Mapping[str, Any]], PyTree]
  ) -> tuple[PyTree, Mapping[str, Any]] | None:
    """Returns the newest readable checkpoint and its record.

    A damaged checkpoint is reported, and the one before it is tried. If that
    one is whole, the damaged one is deleted; if none is, all are left alone.

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
    numbers = _numbers(self._directory)
    damaged = []
    for number in reversed(numbers):
      try:
        found = _load(self._directory / str(number), make_target)
      except _DamagedError as error:
        logging.warning(
          "The checkpoint of stage %d, step %d in %s is damaged (%s); trying"
          " the one before it.",
          *divmod(number, _STEPS_PER_STAGE),
          self._directory,
          error,
        )
        damaged.append(number)
        continue
      with _quiet():
        for number in damaged:
          self._checkpointer.delete(number)
      return found
    if not numbers:
      return None
    raise CheckpointError(
      f"None of the {len(numbers)} checkpoints in {self._directory} can be"
      " read. Restore them from a copy, or remove that folder to start the run"
      " again."
    )

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
  numbers = _numbers(directory)
  if not numbers:
    raise CheckpointError(f"There is no checkpoint in {directory}.")
  path = directory / str(numbers[-1])
  try:
    return _load(path, make_target)
  except _DamagedError as error:
    raise CheckpointError(
      f"The checkpoint {path} is damaged ({error})."
    ) from error


def _numbers(directory: Path) -> list[int]:
  """Returns the numbers of the whole checkpoints of a directory, rising."""
  return sorted(int(p.name) for p in directory.glob("*") if p.name.isdigit())


def _load(
  path: Path, make_target: Callable[[Mapping[str, Any]], PyTree]
) -> tuple[PyTree, Mapping[str, Any]]:
  """Returns the tree and the record of a checkpoint, or raises _DamagedError."""
  try:
    seals.check(path)
    with _quiet():
      meta: Any = ocp.metadata(str(path)).custom_metadata
    shapes, wanted = meta["shapes"], meta["digest"]
  except Exception as error:
    raise _DamagedError(_reason(error)) from error
  target = make_target(meta)
  _check_shapes(shapes, _shapes(target), path.parent)
  try:
    with _quiet(), warnings.catch_warnings():
      # One process, one topology: shardings are set by the caller.
      warnings.filterwarnings("ignore", message="Sharding info")
      tree = ocp.load(str(path), _without_empty(target))
    tree = _with_empty(tree, target)
    if digest(tree) != wanted:
      raise ValueError("its arrays do not match their digest")
  except Exception as error:
    raise _DamagedError(_reason(error)) from error
  return tree, meta


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Mutes orbax about damage, which is reported here in one line."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(level)


def _reason(error: Exception) -> str:
  """Returns the first words of an error, or its name where it says nothing."""
  text = next(iter(str(error).splitlines()), "") or type(error).__name__
  return text if len(text) <= 200 else f"{text[:200]}..."


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
