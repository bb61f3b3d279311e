"""Memory: what a program needs on a device, and one error when it does not fit.

XLA decides the memory of a program when it compiles it, so what a stage needs
is known before its first step:

    peak = data + state + temporaries

`temporaries`, XLA's own number, are mainly activations and gradients, which
grow with the batch. The rest lies on the device before the step begins.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

PyTree = Any
GIB = 2**30
# On a CPU convolutions take up to half as much again beside XLA's number.
CPU_SHARE = 2 / 3
# A program that will not run is left rough on a CPU: it compiles in half the
# time, and its memory is the same.
_ROUGH = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}


class OutOfMemoryError(ValueError):
  """A program does not fit on the device; the message says what to lower."""


@dataclasses.dataclass(frozen=True)
class Batch:
  """A program's batch: what runs, the setting that names it, and its value.

  `what` is the subject of a sentence, as `Stage embedding`.
  """

  what: str
  field: str
  size: int


@dataclasses.dataclass(frozen=True)
class Needs:
  """What a program needs on the fullest device, in bytes.

  Attributes:
    data, state: what it reads, and what else lies there; what it updates.
    temporaries: XLA's own memory while it runs, and results that do not take
      the place of its arguments.
  """

  data: int
  state: int
  temporaries: int

  @property
  def peak(self) -> int:
    """The sum of all."""
    return self.data + self.state + self.temporaries


def bytes_of(tree: PyTree) -> int:
  """Returns the bytes of a tree's arrays on one device.

  A `jax.ShapeDtypeStruct` without a sharding is taken to be whole on each
  device. What is on the host counts nothing.
  """
  total = 0
  for leaf in jax.tree.leaves(tree):
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
      continue
    placed, shape = leaf.sharding, leaf.shape
    if placed is not None:
      shape = placed.shard_shape(shape)
    total += int(np.prod(shape, dtype=np.int64)) * leaf.dtype.itemsize
  return total


def in_use(device: jax.Device) -> int:
  """Returns the bytes of all arrays on a device of this process."""
  stats = device.memory_stats() or {}
  if "bytes_in_use" in stats:
    return int(stats["bytes_in_use"])
  buffers = {}  # Several arrays can share one.
  for array in jax.live_arrays():
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
      continue
    if device not in array.sharding.device_set:
      continue
    for shard in array.addressable_shards:
      if shard.device == device and shard.data.size:
        buffers[shard.data.unsafe_buffer_pointer()] = shard.data.nbytes
  return sum(buffers.values())


def limit(device: jax.Device, gib: float = 0.0) -> int | None:
  """Returns the bytes that arrays and temporaries may take; None if unknown.

  `gib` is `config.run.memory_limit_gib`, in 2**30 bytes; 0 asks the device. A
  CPU has what its arrays take already and its part of `CPU_SHARE` of what the
  host has free.
  """
  if gib:
    return int(gib * GIB)
  stats = device.memory_stats() or {}
  if "bytes_limit" in stats:
    return int(stats["bytes_limit"])
  free = host_free() if device.platform == "cpu" else None
  if free is None:
    return None
  return in_use(device) + int(CPU_SHARE * free) // jax.local_device_count()


def temporaries(lowered: Any, *, to_run: bool = True) -> int:
  """Compiles a program and returns the bytes it needs beside its arguments.

  Raises a JaxRuntimeError if XLA cannot, or finds that it does not fit.

  Args:
    lowered: `jax.jit(...).lower(...)`.
    to_run: whether it will be called, and is then not compiled again.
  """
  rough = not to_run and jax.default_backend() == "cpu"
  stats = lowered.compile(_ROUGH if rough else None).memory_analysis()
  if stats is None:
    return 0
  results = stats.output_size_in_bytes - stats.alias_size_in_bytes
  return stats.temp_size_in_bytes + stats.generated_code_size_in_bytes + results


def check(needs: Needs, batch: Batch, most: int | None) -> None:
  """Raises an OutOfMemoryError if a program needs more than its device has.

  Args:
    needs: of the program.
    batch: what to lower.
    most: bytes that the device has; None if unknown.
  """
  if most is None or needs.peak <= most:
    return
  raise OutOfMemoryError(
    f"{batch.what} does not fit on the device. It needs about"
    f" {text(needs.peak)} ({text(needs.data)} of data, {text(needs.state)} of"
    f" state, {text(needs.temporaries)} of temporaries), and the device has"
    f" {text(most)}. {_way_out(batch)} If the device has more than it tells,"
    " say how much: --config.run.memory_limit_gib."
  )


@contextlib.contextmanager
def explained(batch: Batch) -> Iterator[None]:
  """Turns XLA's "out of memory" into an OutOfMemoryError."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    first = str(error).splitlines()[0]
    raise OutOfMemoryError(
      f"{batch.what} does not fit on the device ({first}). {_way_out(batch)}"
    ) from error


def _way_out(batch: Batch) -> str:
  return (
    f"Lower --config.{batch.field} (it is {batch.size} now): temporaries grow"
    " with it. Less is also needed with --config.model.dtype=bfloat16, with the"
    " images on the host (--config.data.storage=host), and on each of more"
    " devices. What is saved stays; other settings need another --workdir."
  )


def text(count: int | None) -> str:
  """Returns bytes as text, `unknown` for None."""
  if count is None:
    return "unknown"
  return (
    f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"
  )


def host_free(root: str | Path = "/") -> int | None:
  """Returns the bytes that this process can still have on the host.

  That is what the kernel could give without swapping, within the limits of the
  process's control groups (containers, SLURM jobs); None where the system does
  not tell (it is no Linux). `root` is where `proc` and `sys` are; for tests.
  """
  root = Path(root)
  known = [
    1024 * int(line.split()[1])
    for line in _read(root / "proc/meminfo").splitlines()
    if line.startswith("MemAvailable:")
  ]
  for line in _read(root / "proc/self/cgroup").splitlines():
    _, controllers, path = line.split(":", 2)
    top, names = root / "sys/fs/cgroup", ("max", "current", "inactive_file")
    if "memory" in controllers.split(","):  # Version 1.
      top /= "memory"
      names = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
    elif controllers:
      continue
    # In a container the path is of the host, and only the top is there.
    folder = top / path.lstrip("/")
    for group in (folder, *folder.parents):
      if group.is_relative_to(top):
        known += _left(group, *names)
  return max(min(known), 0) if known else None


def _left(group: Path, most: str, used: str, cache: str) -> list[int]:
  """Returns the limit of a group less what it uses, caches of files aside."""
  values = [_read(group / f"memory.{name}").strip() for name in (most, used)]
  # Version 1 writes a number near 2 ** 63 for no limit, version 2 `max`.
  if not all(v.isdigit() for v in values) or int(values[0]) >= 2**60:
    return []
  words = _read(group / "memory.stat").split()
  pages = int(words[words.index(cache) + 1]) if cache in words else 0
  return [int(values[0]) - int(values[1]) + pages]


def _read(path: Path) -> str:
  try:
    return path.read_text()
  except OSError:
    return ""
