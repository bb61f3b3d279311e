"""Child processes, some at a time, each with a log and a core of its own.

A run of a small network does not gain from a second core what a second run
would do with it. So on a CPU several runs side by side, each pinned to one
core, finish a sweep sooner than one after the other on all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import os
from pathlib import Path
import shlex
import signal
import subprocess
import time


@dataclasses.dataclass(frozen=True)
class Job:
  """A command to run.

  Attributes:
    name: what to call it.
    command: the program and its arguments.
    log: the file that takes what it prints, after what earlier tries left.
  """

  name: str
  command: Sequence[str]
  log: Path


def cores(count: int) -> list[int | None]:
  """Returns a core for each of the processes that run side by side.

  Args:
    count: how many processes. One is not pinned: it may use all cores.

  Returns:
    `count` numbers of cores, or None where a process is not pinned (one
    process, or a system that cannot pin).

  Raises:
    ValueError: if there are fewer cores than processes, or no process.
  """
  if count < 1:
    raise ValueError(f"--jobs is {count}; it must be 1 or more.")
  if count == 1 or not hasattr(os, "sched_getaffinity"):
    return [None] * count
  ours = sorted(os.sched_getaffinity(0))
  if count > len(ours):
    raise ValueError(
      f"--jobs is {count}, but there are {len(ours)} cores, and each run has"
      f" one for itself; choose --jobs={len(ours)} or less."
    )
  return list(ours[:count])


def execute(
  jobs: Sequence[Job],
  pins: Sequence[int | None],
  *,
  say: Callable[[str], None] = print,
) -> list[str]:
  """Runs jobs, as many at a time as there are pins.

  If this process is interrupted, the children are asked to save and stop, and
  waited for.

  Args:
    jobs: what to run, in this order.
    pins: as `cores` gives them.
    say: takes a line when a job begins or ends.

  Returns:
    The names of the jobs that failed.

  Raises:
    KeyboardInterrupt: if this process is interrupted (SIGINT) or asked to stop
      (SIGTERM).
  """
  failed = []
  waiting = list(jobs)
  free = list(pins)
  running: list[tuple[Job, int | None, subprocess.Popen, float]] = []
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    while waiting or running:
      while waiting and free:
        job, pin = waiting.pop(0), free.pop(0)
        say(f"{job.name}: {shlex.join(job.command)}")
        running.append((job, pin, _start(job, pin), time.monotonic()))
      time.sleep(0.05)
      for entry in [e for e in running if e[2].poll() is not None]:
        job, pin, process, began = entry
        running.remove(entry)
        free.append(pin)
        minutes = (time.monotonic() - began) / 60
        if process.returncode:
          failed.append(job.name)
          say(
            f"{job.name}: failed with status {process.returncode}:"
            f" {_last_line(job.log)} (all of it in {job.log})"
          )
        else:
          say(f"{job.name}: finished in {minutes:.1f} minutes")
  finally:
    for _, _, process, _ in running:
      process.terminate()
    for _, _, process, _ in running:
      process.wait()
    signal.signal(signal.SIGTERM, before)
  return failed


def _start(job: Job, pin: int | None) -> subprocess.Popen:
  """Starts a job, in a session of its own, so that Ctrl-C comes only here."""
  job.log.parent.mkdir(parents=True, exist_ok=True)
  with open(job.log, "a") as log:
    log.write(f"$ {shlex.join(job.command)}\n")
    log.flush()
    process = subprocess.Popen(
      job.command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
  if pin is not None:
    try:
      # Before it has other threads: those it starts later inherit this.
      os.sched_setaffinity(process.pid, {pin})
    except ProcessLookupError:
      pass  # It is over already.
  return process


def _last_line(log: Path) -> str:
  lines = log.read_text(errors="replace").split("\n")
  return next((line.strip() for line in reversed(lines) if line.strip()), "")
