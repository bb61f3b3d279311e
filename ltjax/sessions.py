"""Sessions of a run: when, how long, with what, and how each ended."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
import time
from typing import Any

import jax

from ltjax import workdir as workdirs


def commit() -> str | None:
  """Returns the git commit of the code, marked if changed; None if unknown."""
  command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
  folder = Path(__file__).parent
  if not (folder.parent / "pyproject.toml").exists():
    return None  # Installed: the folder may lie in another repository.
  try:
    done = subprocess.run(
      command, cwd=folder, capture_output=True, text=True, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() or None


def version(package: str) -> str:
  """Returns the version of an installed package.

  Args:
    package: its name.

  Returns:
    `unknown (source)` for one that runs from its folder and is not installed.
  """
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "unknown (source)"


class Session:
  """Notes in `environment.json` where, with what and how long a run ran."""

  def __init__(self, folder: workdirs.Workdir):
    self._path = folder / "environment.json"

  def __enter__(self) -> None:
    self._began = time.monotonic()
    self._started = datetime.datetime.now(datetime.UTC)

  def __exit__(self, error_type: Any, *unused: object) -> None:
    try:
      sessions = list(json.loads(self._path.read_text())["sessions"])
    except (OSError, ValueError, TypeError, KeyError):
      sessions = []  # The first, or a damaged file: no reason to fail.
    sessions.append(
      {
        "started": self._started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - self._began, 1),
        "ended_by": error_type.__name__ if error_type else "completion",
        "command": sys.argv,
        "commit": commit(),
        "devices": [d.device_kind for d in jax.devices()],
        "cpu_cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {
          name: version(name)
          for name in ("ltjax", "jax", "jaxlib", "flax", "optax")
        },
      }
    )
    with contextlib.suppress(*([OSError] if error_type else [])):
      workdirs.write_json(self._path, {"sessions": sessions})
