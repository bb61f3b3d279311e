"""The folder of a run: one config, a process at a time, nothing overwritten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
import time
from typing import IO, Any
import uuid

import jax

# Settings of the machine, which no result depends on.
MAY_DIFFER = ("run.memory_limit_gib", "run.rehearse")


class WorkdirError(ValueError):
  """The folder cannot be used for this run."""


class Workdir:
  """Opens the folder of a run, made if missing.

  `locked` is whether to lock it at once; else `lock` does.
  """

  def __init__(self, path: str | os.PathLike[str], *, locked: bool = True):
    self.path = Path(path).absolute()
    self._lock: IO[str] | None = None
    if locked:
      self.lock()

  def lock(self) -> None:
    """Makes the folder and locks it; of several processes of a run, one does.

    A folder that cannot be written, or has another run in it, is a
    WorkdirError.
    """
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      probe = self.path / f".write-{uuid.uuid4().hex}"
      probe.touch()
      probe.unlink()
    except OSError as error:
      raise WorkdirError(
        f"The workdir {self.path} cannot be written ({error.strerror}). Choose"
        " another --workdir, or change its permissions."
      ) from error
    lock = open(self.path / ".lock", "a+")
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      lock.close()
      raise WorkdirError(
        f"Another process is running in {self.path}. Wait for it, stop it, or"
        " choose another --workdir."
      ) from error
    self._lock = lock

  def close(self) -> None:
    """Releases the lock."""
    if self._lock is not None:
      self._lock.close()

  def __enter__(self) -> Workdir:
    return self

  def __exit__(self, *unused: object) -> None:
    self.close()

  def __truediv__(self, name: str) -> Path:
    return self.path / name

  def check_config(
    self,
    config: Mapping[str, Any],
    reading: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
  ) -> None:
    """Compares with the `config.json` that is there, if one is.

    `reading` tells what to compare of that one. A WorkdirError names the fields
    that differ.
    """
    path = self / "config.json"
    config = json.loads(json.dumps(config))
    if not path.exists():
      return
    try:
      stored = json.loads(path.read_text())
      if not isinstance(stored, Mapping):
        raise ValueError("it holds no config")
    except (OSError, ValueError) as error:
      raise WorkdirError(
        f"{path} cannot be read ({error}). Choose another --workdir."
      ) from error
    changes = [
      line
      for line in differences(reading(stored), config)
      if not line.startswith(tuple(f"{name}:" for name in MAY_DIFFER))
    ]
    if changes:
      listed = "\n".join(f"  {line}" for line in changes)
      raise WorkdirError(
        f"{self.path} holds a run with another config:\n{listed}\nChoose"
        " another --workdir, or run it with the config it was started with."
      )

  def keep_config(self, config: Mapping[str, Any]) -> None:
    """Writes a config that `check_config` let pass, unless one is there."""
    path = self / "config.json"
    if not path.exists():
      write_json(path, config)


def differences(
  old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
  """Returns the fields in which two nested configs differ, a line each.

  Args:
    old, new: the stored and the given config.
    prefix: path of the block compared.
  """
  lines = []
  for name in sorted({*old, *new}):
    a, b = old.get(name, "<missing>"), new.get(name, "<missing>")
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      lines += differences(a, b, f"{prefix}{name}.")
    elif a != b:
      lines.append(f"{prefix}{name}: there {a!r}, here {b!r}")
  return lines


def write_json(path: Path, value: Any) -> None:
  """Writes JSON so that a reader sees the old file or the new, never half.

  NaN and infinity are refused. Raises an OSError if it cannot be written.
  """
  text = json.dumps(value, indent=2, allow_nan=False) + "\n"
  temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
  try:
    with open(temporary, "w") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    raise OSError(
      error.errno, f"cannot write it ({error.strerror})", str(path)
    ) from error
  finally:
    temporary.unlink(missing_ok=True)


def commit() -> str | None:
  """Returns the git commit of the code, marked if changed; None if unknown."""
  command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
  root = Path(__file__).parents[2]
  if not (root / "pyproject.toml").exists():
    return None  # Installed: the folder may lie in another repository.
  try:
    done = subprocess.run(
      command, cwd=root, capture_output=True, text=True, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() or None


def version(package: str) -> str:
  """Returns the version of a package, `unknown (source)` if not installed."""
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "unknown (source)"


class Session:
  """Notes in `environment.json` where, with what and how long a run ran."""

  def __init__(self, folder: Workdir):
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
      write_json(self._path, {"sessions": sessions})
