"""Memory: what a compiled step needs, and what the process has used."""

from __future__ import annotations

import resource
import sys
from typing import Any

import jax


def of_compiled(compiled: Any) -> int:
  """Returns the peak bytes of a compiled call, as XLA planned them.

  Arguments, results and what lies between; a donated argument counts once. On
  several devices this is the memory of each.

  Args:
    compiled: of `jax.jit(...).lower(...).compile()`.
  """
  plan = compiled.memory_analysis()
  if plan is None:
    return 0
  return (
    plan.argument_size_in_bytes
    + plan.output_size_in_bytes
    + plan.temp_size_in_bytes
    - plan.alias_size_in_bytes
  )


def of_process(device: jax.Device | None = None) -> dict[str, int]:
  """Returns the most memory that this process has held so far.

  Args:
    device: the first one by default.

  Returns:
    `host_bytes`; and `device_bytes` where the device counts them.
  """
  used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  # In KiB, but for macOS, which counts bytes.
  result = {"host_bytes": used * (1 if sys.platform == "darwin" else 1024)}
  stats = (device or jax.devices()[0]).memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    result["device_bytes"] = int(stats["peak_bytes_in_use"])
  return result
