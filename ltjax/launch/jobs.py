"""Child processes, some at a time, each with a log and a place of its own.

A run of a small network gains little from a second core. So on a CPU several
runs side by side, each pinned to its share of the cores, finish sooner than one
after the other; and of several GPUs each has a run.
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

from ltjax.launch import machine_shares
from ltjax.runs import interrupts

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Job:
  """A command to run, with its name and the log that its output is added to."""

  name: str
  command: Sequence[str]
  log: Path


@dataclasses.dataclass(frozen=True)
class _Running:
  job: Job
  place: machine_shares.Place
  process: subprocess.Popen
  began: float


def execute(
  jobs: Sequence[Job],
  where: Sequence[machine_shares.Place],
  *,
  say: Say = print,
  watch: Callable[[Sequence[Job]], None] = lambda running: None,
) -> list[str]:
  """Runs jobs, as many at a time as there are places.

  If this process is interrupted, the children are asked to save and stop, and
  waited for. Asked a second time, they stop at once.

  Args:
    jobs: what to run, in this order.
    where: the places, each of which has one job at a time.
    say: takes a line when a job begins or ends.
    watch: called again and again with the jobs that are running.

  Returns:
    The names of the jobs that failed.

  Raises:
    Interrupted: after SIGINT or SIGTERM, when all children have ended.
    KeyboardInterrupt: if that is asked twice.
  """
  failed = []
  waiting, free = list(jobs), list(where)
  running: list[_Running] = []
  with interrupts.catch() as flag:
    try:
      while waiting or running:
        flag.raise_if_set()
        while waiting and free:
          job, place = waiting.pop(0), free.pop(0)
          say(f"{job.name} on {place.name}: {shlex.join(job.command)}")
          running.append(_start(job, place))
        watch([entry.job for entry in running])
        time.sleep(0.05)
        for entry in [e for e in running if e.process.poll() is not None]:
          running.remove(entry)
          free.append(entry.place)
          if _failed(entry, say):
            failed.append(entry.job.name)
    finally:
      _stop(running, say)
  return failed


def last_line(log: Path) -> str:
  """Returns the last line of a log that is not empty; "" if there is none."""
  try:
    with open(log, "rb") as file:
      file.seek(max(os.fstat(file.fileno()).st_size - 4096, 0))
      lines = file.read().decode(errors="replace").splitlines()
  except OSError:
    return ""
  return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _start(job: Job, place: machine_shares.Place) -> _Running:
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
      env=os.environ | {"PYTHONUNBUFFERED": "1", **place.environment},
    )
  place.pin(process.pid)
  return _Running(job, place, process, time.monotonic())


def _failed(entry: _Running, say: Say) -> bool:
  """Tells how a job ended; returns whether it failed."""
  job, code = entry.job, entry.process.returncode
  if code:
    say(
      f"{job.name}: failed with status {code}: {last_line(job.log)} (all of it"
      f" in {job.log})"
    )
  else:
    minutes = (time.monotonic() - entry.began) / 60
    say(f"{job.name}: finished in {minutes:.1f} minutes")
  return bool(code)


def _stop(running: Sequence[_Running], say: Say) -> None:
  """Asks what still runs to save and stop, and waits for it."""
  for entry in running:
    entry.process.terminate()
  try:
    for entry in running:
      entry.process.wait()
  except KeyboardInterrupt:
    for entry in running:
      entry.process.terminate()
    for entry in running:
      entry.process.wait()
    raise
  stopped = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
  for entry in running:
    if entry.process.returncode in stopped:
      say(f"{entry.job.name}: stopped")
    else:
      _failed(entry, say)
