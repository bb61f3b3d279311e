"""Runs a sweep: each run in its own folder, finished ones skipped.

An experiment is a file that lists runs; this module executes them one after
the other through the command line of ltjax, so every number has a command that
gives it. Started again, a sweep skips what is finished and resumes what is not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import json
from pathlib import Path
import shlex
import subprocess
import sys
from typing import Any

from ltjax import report


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a sweep.

  Attributes:
    name: the setting, shared by its seeds.
    config: the config file with its arguments.
    seed: `config.seed`.
    overrides: flags, such as `--config.loops=1`.
  """

  name: str
  config: str
  seed: int
  overrides: tuple[str, ...] = ()

  def folder(self, root: Path) -> Path:
    """Returns the run's folder."""
    return root / f"{self.name}-seed{self.seed}"

  def command(self, root: Path) -> list[str]:
    """Returns the command that makes or resumes the run."""
    return [
      *("python", "-m", "ltjax.main", f"--config={self.config}"),
      *(f"--workdir={self.folder(root)}", f"--config.seed={self.seed}"),
      *self.overrides,
    ]


def record(run: Run, root: Path) -> dict[str, Any]:
  """Returns what a finished run found, with where and how it was found.

  Args:
    run: a finished run.
    root: the folder of the sweep's runs.

  Raises:
    FileNotFoundError: if the run is not finished.
  """
  folder = run.folder(root)
  summary = report.read_summary(folder)
  sessions = json.loads((folder / "environment.json").read_text())["sessions"]
  last = sessions[-1]
  return {
    "name": run.name,
    "seed": run.seed,
    "command": shlex.join(run.command(Path("runs"))),
    "date": last["started"][:10],
    "seconds": round(sum(s["seconds"] for s in sessions), 1),
    "commit": last["commit"],
    "devices": last["devices"],
    "cpu_cores": last["cpu_cores"],
    "versions": last["versions"],
    "split_hash": summary["split_hash"],
    "evaluations": [
      {k: v for k, v in row.items() if not isinstance(v, list)}
      for row in summary["evaluations"]
    ],
    "pseudo_labels": [
      {k: v for k, v in row.items() if not isinstance(v, list)}
      for row in summary["pseudo_labels"]
    ],
    "result": {
      rule: row and {k: v for k, v in row.items() if not isinstance(v, list)}
      for rule, row in summary["result"].items()
    },
  }


def main(
  runs: Sequence[Run],
  results: Path,
  to_markdown: Callable[[Sequence[dict[str, Any]]], str],
  draw: Callable[[Sequence[dict[str, Any]], Path], None],
  argv: Sequence[str] | None = None,
) -> int:
  """Executes a sweep and writes `results.jsonl` and `results.md`.

  Args:
    runs: the sweep.
    results: folder of the results, beside the experiment.
    to_markdown: makes the tables from the records of the finished runs.
    draw: `(records, folder)`, draws the pictures.
    argv: the arguments; those of the process by default.

  Returns:
    The exit status: 1 if a run failed.
  """
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--root", type=Path, default=Path("runs"))
  parser.add_argument("--only", default="", help="names that start so")
  parser.add_argument("--print", action="store_true", help="commands only")
  parser.add_argument("--collect", action="store_true", help="results only")
  parser.add_argument("--data_dir", default="")
  options = parser.parse_args(argv)
  failed = 0
  for run in runs:
    if options.collect or not run.name.startswith(options.only):
      continue
    command = run.command(options.root)
    if options.data_dir:
      command.append(f"--data_dir={options.data_dir}")
    print(shlex.join(command), flush=True)
    if not options.print:
      done = subprocess.run([sys.executable, *command[1:]], check=False)
      failed |= done.returncode != 0
  if options.print:
    return 0
  records = [
    record(run, options.root)
    for run in runs
    if (run.folder(options.root) / "summary.json").exists()
  ]
  if records:
    results.mkdir(exist_ok=True)
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (results / "results.jsonl").write_text(lines)
    (results / "results.md").write_text(to_markdown(records))
    draw(records, results)
    print(f"{len(records)} of {len(runs)} runs: {results / 'results.md'}")
  return int(failed)
