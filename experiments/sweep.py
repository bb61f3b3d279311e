"""Runs a sweep: each run in its own folder, finished ones skipped.

An experiment is a file that lists runs; this module executes them through the
command line of ltjax, so every number has a command that gives it. Started
again, a sweep skips what is finished and resumes what is not.

    python -m experiments.NAME [--scale=cpu|full] [--only=PREFIX] [--jobs=N]

On a GPU `--dtype=bfloat16` runs all of it in bf16, with results of their own
(`results_full_bfloat16.jsonl`). Where the runs are made elsewhere,
`--results=DIR` names where their results go there, and `--merge=FILE` takes
them in here.

A run leaves its folder and its log in `runs/` (with scales `runs/cpu/`,
`runs/full/`), the sweep its results beside the experiment: `results.jsonl` and
`results.md`, or with scales `results_cpu.jsonl` and so on. Results of runs that
are not in `runs/` stay as they were there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path
import shlex
import sys
from typing import Any

from ltjax.launch import jobs as processes
from ltjax.launch import machine_shares as places
from ltjax.report import page
from ltjax.runs import interrupts, workdir

Record = dict[str, Any]


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

  def log(self, root: Path) -> Path:
    """Returns the file that takes what the run prints."""
    return root / f"{self.name}-seed{self.seed}.log"

  def command(self, root: Path) -> list[str]:
    """Returns the command that makes or resumes the run."""
    return [
      *("python", "-m", "ltjax.main", f"--config={self.config}"),
      *(f"--workdir={self.folder(root)}", f"--config.seed={self.seed}"),
      *self.overrides,
    ]

  def is_finished(self, root: Path) -> bool:
    """Returns whether this very command has been run to its end.

    A run of another command is not: ltjax then says in what it differs.
    """
    try:
      page.read_summary(self.folder(root))
      last = _sessions(self.folder(root))[-1]
    except (OSError, ValueError, LookupError, TypeError):
      return False
    return _settings(last["command"][1:]) == _settings(self.command(root)[3:])


def record(run: Run, root: Path, scale: str = "", label: str = "") -> Record:
  """Returns what a finished run found, with where and how it was found.

  Args:
    run: a finished run.
    root: the folder of the sweep's runs.
    scale: noted in the record, if there is one.
    label: of the sweep's folder in `runs/`; the scale by default.

  Raises:
    FileNotFoundError: if the run is not finished.
  """
  folder = run.folder(root)
  summary = page.read_summary(folder)
  sessions = _sessions(folder)
  last = sessions[-1]
  prototypes = [_scalars(row) for row in summary.get("prototypes", ())]
  return {
    "name": run.name,
    "seed": run.seed,
    **({"scale": scale} if scale else {}),
    "command": shlex.join(run.command(Path("runs") / (label or scale))),
    "date": last["started"][:10],
    "seconds": round(sum(s["seconds"] for s in sessions), 1),
    "commit": last["commit"],
    "devices": last["devices"],
    "cpu_cores": last["cpu_cores"],
    "versions": last["versions"],
    "split_hash": summary["split_hash"],
    "evaluations": [_scalars(row) for row in summary["evaluations"]],
    "pseudo_labels": [_scalars(row) for row in summary["pseudo_labels"]],
    **({"prototypes": prototypes} if prototypes else {}),
    "result": {
      rule: row and _scalars(row) for rule, row in summary["result"].items()
    },
  }


def main(
  runs: Sequence[Run] | Mapping[str, Sequence[Run]],
  results: Path,
  to_markdown: Callable[[Sequence[Record]], str],
  draw: Callable[[Sequence[Record], Path], None] | None = None,
  argv: Sequence[str] | None = None,
  examine: Callable[[Run, Path, str | None], Record] | None = None,
) -> int:
  """Executes a sweep and writes its results.

  Args:
    runs: the sweep; or, by scale, several, of which `--scale` chooses one, by
      default the first.
    results: folder of the results, beside the experiment.
    to_markdown: makes the tables from the records of the finished runs; with
      scales each has its `scale`.
    draw: `(records, folder)`, draws the pictures.
    argv: the arguments; those of the process by default.
    examine: `(run, folder, data_dir)`, what a finished run's record gets
      besides; asked once and kept in the folder's `examined.json`.

  Returns:
    The exit status: 1 if a run failed, 130 after Ctrl-C, 143 after SIGTERM.
  """
  scales = dict(runs) if isinstance(runs, Mapping) else {"": runs}
  options = _parser(list(scales)).parse_args(argv)
  scale, dtype = getattr(options, "scale", ""), options.dtype
  # Runs in two precisions are different runs, in folders and files of their
  # own.
  label = "_".join(filter(None, (scale, dtype)))
  root = options.root / label
  ours = [_in_dtype(run, dtype) for run in scales[scale]]
  results = options.results or results
  chosen = [r for r in ours if r.name.startswith(options.only)]
  if not chosen:
    names = ", ".join(dict.fromkeys(r.name for r in ours))
    return _fail(f"no run begins with {options.only!r}; there are {names}")
  if options.print:
    for run in chosen:
      print(shlex.join(run.command(root)))
    return 0
  failed: list[str] = []
  if not options.collect:
    try:
      failed = _execute(chosen, root, options.jobs, options.data_dir)
    except ValueError as error:
      return _fail(str(error))
    except interrupts.Interrupted as stop:
      print("Stopped; the same command goes on.")
      return 128 + stop.signum
    except KeyboardInterrupt:
      print("Stopped at once; the same command goes on.")
      return 130
  path = results / f"results{label and '_' + label}.jsonl"

  def more(run: Run) -> Record:
    if examine is None:
      return {}
    kept = run.folder(root) / "examined.json"
    if not kept.exists():
      found = examine(run, run.folder(root), options.data_dir or None)
      workdir.write_json(kept, found)
    return json.loads(kept.read_text())

  found = _collect(ours, root, (path, *options.merge), scale, label, more)
  if found:
    results.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in found))
    path.with_suffix(".md").write_text(to_markdown(found))
    if draw:
      draw(found, results)
    total = len(ours)
    print(f"{len(found)} of {total} runs: {path.with_suffix('.md')}")
  if failed:
    print(f"failed: {', '.join(failed)}", file=sys.stderr)
  return int(bool(failed))


def _parser(scales: Sequence[str]) -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  if scales != [""]:
    parser.add_argument(
      "--scale", choices=scales, default=scales[0], help="size of the runs"
    )
  parser.add_argument("--root", type=Path, default=Path("runs"))
  parser.add_argument("--only", default="", help="names that start so")
  parser.add_argument(
    "--jobs",
    type=int,
    default=1,
    help="so many at a time, each on its share of the cores",
  )
  parser.add_argument("--print", action="store_true", help="commands only")
  parser.add_argument("--collect", action="store_true", help="results only")
  parser.add_argument("--data_dir", default="")
  parser.add_argument(
    "--dtype", choices=("bfloat16",), default="", help="of all runs"
  )
  parser.add_argument("--results", type=Path, help="another folder of results")
  parser.add_argument(
    "--merge",
    type=Path,
    action="append",
    default=[],
    help="results of another machine to take in",
  )
  return parser


def _in_dtype(run: Run, dtype: str) -> Run:
  if not dtype:
    return run
  flag = f"--config.model.dtype={dtype}"
  return dataclasses.replace(run, overrides=(*run.overrides, flag))


def _execute(
  runs: Sequence[Run], root: Path, at_once: int, data_dir: str
) -> list[str]:
  """Runs what is not finished; returns the names of what failed."""
  shares = places.cores(at_once)
  flag = [f"--data_dir={data_dir}"] if data_dir else []
  todo = []
  for run in runs:
    name = run.folder(root).name
    if run.is_finished(root):
      print(f"{name}: finished before")
    else:
      command = [sys.executable, *run.command(root)[1:], *flag]
      todo.append(processes.Job(name, command, run.log(root)))
  return processes.execute(todo, shares, say=lambda s: print(s, flush=True))


def _collect(
  runs: Sequence[Run],
  root: Path,
  paths: Sequence[Path],
  scale: str,
  label: str,
  more: Callable[[Run], Record],
) -> list[Record]:
  """Returns the records of finished runs; of those not there, from `paths`."""
  old = {}
  for path in paths:
    if path.exists():
      lines = path.read_text().splitlines()
      old |= {r["command"]: r for r in map(json.loads, lines)}
  found = []
  for run in runs:
    command = shlex.join(run.command(Path("runs") / label))
    if run.is_finished(root):
      found.append(record(run, root, scale, label) | more(run))
    elif command in old:
      found.append(old[command])
    elif (run.folder(root) / "summary.json").exists():
      print(f"{run.folder(root)} is of another command; it is left out")
  return found


def _settings(arguments: Sequence[str]) -> list[str]:
  """Leaves out what a run's numbers do not depend on: where its files lie."""
  places = ("--workdir=", "--data_dir=")
  return [a for a in arguments if not a.startswith(places)]


def _sessions(folder: Path) -> list[dict[str, Any]]:
  return json.loads((folder / "environment.json").read_text())["sessions"]


def _scalars(row: Mapping[str, Any]) -> Record:
  return {k: v for k, v in row.items() if not isinstance(v, list)}


def _fail(message: str) -> int:
  print(f"error: {message}", file=sys.stderr)
  return 1
