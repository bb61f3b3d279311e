"""The host's memory: how much is free, and how much a process holds.

Free is what the kernel could give without swapping, within the limits of the
control groups (containers, SLURM jobs) that this process is in.
"""

from __future__ import annotations

from pathlib import Path

# Of a group without a limit: version 1 writes a number near 2 ** 63.
_UNLIMITED = 2**60


def free(root: str | Path = "/") -> int | None:
  """Returns the bytes that this process can still have.

  Args:
    root: where `proc` and `sys` are; for tests.

  Returns:
    None where the system does not tell (it is no Linux).
  """
  root = Path(root)
  known = [_available(root), *_left_in_groups(root)]
  known = [value for value in known if value is not None]
  return max(min(known), 0) if known else None


def resident(pid: int | None = None, root: str | Path = "/") -> int | None:
  """Returns the bytes of memory that a process holds now.

  Args:
    pid: of the process; None for this one.
    root: where `proc` is; for tests.

  Returns:
    None where the system does not tell, or the process is gone.
  """
  return _status(pid, "VmRSS:", root)


def peak(pid: int | None = None, root: str | Path = "/") -> int | None:
  """Returns the most bytes of memory that a process ever held.

  Args:
    pid: of the process; None for this one.
    root: where `proc` is; for tests.

  Returns:
    None where the system does not tell, or the process is gone.
  """
  return _status(pid, "VmHWM:", root)


def _status(pid: int | None, name: str, root: str | Path) -> int | None:
  folder = "self" if pid is None else str(pid)
  return _kilobytes(Path(root) / "proc" / folder / "status", name)


def _available(root: Path) -> int | None:
  return _kilobytes(root / "proc" / "meminfo", "MemAvailable:")


def _kilobytes(path: Path, name: str) -> int | None:
  for line in _text(path).splitlines():
    if line.startswith(name):
      return 1024 * int(line.split()[1])
  return None


def _left_in_groups(root: Path) -> list[int | None]:
  """Returns what each group above this process leaves to it."""
  left = []
  for line in _text(root / "proc" / "self" / "cgroup").splitlines():
    _, controllers, path = line.split(":", 2)
    if controllers == "":  # version 2
      top = root / "sys" / "fs" / "cgroup"
      names = "memory.max", "memory.current", "inactive_file"
    elif "memory" in controllers.split(","):
      top = root / "sys" / "fs" / "cgroup" / "memory"
      names = (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
      )
    else:
      continue
    folder = top / path.lstrip("/")
    # In a container the path is of the host, and only the top is there.
    while folder != top:
      left.append(_left(folder, *names))
      folder = folder.parent
    left.append(_left(top, *names))
  return left


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
  """Returns the limit of a group less what it uses, caches of files aside."""
  most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
  if not most.isdigit() or not used.isdigit() or int(most) >= _UNLIMITED:
    return None
  pages = 0
  for line in _text(folder / "memory.stat").splitlines():
    if line.split()[0] == cache:
      pages = int(line.split()[1])
  return int(most) - int(used) + pages


def _text(path: Path) -> str:
  try:
    return path.read_text()
  except OSError:
    return ""
