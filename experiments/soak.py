"""A soak: runs killed again and again end bit for bit as if never killed.

    python -m experiments.soak --minutes=30 --seed=0 [--only=growth|soak]

A run is started through the command line and killed after a random time, by
SIGKILL, SIGTERM or Ctrl-C, sometimes as a checkpoint is being written; the same
command is started again, until it finishes; then another folder, until the
minutes are over. Each must end with the files of a run that nobody disturbed:
the same model, summary and metrics. All moments come from `--seed`.

Before that, the undisturbed run is watched: the memory of its process, second
by second, must not grow once all programs are compiled. Results go to
`experiments/soak/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import json
import os
from pathlib import Path
import shutil
import signal
import statistics
import sys
import tempfile
import time
from typing import Any

from experiments import interruptions

# The share of a run between compiling and, at its end, evaluating and drawing.
WARM = (0.5, 0.9)
# One stage of equal epochs, for as long as its process is watched. No
# checkpoints: each leaves some KiB behind that are TensorStore's, see
# docs/runs.md.
GROWTH = (
  "--config.method=supervised",
  "--config.embedding.epochs=10000",
  "--config.run.checkpoint_every_s=1000000.0",
)


def resident(pid: int) -> int | None:
  """Returns the bytes of memory that a process holds; None if it is gone."""
  try:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
  except OSError:
    return None
  sizes = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
  return 1024 * int(sizes[0]) if sizes else None


def watch(
  command: Sequence[str], *, log: Path, every: float = 1.0
) -> tuple[list[tuple[float, int]], float]:
  """Runs a command undisturbed and samples the memory of its process.

  Args:
    command: the program and its arguments.
    log: gets what it prints.
    every: seconds between samples.

  Returns:
    (seconds, resident bytes) of each sample, and the seconds of the run.

  Raises:
    RuntimeError: if it fails.
  """
  began, samples = time.monotonic(), []
  process = interruptions.start(command, log)
  try:
    while process.poll() is None:
      held = resident(process.pid)
      if held is not None:
        samples.append((time.monotonic() - began, held))
      time.sleep(every)
  finally:
    if process.poll() is None:
      process.kill()
      process.wait()
  if process.returncode:
    raise RuntimeError(f"The run ended with {process.returncode}; see {log}.")
  return samples, time.monotonic() - began


def growth(samples: Sequence[tuple[float, int]]) -> dict[str, Any]:
  """Fits a line to the memory of a process that is warm and still trains.

  Args:
    samples: (seconds, bytes).

  Returns:
    `samples` and `seconds` of the warm part; `first` and `last` bytes (medians
    of its first and last tenth), `least_first` and `least_last` (the least of
    its first and last fifth: what is taken for a moment does not count), and
    `bytes_per_minute`, the slope of the line; None where there are too few
    samples.
  """
  end = samples[-1][0] if samples else 0.0
  warm = [(t, b) for t, b in samples if WARM[0] * end <= t <= WARM[1] * end]
  if len(warm) < 10:
    return {"samples": len(warm), "seconds": 0.0, "bytes_per_minute": None}
  seconds, held = zip(*warm)
  tenth, fifth = len(warm) // 10, len(warm) // 5
  slope = statistics.linear_regression(seconds, held).slope
  return {
    "samples": len(warm),
    "seconds": round(seconds[-1] - seconds[0], 1),
    "first": int(statistics.median(held[:tenth])),
    "last": int(statistics.median(held[-tenth:])),
    "least_first": min(held[:fifth]),
    "least_last": min(held[-fifth:]),
    "bytes_per_minute": round(60 * slope),
  }


def soak(
  make_command: Callable[[Path], Sequence[str]],
  folder: Path,
  *,
  minutes: float,
  seed: int,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Disturbs runs for so many minutes, and compares what they leave.

  Args:
    make_command: the command of a run in a folder.
    folder: of the runs; those that end as they should are deleted.
    minutes: new moments are drawn for so long; the last run then ends in peace.
    seed: gives the moments.
    say: takes a line a run.

  Returns:
    JSON values: `runs`, `lives`, `kills` by signal, `in_save`, `differ` (the
    folders of runs that ended differently) and `reference` (seconds of an
    undisturbed run that finds its programs compiled).
  """
  reference, again = folder / "reference", folder / "again"
  watch(make_command(reference), log=folder / "reference.log")
  expected = interruptions.outcome(reference)
  # Those after the first are shorter: they find its programs compiled.
  _, seconds = watch(make_command(again), log=folder / "again.log")
  differ = [] if interruptions.outcome(again) == expected else [str(again)]
  moments = interruptions.kills(seed, seconds)
  deadline = time.monotonic() + 60 * minutes
  lives, number = [], 0
  while time.monotonic() < deadline:
    workdir = folder / f"run{number}"
    number += 1
    found = interruptions.disturb(
      make_command(workdir),
      workdir,
      moments,
      deadline=deadline,
      log=folder / f"{workdir.name}.log",
    )
    lives += found
    same = interruptions.outcome(workdir) == expected
    say(
      f"{workdir.name}: {len(found) - 1} times interrupted,"
      f" {'the same bits' if same else 'DIFFERENT'}"
    )
    if same:
      shutil.rmtree(workdir)
    else:
      differ.append(str(workdir))
  names = [life["signal"] for life in lives if life["signal"]]
  return {
    "minutes": minutes,
    "seed": seed,
    "reference": round(seconds, 1),
    "runs": number,
    "lives": len(lives),
    "kills": {s.name: names.count(s.name) for s in interruptions.SIGNALS},
    "in_save": sum(life["in_save"] for life in lives),
    "differ": differ,
    "model": expected["model"],
  }


def to_markdown(record: dict[str, Any]) -> str:
  """Returns the page of a soak.

  Args:
    record: as `main` writes it.
  """
  soaked, grown = record["soak"], record["growth"]
  kinds = ", ".join(f"{n} {name}" for name, n in soaked["kills"].items())
  lines = [
    "# Soak",
    "",
    f"`{record['config']}`, {soaked['minutes']:g} minutes, seed"
    f" {soaked['seed']}, on {record['cores']} CPU cores. An undisturbed run"
    f" took {soaked['reference']:.0f} s.",
    "",
    f"- {soaked['runs']} runs in {soaked['lives']} processes; interrupted by"
    f" {kinds}, {soaked['in_save']} of them while a checkpoint was written.",
    f"- {len(soaked['differ'])} runs ended with other bits than the undisturbed"
    " one.",
  ]
  rate = grown["bytes_per_minute"]
  if rate is None:
    lines.append("- Growth of memory: too few samples.")
  else:
    lines.append(
      f"- Memory of a process of {' '.join(record['watched'])} over"
      f" {grown['seconds']:.0f} s of training:"
      f" {grown['first'] / 2**20:.1f} MiB at first, {grown['last'] / 2**20:.1f}"
      f" MiB at last, {rate / 2**20:+.2f} MiB a minute"
      f" by a line. The least held at first and at last:"
      f" {grown['least_first'] / 2**20:.1f} and"
      f" {grown['least_last'] / 2**20:.1f} MiB."
    )
  return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns 1 if a run ended differently."""
  parser = argparse.ArgumentParser(prog="python -m experiments.soak")
  parser.add_argument("--minutes", type=float, default=30.0)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--only", choices=["growth", "soak"], help="one part; the other stays"
  )
  parser.add_argument("--config", default="configs/digits_sslt.py")
  parser.add_argument(
    "--out", type=Path, default=Path(__file__).parent / "soak"
  )
  parser.add_argument(
    "overrides", nargs="*", help="settings, as --config.loops=1, after --"
  )
  options = parser.parse_args(argv)
  base = [sys.executable, "-m", "ltjax.main", f"--config={options.config}"]
  often = ["--config.run.checkpoint_every_s=1.0", *options.overrides]

  def command(workdir: Path) -> list[str]:
    return [*base, *often, f"--workdir={workdir}"]

  folder = Path(tempfile.mkdtemp(prefix="ltjax-soak-"))
  print(f"Runs in {folder}.")
  path = options.out / "results.json"
  record = json.loads(path.read_text()) if options.only else {}
  record |= {
    "config": " ".join([options.config, *options.overrides]),
    "cores": len(os.sched_getaffinity(0)),
  }
  if options.only != "soak":
    watched = [*base, *options.overrides, *GROWTH]
    samples, _ = watch(
      [*watched, f"--workdir={folder / 'watched'}"], log=folder / "watched.log"
    )
    record |= {
      "watched": list(GROWTH),
      "growth": growth(samples),
      "samples": [(round(t, 1), held) for t, held in samples],
    }
  if options.only != "growth":
    record["soak"] = soak(
      command, folder, minutes=options.minutes, seed=options.seed
    )
  options.out.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(record) + "\n")
  page = to_markdown(record)
  (options.out / "results.md").write_text(page)
  print(page)
  if record["soak"]["differ"]:
    return 1
  shutil.rmtree(folder)
  return 0


if __name__ == "__main__":
  # As Ctrl-C: the run that is under way is ended too.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  sys.exit(main())
