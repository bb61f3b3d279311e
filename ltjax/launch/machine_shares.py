"""Places: what part of a machine a process has for itself.

A place is so many cores of a CPU, or one GPU. All are of one size, because the
number of cores or GPUs can change the last bits of a sum: which place a run
gets must not change its result.
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
    """Pins a process that was just started, and the threads it will start."""
    if self.cores:
      with contextlib.suppress(ProcessLookupError):  # It may be over already.
        os.sched_setaffinity(pid, self.cores)


WHOLE = Place("the whole machine")


def cores(count: int, *, option: str = "--jobs") -> list[Place]:
  """Returns `count` equal shares of the cores that this process may use.

  One share is the whole machine; where the system cannot pin, each is. Too few
  cores are a ValueError, which names the flag `option`.
  """
  require.at_least(option, count, 1)
  if count == 1 or not hasattr(os, "sched_getaffinity"):
    return [WHOLE] * count
  ours = sorted(os.sched_getaffinity(0))
  size = len(ours) // count
  if size == 0:
    raise ValueError(
      f"{option} is {count}, but there are {len(ours)} cores, and each run has"
      f" one for itself at least; choose {option}={len(ours)} or less."
    )
  shares = [tuple(ours[size * i : size * (i + 1)]) for i in range(count)]
  title = "core" if size == 1 else "cores"
  return [Place(f"{title} {', '.join(map(str, s))}", s) for s in shares]


def gpus(names: Sequence[str], count: int) -> list[Place]:
  """Returns `count` GPUs in turn, called as `CUDA_VISIBLE_DEVICES` does.

  Where a GPU has several places, they share its memory.
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
    require.at_least(option, at_once, 1)
  platform, count = devices()
  if platform == "cpu":
    has_affinity = hasattr(os, "sched_getaffinity")
    here = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return cores(min(at_once or here or 1, runs), option=option)
  if platform == "gpu":
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = [name.strip() for name in visible if name.strip()]
    names = (names or [str(i) for i in range(count)])[:count]
    return gpus(names, min(at_once or count, runs))
  if at_once > 1:
    raise ValueError(
      f"{option} is {at_once}, but on a {platform.upper()} one run has all"
      f" devices; leave {option} out. (All of them share each batch.)"
    )
  return [WHOLE]


def devices() -> tuple[str, int]:
  """Returns JAX's platform and its number of devices on this host.

  A child process is asked, since who asks JAX takes the accelerator's memory.
  Raises a ValueError with JAX's words if it cannot start.
  """
  if os.environ.get("JAX_PLATFORMS") == "cpu":
    return "cpu", 1
  done = subprocess.run(
    [sys.executable, "-c", _PROBE],
    env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    capture_output=True,
    text=True,
  )
  found = [line for line in done.stdout.split("\n") if line.startswith("[")]
  if done.returncode or not found:
    said = done.stderr.strip().split("\n")[-1]
    raise ValueError(f"JAX cannot start on this machine: {said}")
  platform, count = json.loads(found[-1])
  return platform, count
