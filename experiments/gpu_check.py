"""Everything that wants a GPU, in order of value, within some minutes.

    python -m experiments.gpu_check --minutes=9 --data_dir=pack --out=gpu \
      [--jobs=3]
    python -m experiments.gpu_check --collect --out=gpu --dtype=bfloat16

A bare machine needs JAX for its GPU, ltjax's other dependencies and a data
folder, such as a pack (`ltjax.pack`); no network. In this order:

1. smoke: every method's first steps (`experiments.gpu_smoke`);
2. the benchmark beside PyTorch, where it is installed, and its variants
   (`experiments.benchmark`);
3. full-size rows in bf16, some at a time, with checkpoints, until the time is
  up.

Each part is a process with a bound of its own. What hangs is ended, with all
that it started, so that the whole ends within `--minutes`. The same command
goes on: what the files in `--out` have is not done again. `--collect`, where
the repository lies, takes the results into `experiments/`. `--scale=cpu` does a
little of all on a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import importlib.util
import json
import os
from pathlib import Path
import shlex
import signal
import subprocess
import sys
import threading
import time

from experiments import benchmark

ROOT = Path(__file__).parents[1]
GRACE = 20.0  # Seconds in which a sweep's runs save.
RESERVE = 5.0  # Seconds at the end, to collect.
SMALL = 3 * GRACE  # With less left, nothing new is begun.
# Sweeps and the runs of them, by value.
SWEEPS = {
  "full": (
    ("sslt_table1", "sslt-rho100"),
    ("sslt_table1", ""),
    *(
      ("yang_xu_table1", f"{row}-cifar10_714-rho100")
      for row in ("ce", "ldam_drw", "ce_du", "ldam_drw_du")
    ),
  ),
  "cpu": (),
}


@dataclasses.dataclass(frozen=True)
class Task:
  """One process.

  Attributes:
    name: of the task.
    command: the module of `experiments` and its flags.
    seconds: the most it may take.
  """

  name: str
  command: tuple[str, ...]
  seconds: float


def tasks(options: argparse.Namespace) -> Iterator[Task]:
  """Yields what is to be done, in order.

  Args:
    options: of the command line.
  """
  out, scale = options.out.absolute(), options.scale
  total = 60.0 * options.minutes
  share = 0.3 * total
  yield Task(
    "smoke",
    (
      "gpu_smoke",
      *(f"--scale={scale}", f"--out={out / 'smoke.jsonl'}"),
      f"--seconds={share:g}",
    ),
    share + SMALL,
  )
  peer = ()
  if importlib.util.find_spec("torch") or options.peer_python:
    peer = ("--peer=torch", f"--peer_python={options.peer_python}")
  for only, seconds in measured(scale, total):
    yield Task(
      only,
      (
        "benchmark",
        *(f"--only={only}", f"--seconds={seconds:g}", f"--out={out}", *peer),
      ),
      seconds + SMALL,
    )
  for name, only in SWEEPS[scale]:
    yield Task(
      f"{name}/{only}",
      (
        name,
        *(f"--scale={scale}", f"--only={only}", f"--jobs={options.jobs}"),
        *(f"--root={out / 'runs'}", f"--results={out / name}"),
        *(f"--dtype={options.dtype}" for _ in "x" if options.dtype),
        *(f"--data_dir={options.data_dir}" for _ in "x" if options.data_dir),
      ),
      total,
    )


def measured(scale: str, total: float) -> Iterator[tuple[str, float]]:
  """Yields the measurements of the benchmark, and the seconds of each.

  Args:
    scale: `full` or `cpu`.
    total: seconds of all.
  """
  if scale == "cpu":
    yield "speed/resnet8/float32/128", 0.3 * total
    return
  one = max(total / 9, 45.0)
  yield "speed/resnet18/bfloat16/128", one
  yield "launches/resnet18/bfloat16", one
  yield "variants/resnet18/bfloat16/128", 3 * one
  yield "speed/resnet18/bfloat16/512", one
  yield "speed/wrn28_2/bfloat16/128", one
  yield "speed/wrn28_2/bfloat16/512", one
  yield "speed/resnet18/float32/128", one
  yield "seeds/resnet18/bfloat16/3", one
  yield "variants/resnet18/bfloat16/512", 3 * one


def main(argv: Sequence[str] | None = None) -> int:
  """Does what there is time for; returns 1 if something failed."""
  options = _parser().parse_args(argv)
  if options.collect:
    return _collect(options)
  ends = time.monotonic() + 60.0 * options.minutes - RESERVE
  options.out.mkdir(parents=True, exist_ok=True)
  failed = execute(list(tasks(options)), options.out, ends)
  return int(failed)


def execute(todo: Sequence[Task], out: Path, ends: float) -> bool:
  """Runs tasks one after the other, and says what became of them.

  Args:
    todo: the tasks.
    out: folder of `gpu_check.jsonl`, which says what was done, and of the log.
    ends: of `time.monotonic()`, when all is to be over.

  Returns:
    Whether one of them failed.
  """
  path = out / "gpu_check.jsonl"
  lines = path.read_text().splitlines() if path.exists() else []
  before = {r["command"]: r["outcome"] for r in map(json.loads, lines)}
  # What was never tried comes first, what came to its end not again.
  todo = sorted(todo, key=lambda task: _key(task) in before)
  told, failed = [], False
  with open(out / "gpu_check.log", "a") as log:
    for task in todo:
      command = _key(task)
      if before.get(command) == "done":
        told.append((task.name, "done before", 0.0))
        continue
      left = ends - time.monotonic()
      if left < SMALL:
        told.append((task.name, "no time left", 0.0))
        continue
      began = time.monotonic()
      outcome = _run(task, min(task.seconds, left), log)
      seconds = round(time.monotonic() - began, 1)
      failed |= outcome.startswith("failed")
      told.append((task.name, outcome, seconds))
      with open(path, "a") as file:
        row = {"name": task.name, "command": command, "outcome": outcome}
        file.write(json.dumps(row | {"seconds": seconds}) + "\n")
  print("\n" + "\n".join(f"{s:7.1f} s  {n}: {o}" for n, o, s in told))
  return failed


def _key(task: Task) -> str:
  """Leaves out where files lie, and for how long: another try has others."""
  places = ("--root=", "--results=", "--out=", "--data_dir=", "--seconds=")
  return shlex.join(a for a in task.command if not a.startswith(places))


def _run(task: Task, seconds: float, log) -> str:
  """Runs a task for so long; returns what became of it, in a word or two."""
  module, *flags = task.command
  command = [sys.executable, "-m", f"experiments.{module}", *flags]
  print(f"\n{task.name}, {seconds:.0f} s at most: {shlex.join(command)}")
  environment = {"PYTHONUNBUFFERED": "1"}
  if jobs := [f for f in flags if f.startswith("--jobs=")]:
    share = 0.9 / int(jobs[0].partition("=")[2])
    environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{share:.3f}"
  process = subprocess.Popen(
    command,
    cwd=ROOT,
    env=os.environ | environment,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    errors="replace",
    start_new_session=True,
  )
  reader = threading.Thread(target=_tee, args=(process, log), daemon=True)
  reader.start()
  started: list[int] = []
  try:
    code = process.wait(timeout=max(seconds - GRACE, 1.0))
    outcome = {0: "done", benchmark.PARTIAL: "stopped, to go on"}.get(
      code, f"failed with {code}"
    )
  except subprocess.TimeoutExpired:
    started = _children(process.pid)  # Once it has ended nobody knows them.
    process.terminate()
    try:
      process.wait(timeout=min(GRACE, seconds))
      outcome = "stopped, to go on"
    except subprocess.TimeoutExpired:
      outcome = "ended: it hung"
  finally:
    _end(process, started)
  reader.join(timeout=2.0)
  if not reader.is_alive() and process.stdout:
    process.stdout.close()
  return outcome


def _tee(process: subprocess.Popen, log) -> None:
  assert process.stdout is not None
  for line in process.stdout:
    print(line, end="", flush=True)
    log.write(line)
    log.flush()


def _end(process: subprocess.Popen, started: Sequence[int]) -> None:
  """Ends a process and all that it started, in sessions of their own too."""
  for pid in {*started, *_children(process.pid), process.pid}:
    with contextlib.suppress(ProcessLookupError):
      os.kill(pid, signal.SIGKILL)
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


def _children(pid: int) -> list[int]:
  """Returns the processes below one, as Linux tells them."""
  found, todo = [], [pid]
  while todo:
    folder = Path(f"/proc/{todo.pop()}/task")
    for path in folder.glob("*/children"):
      try:
        below = [int(word) for word in path.read_text().split()]
      except OSError:
        continue
      found += below
      todo += below
  return found


def _collect(options: argparse.Namespace) -> int:
  """Takes results into `experiments/`; returns 1 if a part of it failed."""
  out, code = options.out.absolute(), 0
  commands = [
    ("benchmark", "--collect", f"--merge={path}")
    for path in out.glob("results_*.jsonl")
  ]
  for name in dict.fromkeys(name for name, _ in SWEEPS[options.scale]):
    flags = [f"--scale={options.scale}", f"--root={out / 'runs'}", "--collect"]
    flags += [f"--dtype={options.dtype}"] if options.dtype else []
    merged = [f"--merge={path}" for path in (out / name).glob("*.jsonl")]
    commands.append((name, *flags, *merged))
  for module, *flags in commands:
    command = [sys.executable, "-m", f"experiments.{module}", *flags]
    print(shlex.join(command), flush=True)
    code |= subprocess.run(command, cwd=ROOT).returncode
  return int(bool(code))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--minutes", type=float, default=9.0)
  parser.add_argument("--data_dir", default="")
  parser.add_argument("--out", type=Path, default=Path("gpu"))
  parser.add_argument("--scale", choices=tuple(SWEEPS), default="full")
  parser.add_argument(
    "--jobs", type=int, default=3, help="full-size runs at a time on the GPU"
  )
  parser.add_argument(
    "--dtype", choices=("", "bfloat16"), default="bfloat16", help="of those"
  )
  parser.add_argument("--peer_python", default="")
  parser.add_argument("--collect", action="store_true", help="results only")
  return parser


if __name__ == "__main__":
  sys.exit(main())
