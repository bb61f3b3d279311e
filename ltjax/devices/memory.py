"""Memory: what a program needs on a device, known before it runs.

XLA decides the memory of a program when it compiles it. So what a stage needs is
known before its first step:

    peak = data + state + held + temporaries

`data` is what the step reads (images, labels, features), `state` what it maps to
its successor (parameters, optimizer state, per-sample memory), `held` what else
lies on the device, and `temporaries` is XLA's own number: activations and
gradients, in the main, which grow with the batch. A stage that does not fit is
refused with the batch size that would fit, before anything is lost.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import numpy as np

from ltjax.devices import host_memory

PyTree = Any
GIB = 2**30
# On a CPU convolutions take up to half as much again beside XLA's number.
CPU_SHARE = 2 / 3
_ROUGH = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What a program needs on the fullest device, in bytes.

  Attributes:
    data: what it reads.
    state: what it updates.
    temporaries: XLA's own memory while it runs, and results that do not take
      the place of its arguments; None if XLA refused to compile it.
    held: what else lies there.
  """

  data: int
  state: int
  temporaries: int | None
  held: int = 0

  @property
  def resting(self) -> int:
    """What is there before the program runs."""
    return self.data + self.state + self.held

  @property
  def peak(self) -> int:
    """The sum of all."""
    return self.resting + (self.temporaries or 0)


@dataclasses.dataclass(frozen=True)
class Batch:
  """How a program's batch is called, and how to ask for another.

  Attributes:
    what: what runs, as the subject of a sentence: `Stage embedding`.
    field: the setting, such as `embedding.batch_size`.
    size: its value now.
    multiple: sizes must be multiples of it.
    lower: `size -> jax.stages.Lowered`, the program at a smaller batch; None if
      it has no other, and temporaries are taken to grow with the batch.
  """

  what: str
  field: str
  size: int
  multiple: int = 1
  lower: Callable[[int], Any] | None = None


def bytes_of(tree: PyTree) -> int:
  """Returns the bytes of a tree's arrays on one device.

  Args:
    tree: holds arrays, or `jax.ShapeDtypeStruct`s; one without a sharding is
      taken to be whole on each device. What is on the host counts nothing.
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
  """Returns the bytes of all arrays on a device.

  Args:
    device: of this process.
  """
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
  """Returns the bytes that arrays and temporaries may take on a device.

  Args:
    device: of this process.
    gib: `config.run.memory_limit_gib`, in 2**30 bytes; 0 asks the device. A CPU
      has what its arrays take already and its part of `CPU_SHARE` of what the
      host has free.

  Returns:
    None where nothing is known.
  """
  if gib:
    return int(gib * GIB)
  stats = device.memory_stats() or {}
  if "bytes_limit" in stats:
    return int(stats["bytes_limit"])
  free = host_memory.free() if device.platform == "cpu" else None
  if free is None:
    return None
  return in_use(device) + int(CPU_SHARE * free) // jax.local_device_count()


def temporaries(lowered: Any, *, to_run: bool = True) -> int | None:
  """Compiles a program and returns what it needs beside its arguments.

  Args:
    lowered: `jax.jit(...).lower(...)`.
    to_run: whether it will be called with the same arguments; it is then not
      compiled again. Otherwise a CPU's program is left rough: its memory is the
      same, and it compiles in half the time.

  Returns:
    Bytes on one device; None if XLA found at compiling that it does not fit.
  """
  try:
    rough = not to_run and jax.default_backend() == "cpu"
    stats = lowered.compile(_ROUGH if rough else None).memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    if not exhausted(error):
      raise
    return None
  if stats is None:
    return 0
  results = stats.output_size_in_bytes - stats.alias_size_in_bytes
  return stats.temp_size_in_bytes + stats.generated_code_size_in_bytes + results


def exhausted(error: BaseException) -> bool:
  """Whether an error of XLA says that memory ran out.

  Args:
    error: as it was raised.
  """
  return "RESOURCE_EXHAUSTED" in str(error)


def text(count: int | None) -> str:
  """Returns bytes as text.

  Args:
    count: how many; None if unknown.
  """
  if count is None:
    return "unknown"
  return (
    f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"
  )
