"""Places: what part of a machine a process has for itself.

Several runs at a time share a machine best when each has a part of its own: so
many cores of a CPU, or one GPU. All parts are of one size, because the number
of cores or GPUs can change the last bits of a sum: which place a run gets must
not change its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import subprocess
import sys

from ltjax import require

_PROBE = (
  "import json, jax;"
  "print(json.dumps([jax.default_backend(), jax.local_device_count()]))"
)
_FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


@dataclasses.dataclass(frozen=True)
class Place:
  """A part of the machine.

  Attributes:
    name: what to call it.
    cores: the cores its processes are pinned to; none: they are not pinned.
    environment: variables that its processes get beside ours.
  """

  name: str
  cores: tuple[int, ...] = ()
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def pin(self, pid: int) -> None:
    """Pins a process that was started just now to the cores, if there are some.
    """
    if self.cores:
      with contextlib.suppress(ProcessLookupError):  # It may be over already.
        os.sched_setaffinity(pid, self.cores)


WHOLE = Place("the whole machine")


def cores(count: int, *, option: str = "--jobs") -> list[Place]:
  """Returns equal shares of the cores that this process may use.

  Args:
    count: how many shares. One is not pinned: it is the whole machine.
    option: the flag that asked for them, for errors.

  Returns:
    `count` places; not pinned where the system cannot pin.

  Raises:
    ValueError: if there are fewer cores than shares, or no share.
  """
  _check(count, option)
  if count == 1 or not hasattr(os, "sched_getaffinity"):
    return [WHOLE] * count
  ours = sorted(os.sched_getaffinity(0))
  if count > len(ours):
    raise ValueError(
      f"{option} is {count}, but there are {len(ours)} cores, and each run has"
      f" one for itself at least; choose {option}={len(ours)} or less."
    )
  size = len(ours) // count
  return [_on_cores(ours[size * i : size * (i + 1)]) for i in range(count)]


def gpus(names: Sequence[str], count: int) -> list[Place]:
  """Returns GPUs in turn; where a GPU has several places, they share its memory.

  Args:
    names: the GPUs, as `CUDA_VISIBLE_DEVICES` calls them.
    count: how many places.
  """
  each = -(-count // len(names))
  shared = {}
  if each > 1 and not any(name in os.environ for name in _FRACTIONS):
    # JAX takes 75 % of a GPU for itself unless it is told another share.
    shared = {_FRACTIONS[0]: f"{0.9 / each:.3f}"}
  return [
    Place(f"GPU {name}", environment={"CUDA_VISIBLE_DEVICES": name} | shared)
    for name in (names[i % len(names)] for i in range(count))
  ]


def for_runs(
  runs: int, at_once: int = 0, *, option: str = "--seeds_at_once"
) -> list[Place]:
  """Returns where to run so many runs, as many at a time as there are places.

  On a CPU each has an equal share of the cores, on several GPUs each has one,
  and on a TPU one run at a time has all chips.

  Args:
    runs: how many there are in all.
    at_once: how many at a time; 0 for as many as there are cores or GPUs.
    option: the flag of `at_once`, for errors.

  Raises:
    ValueError: if the machine has no room for so many, or JAX cannot start.
  """
  if at_once:
    _check(at_once, option)
  platform, count = devices()
  if platform == "cpu":
    most = min(at_once or _cores_here(), runs)
    return cores(most, option=option)
  if platform == "gpu":
    return gpus(_gpu_names(count), min(at_once or count, runs))
  if at_once > 1:
    raise ValueError(
      f"{option} is {at_once}, but on a {platform.upper()} one run has all"
      f" devices; leave {option} out. (All of them share each batch.)"
    )
  return [WHOLE]


def devices() -> tuple[str, int]:
  """Returns JAX's platform and its number of devices on this host.

  A child process is asked, since who asks JAX takes the accelerator's memory.

  Raises:
    ValueError: if JAX cannot start; with its words.
  """
  if os.environ.get("JAX_PLATFORMS") == "cpu":
    return "cpu", 1
  done = subprocess.run(
    [sys.executable, "-c", _PROBE],
    env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    capture_output=True,
    text=True,
  )
  lines = done.stdout.split("\n")
  found = next((line for line in reversed(lines) if line.startswith("[")), "")
  if done.returncode or not found:
    said = done.stderr.strip().split("\n")[-1]
    raise ValueError(f"JAX cannot start on this machine: {said}")
  platform, count = json.loads(found)
  return platform, count


def _gpu_names(count: int) -> list[str]:
  """Returns the GPUs that we may use, `count` of them."""
  visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
  names = [name.strip() for name in visible.split(",") if name.strip()]
  return (names or [str(i) for i in range(count)])[:count]


def _cores_here() -> int:
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _on_cores(numbers: Sequence[int]) -> Place:
  listed = ", ".join(map(str, numbers))
  return Place(f"core{'s' * (len(numbers) > 1)} {listed}", tuple(numbers))


def _check(count: int, option: str) -> None:
  require.at_least(option, count, 1)
