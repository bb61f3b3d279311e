"""Several processes as one run: on a TPU pod, or on several GPU hosts.

Each process runs the same program on the same config and holds some of the
devices. Whatever decides what is computed next must be the same in all: what
depends on a clock, a signal or a file is decided by the first process, or by
all together, and told to the others here. A single process asks nobody.

The first process alone writes metrics, tables and the report. All write their
part of each checkpoint, so the run's folder lies on a file system they share. A
process that dies takes the others with it, after a timeout at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import hashlib
import json
from pathlib import Path
import time
from typing import Any
import uuid

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
import numpy as np

from ltjax.devices import sharding

# Seconds for which a new file may be unseen on another host.
_FILE_DELAY = 10.0


class PeerError(RuntimeError):
  """Another process of the run cannot go on."""


def initialize(
  *,
  automatic: bool = False,
  coordinator: str | None = None,
  processes: int | None = None,
  process_id: int | None = None,
  timeout_s: int = 100,
) -> None:
  """Joins the other processes of the run; before anything else uses JAX.

  Args:
    automatic: ask the TPU pod, SLURM or Open MPI who the others are.
    coordinator: or say it: `host:port` of the first process,
    processes: how many there are,
    process_id: and which one this is, from 0.
    timeout_s: a process not heard of for so long is given up; all end.

  Raises:
    ValueError: if the settings do not say who the processes are.
    RuntimeError: if the others cannot be reached.
  """
  by_hand = (coordinator, processes, process_id) != (None, None, None)
  if by_hand:
    _check(automatic, coordinator, processes, process_id)
  elif not automatic:
    return
  # Signals are ours: a run saves and stops, see `Votes`.
  jax.config.update("jax_enable_preemption_service", False)
  jax.distributed.initialize(
    coordinator_address=coordinator,
    num_processes=processes,
    process_id=process_id,
    cluster_detection_method="deactivate" if by_hand else None,
    heartbeat_timeout_seconds=timeout_s,
    shutdown_timeout_seconds=timeout_s,
  )


def _check(
  automatic: bool,
  coordinator: str | None,
  processes: int | None,
  process_id: int | None,
) -> None:
  """Raises ValueError unless the three flags belong together."""
  if automatic:
    raise ValueError(
      "--distributed finds the processes by itself; give either it or"
      " --coordinator, --processes and --process_id."
    )
  if coordinator is None or processes is None or process_id is None:
    raise ValueError(
      "--coordinator, --processes and --process_id belong together, as in"
      " --coordinator=host0:8476 --processes=2 --process_id=0."
    )
  if not coordinator.rpartition(":")[2].isdigit():
    raise ValueError(
      f"--coordinator is {coordinator!r}; it must be host:port, as host0:8476."
    )
  if not 0 <= process_id < processes:
    raise ValueError(
      f"--process_id is {process_id}; with --processes={processes} it must be"
      f" from 0 to {processes - 1}."
    )


def several() -> bool:
  """Whether this process has others."""
  return jax.process_count() > 1


def first() -> bool:
  """Whether this process is the one that writes."""
  return jax.process_index() == 0


def share(value: Any) -> list[Any]:
  """Returns the JSON-able values that all processes gave, in their order."""
  if not several():
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array(len(text), np.int32))
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[: len(text)] = text
  rows = multihost_utils.process_allgather(padded)
  return [
    json.loads(bytes(row[:size]).decode())
    for row, size in zip(rows, sizes, strict=True)
  ]


def on_first(function: Callable[[], Any]) -> Any:
  """Runs a function in the first process, and tells all its JSON-able value.

  If it raises an error, the others raise a PeerError.
  """
  if not several():
    return function()
  value, error = None, None
  try:
    value = function() if first() else None
  except Exception as caught:
    error = caught
  said = f"{type(error).__name__}: {error}" if error else None
  value, said = share([value, said])[0]
  if error:
    raise error
  if said:
    raise PeerError(f"The first process stopped. {said}")
  return value


def check_same(config: Mapping[str, Any]) -> None:
  """Raises ValueError unless all processes have the same JSON-able config."""
  text = json.dumps(config, sort_keys=True)
  found = share(hashlib.sha256(text.encode()).hexdigest())
  others = [i for i, digest in enumerate(found) if digest != found[0]]
  if others:
    raise ValueError(
      f"The config of process {others[0]} is not that of process 0. Start all"
      " processes with the same config file and the same --config flags."
    )


def check_shared(folder: Path) -> None:
  """Raises ValueError unless all processes see the first one's folder."""
  if not several():
    return

  def make() -> str:
    name = f".shared-{uuid.uuid4().hex}"
    (folder / name).touch()
    return name

  path = folder / on_first(make)
  until = time.monotonic() + _FILE_DELAY
  while not path.exists() and time.monotonic() < until:
    time.sleep(0.1)
  seen = share(path.exists())
  if first():
    path.unlink(missing_ok=True)
  if not all(seen):
    raise ValueError(
      f"Process {seen.index(False)} of {len(seen)} does not see what process 0"
      f" wrote to {folder}. Several processes need a --workdir on a file system"
      " that all of them share, such as NFS, under the same path."
    )


class Votes:
  """Agreement of all processes, after each call, on whether to save or stop.

  A single process has its way at once. Among several the answer is one call
  late: it is summed up on the devices, behind the steps, and nobody waits.
  """

  def __init__(self, mesh: Mesh):
    self._mesh = mesh
    whole = sharding.replicated(mesh)
    self._most = jax.jit(lambda votes: votes.max(0), out_shardings=whole)
    self._asked: jax.Array | None = None

  def ask(self, signum: int | None, due: bool) -> tuple[int | None, bool]:
    """Returns (signal to stop for or None, whether to save), as all agreed.

    One process's signal is enough; that a save is due the first one decides.
    """
    if not several():
      return signum, due
    before, self._asked = self._asked, self._ask(signum, due)
    return (None, False) if before is None else self._read(before)

  def now(self, signum: int | None) -> int | None:
    """As `ask`, waiting for the answer of this call."""
    if not several():
      return signum
    return self._read(self._ask(signum, False))[0]

  def _ask(self, signum: int | None, due: bool) -> jax.Array:
    mine = np.array([[signum or 0, due and first()]], np.int32)
    here = sharding.local(np.arange(self._mesh.size), self._mesh)
    votes = sharding.assemble(np.repeat(mine, len(here), 0), self._mesh)
    return self._most(votes)

  def _read(self, answer: jax.Array) -> tuple[int | None, bool]:
    signum, due = (int(x) for x in np.asarray(answer))
    return signum or None, bool(due)
