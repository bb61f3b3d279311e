"""Interruptions: a run that is stopped at given moments, and what it leaves.

The moments come from a seed. What the machine does with them does not: on
another day, other steps are hit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import time
from typing import Any

from ltjax.runs import writers

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Exit codes: of a run that saved and stopped, and of one that was killed.
STOPPED = {128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGKILL}


@dataclasses.dataclass(frozen=True)
class Kill:
  """A moment at which a process is stopped.

  Attributes:
    after: seconds of its life.
    signum: what it is sent.
    in_save: whether to wait for the next write of a checkpoint after that.
  """

  after: float
  signum: int
  in_save: bool


def kills(seed: int, longest: float) -> Iterator[Kill]:
  """Yields moments, for ever.

  Args:
    seed: gives all of them.
    longest: seconds of an undisturbed run.
  """
  rng = random.Random(seed)
  while True:
    yield Kill(
      rng.uniform(0.0, longest), rng.choice(SIGNALS), rng.random() < 0.3
    )


def outcome(workdir: Path) -> dict[str, Any]:
  """Returns what two runs must have in common, however often interrupted.

  Args:
    workdir: of a finished run.

  Raises:
    OSError: if it is not finished.
  """
  (record,) = (workdir / "model").glob("*/_CHECKPOINT_METADATA")
  rows = writers.read(workdir / "metrics.jsonl")
  clock = ("images_per_second",)
  return {
    "model": json.loads(record.read_text())["custom_metadata"]["digest"],
    "summary": json.loads((workdir / "summary.json").read_text()),
    "metrics": [
      {k: v for k, v in row.items() if k not in clock} for row in rows
    ],
  }


def start(command: Sequence[str], log: Path) -> subprocess.Popen:
  """Starts a run, in a session of its own.

  Args:
    command: the program and its arguments.
    log: gets what it prints.
  """
  with open(log, "a") as file:
    return subprocess.Popen(
      command, stdout=file, stderr=file, start_new_session=True
    )


def disturb(
  command: Sequence[str],
  workdir: Path,
  moments: Iterator[Kill],
  *,
  deadline: float,
  log: Path,
) -> list[dict[str, Any]]:
  """Runs a command to its end, stopping it at each moment.

  Past the deadline it is left alone.

  Args:
    command: the program and its arguments.
    workdir: of the run.
    moments: when to stop which life of it.
    deadline: of `time.monotonic()`.
    log: gets what it prints.

  Returns:
    A record of each life: `seconds`, `signal` (None where it came to its end),
    `in_save`, `code`.

  Raises:
    RuntimeError: if it fails by itself.
  """
  lives = []
  while True:
    kill = next(moments) if time.monotonic() < deadline else None
    began = time.monotonic()
    process = start(command, log)
    try:
      sent = kill is not None and _stop(process, kill, workdir)
      code = process.wait()
    finally:
      if process.poll() is None:
        process.kill()
        process.wait()
    lives.append(
      {
        "seconds": round(time.monotonic() - began, 2),
        "signal": signal.Signals(kill.signum).name if kill and sent else None,
        "in_save": bool(kill and sent and kill.in_save),
        "code": code,
      }
    )
    if code == 0:
      return lives
    # A signal before there is anything to save ends it as it does any process.
    expected = STOPPED | {-kill.signum} if kill and sent else set()
    if code not in expected:
      raise RuntimeError(f"The run ended with {code}; see {log}.")


def _stop(process: subprocess.Popen, kill: Kill, workdir: Path) -> bool:
  """Waits for the moment and sends the signal; False if the run is over."""
  due = time.monotonic() + kill.after
  while time.monotonic() < due:
    if process.poll() is not None:
      return False
    time.sleep(0.005)
  if kill.in_save:
    # A checkpoint being written has a name that is not a number yet.
    folder, until = workdir / "checkpoints", time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
      names = os.listdir(folder) if folder.is_dir() else []
      if any(not name.isdigit() for name in names):
        break
      time.sleep(0.0005)
  if process.poll() is not None:
    return False
  process.send_signal(kill.signum)
  return True
