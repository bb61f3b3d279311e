"""Checkpoints: whole state to disk, newest readable state back.

The only module that knows orbax. A checkpoint is a pytree of arrays with a
small JSON record (where in the run it was taken) and a seal of its files, so
that of a damaged one the one before it is used. Each process writes and reads
its own parts of arrays, which are cut anew for other devices; the first one
seals and checks the files, and all agree on what is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
import logging
from pathlib import Path
import shutil
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from ltjax.checkpoints import integrity, resharding
from ltjax.devices import distributed, sharding

PyTree = Any

# Orbax numbers checkpoints; the position (stage, step) becomes one number.
_STEPS_PER_STAGE = 1_000_000_000


class CheckpointError(RuntimeError):
  """A checkpoint could not be written, or none could be read."""


class _DamagedError(Exception):
  """A checkpoint is there, but not what was written."""


class Checkpoints:
  """The checkpoints of one run, in one directory, which is made if missing.

  Args:
    directory, keep: the folder, and how many of the newest stay; at least 2,
      else a ValueError, so that a damaged newest has one before it.
  """

  def __init__(self, directory: str | Path, *, keep: int = 3):
    if keep < 2:
      raise ValueError(f"run.keep is {keep}; at least 2 checkpoints are kept.")
    self._directory = Path(directory).absolute()
    self._directory.mkdir(parents=True, exist_ok=True)
    self._keep = keep

  @functools.cached_property
  def _checkpointer(self) -> ocp.training.Checkpointer:
    """Orbax's, made when it first saves: it stumbles over damaged records."""
    # Any: LatestN is not quite what orbax's annotation says a policy is.
    policy: Any = ocp.training.preservation_policies.LatestN(self._keep)
    with _quiet():
      return ocp.training.Checkpointer(
        str(self._directory),
        preservation_policy=policy,
        cleanup_tmp_directories=True,
      )

  def save(
    self, position: tuple[int, int], tree: PyTree, meta: Mapping[str, Any]
  ) -> None:
    """Writes `tree` to disk as a checkpoint, or raises a CheckpointError.

    Args:
      position: (stage, step); an older one there is replaced, others stay.
      tree: a pytree of arrays.
      meta: what to note beside it, JSON-able.
    """
    number = position[0] * _STEPS_PER_STAGE + position[1]
    meta = dict(
      meta,
      position=list(position),
      shapes=resharding.shapes(tree),
      devices=resharding.num_devices(tree),
    )
    try:
      self._checkpointer.save(
        number,
        _without_empty(tree),
        overwrite=True,
        force=True,
        custom_metadata=meta,
      )
      if distributed.first():
        integrity.write(self._directory / str(number))
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
    """Returns the newest readable checkpoint and its record; None without any.

    A damaged checkpoint is reported, and the one before it is tried. If that
    one is whole, the damaged one is deleted; if none is, all are left alone.

    Args:
      make_target: maps the record to the tree expected, of arrays or
        `jax.ShapeDtypeStruct`s, with the shardings to read them to; its
        ValueErrors mean "of another model" and are not taken for damage.

    Raises:
      CheckpointError: if there are checkpoints, but none can be read.
      ValueError: if a checkpoint holds other shapes than the target.
    """
    numbers = distributed.on_first(lambda: _numbers(self._directory))
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
      self._delete(damaged)
      return found
    if not numbers:
      return None
    raise CheckpointError(
      f"None of the {len(numbers)} checkpoints in {self._directory} can be"
      " read. Restore them from a copy, or remove that folder to start the run"
      " again."
    )

  def _delete(self, numbers: Sequence[int]) -> None:
    paths = [self._directory / str(number) for number in numbers]
    distributed.on_first(lambda: [shutil.rmtree(path) for path in paths])

  def close(self) -> None:
    """Releases orbax's threads."""
    if "_checkpointer" in vars(self):
      self._checkpointer.close()


def read(
  directory: str | Path, make_target: Callable[[Mapping[str, Any]], PyTree]
) -> tuple[PyTree, Mapping[str, Any]]:
  """Reads the newest checkpoint of a directory, and changes nothing there.

  Tree, record and errors are as of `Checkpoints.restore`; it is an error too if
  there is no checkpoint.
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
  """Returns tree and record of a checkpoint, or raises _DamagedError."""
  with _damage():
    if distributed.first():
      integrity.check(path)
    with _quiet():
      meta: Any = ocp.metadata(str(path)).custom_metadata
    shapes = meta["shapes"]
  target = make_target(meta)
  devices = (meta.get("devices", 1), resharding.num_devices(target))
  resharding.check(shapes, resharding.shapes(target), devices, path.parent)
  with _damage():
    stored = resharding.stored(target, shapes)
    with _quiet():
      tree = ocp.load(str(path), _without_empty(stored))
  return resharding.cut(_with_empty(tree, stored), target), meta


@contextlib.contextmanager
def _damage() -> Iterator[None]:
  """Turns an error in any process into a _DamagedError in all."""
  reason, cause = None, None
  try:
    yield
  except Exception as error:
    reason, cause = _reason(error), error
  reason = next(filter(None, distributed.share(reason)), None)
  if reason:
    raise _DamagedError(reason) from cause


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
  """Returns the tree with None for empty arrays, which orbax refuses."""
  return jax.tree.map(lambda x: x if x.size else None, tree)


def _with_empty(tree: PyTree, target: PyTree) -> PyTree:
  """Returns the tree with the target's arrays of no element put back."""
  leaves = iter(jax.tree.leaves(tree))
  return jax.tree.map(
    lambda x: (
      next(leaves)
      if x.size
      else sharding.put(np.zeros(x.shape, x.dtype), x.sharding)
    ),
    target,
  )
