"""What a result was measured on: machine, versions, commit, date."""

from __future__ import annotations

from collections.abc import Iterator
import datetime
import importlib.util
import os
from pathlib import Path
import platform
import re
from typing import Any

import jax

from ltjax.runs import workdir

_PACKAGES = ("ltjax", "jax", "jaxlib", "flax", "optax")


def describe() -> dict[str, Any]:
  """Returns the machine, as JSON values.

  Returns:
    `device`, its kind (`cpu`, or as the maker calls it), and how many; the
    `processor` and its `cores`; `load`, the processes that wanted a core in the
    last minute; `versions`; the `commit` of the code, None if unknown, and the
    `date` in UTC.
  """
  devices = jax.devices()
  return {
    "device": devices[0].device_kind,
    "devices": len(devices),
    "processor": next(_processors(), platform.machine()),
    "cores": len(os.sched_getaffinity(0)),
    "load": round(os.getloadavg()[0], 2),
    "python": platform.python_version(),
    "versions": {name: workdir.version(name) for name in _PACKAGES} | _torch(),
    "commit": workdir.commit(),
    "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
  }


def slug(device: str) -> str:
  """Returns a device's name as part of a file name, such as `nvidia_h200`.

  Args:
    device: as `describe` has it.
  """
  return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


def _processors() -> Iterator[str]:
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return
  for line in lines:
    if line.startswith("model name"):
      yield line.partition(":")[2].strip()


def _torch() -> dict[str, str]:
  """Returns the version of the peer, which need not be there."""
  if importlib.util.find_spec("torch") is None:
    return {}
  return {"torch": workdir.version("torch")}
