"""The compilation cache: a program is compiled once on a machine, not each run.

A program from the cache gives the same bits as one that was compiled, so
resuming stays exact. JAX's key leaves out two things: a CPU's program is cut
for the number of cores that the process may use, so each number has a folder of
its own; and an entry of a killed process or a full disk would be refused in
every run to come, so torn entries are looked for at the start.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
from pathlib import Path
import sys
from typing import Any
import uuid
import zlib

import jax
from jax.experimental.compilation_cache import compilation_cache

# What is kept, at most: least recently used entries go first.
MAX_BYTES = 2**30
HELP = (
  "folder of compiled programs; else LTJAX_COMPILATION_CACHE, else"
  " ~/.cache/ltjax/jax; off for none"
)
_CHECKED = ".checked"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_MODULES = ("zstandard",)  # pip install zstandard, and JAX uses it


def add_flag(parser: argparse.ArgumentParser) -> None:
  """Adds the flag `--compilation_cache` to a command line."""
  parser.add_argument("--compilation_cache", metavar="DIR", help=HELP)


def folder(chosen: str | None = None) -> Path | None:
  """Returns where compiled programs are kept; None for nowhere.

  `chosen` is a folder, `off` or an empty text for none; None for the
  environment's LTJAX_COMPILATION_CACHE, or else a folder of the user's cache.
  """
  if chosen is None:
    chosen = os.environ.get("LTJAX_COMPILATION_CACHE")
  if chosen is None:
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = f"{root}/ltjax/jax"
  if chosen in ("", "off"):
    return None
  return Path(chosen).expanduser().absolute()


def enable(
  chosen: str | None = None, *, max_bytes: int = MAX_BYTES
) -> Path | None:
  """Turns the cache on, in the folder it returns; warns where it cannot write.

  Called once JAX's processes know of each other, since it asks for the devices.
  A cache given to JAX itself (JAX_COMPILATION_CACHE_DIR) is left as it is,
  unless `chosen`, as of `folder`, says otherwise. Above `max_bytes` the oldest
  entries are deleted.
  """
  settings: Any = jax.config
  if chosen is None and settings.jax_compilation_cache_dir:
    return Path(settings.jax_compilation_cache_dir)
  root = folder(chosen)
  if root is None:
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    return None
  place = root / _devices()
  try:
    place.mkdir(parents=True, exist_ok=True)
    probe = place / f".write-{uuid.uuid4().hex}"
    probe.touch()
    probe.unlink()
    _delete_torn(place)
    _delete_old(root, max_bytes)
  except OSError as error:
    print(
      f"warning: compiled programs cannot be kept in {place}"
      f" ({error.strerror}); this run compiles its own. Choose a folder with"
      " --compilation_cache=DIR, or --compilation_cache=off.",
      file=sys.stderr,
    )
    return None
  jax.config.update("jax_compilation_cache_dir", str(place))
  # All of them: a run's many small programs add up to seconds too.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  compilation_cache.reset_cache()  # What was compiled before had none.
  return place


def _devices() -> str:
  """Returns a name for what the key leaves out of the devices."""
  platform = jax.default_backend()
  if platform != "cpu":
    return platform
  if hasattr(os, "sched_getaffinity"):
    return f"cpu-{len(os.sched_getaffinity(0))}"
  return f"cpu-{os.cpu_count()}"


def _delete_torn(place: Path) -> None:
  """Deletes what was not written to its end since this was last asked."""
  mark = place / _CHECKED
  since = mark.stat().st_mtime if mark.exists() else 0.0
  # Before reading: what is written meanwhile is for the next run to look at.
  mark.touch()
  for path in place.glob("*-cache"):
    try:
      if path.stat().st_mtime >= since and not _whole(path.read_bytes()):
        path.unlink()
    except FileNotFoundError:
      continue  # Another process was faster.


def _whole(entry: bytes) -> bool:
  """Whether a compressed entry can be read to its end."""
  module = zlib
  if entry.startswith(_ZSTD):
    found = [n for n in _ZSTD_MODULES if importlib.util.find_spec(n)]
    if not found:
      return True  # Of another installation; JAX does not read it here either.
    module = importlib.import_module(found[0])
  try:
    module.decompress(entry)
  except Exception:  # Each library has an error of its own.
    return False
  return True


def _delete_old(root: Path, max_bytes: int) -> None:
  """Deletes the entries not used for the longest time, above so many bytes."""
  entries = []
  for path in root.glob("*/*-cache"):
    try:
      stat = path.stat()
    except FileNotFoundError:
      continue
    entries.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
  total = sum(size for _, size, _ in entries)
  for _, size, path in sorted(entries):
    if total <= max_bytes:
      break
    path.unlink(missing_ok=True)
    total -= size
