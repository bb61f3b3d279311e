"""Many seeds of one config: a run each, side by side where there is room.

    python -m ltjax.main --config=FILE --config.seeds=5 --workdir=runs/x

makes the runs `runs/x/seed0` to `runs/x/seed4`, each as if alone, and the mean
of their results, `runs/x/report.md`. This process places, starts, watches and
stops the runs and leaves the accelerators alone. The same command resumes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
import sys

import ml_collections

from ltjax.config import check as config_check
from ltjax.launch import jobs, live_table, machine_shares
from ltjax.report import comparison, page
from ltjax.runs import workdir as workdirs

Config = ml_collections.ConfigDict

# The flags that say which runs there are; each run gets its own instead.
_OURS = ("workdir", "config.seed", "config.seeds", "seeds_at_once")
_OF_HOSTS = ("distributed", "coordinator")


def several(config: Config) -> bool:
  """Checks a config; returns whether it asks for more than one seed."""
  config_check.check(config)
  return config.seeds > 1


def train(
  config: Config,
  workdir: str,
  arguments: Sequence[str],
  *,
  at_once: int = 0,
  echo: Callable[[str], None] = print,
) -> list[str]:
  """Runs all seeds of a config to their end, going on where they were left.

  Args:
    config: as a config file gives it, with `seeds`.
    workdir: the folder of the runs' folders.
    arguments: those of `ltjax.main` which gave the config; each run gets them
      with a seed and a folder of its own.
    at_once: how many at a time; 0 for as many as there are cores or GPUs.
    echo: where the averaged results are printed.

  Returns:
    The names of the runs that failed, such as `seed2`.

  Raises:
    ValueError: if a setting or a folder does not fit.
    Interrupted: after SIGTERM or Ctrl-C, when all have saved.
  """
  config_check.check(config)
  if any(_name(argument) in _OF_HOSTS for argument in arguments):
    raise ValueError(
      f"seeds is {config.seeds}, which are placed on one host; start each of"
      " several processes for one seed (--config.seed)."
    )
  folders = _folders(config, workdir)
  failed: list[str] = []
  with workdirs.Workdir(workdir) as root, live_table.LiveTable() as table:
    if (root / "config.json").exists():
      raise workdirs.WorkdirError(
        f"{root.path} holds a single run; choose another --workdir for"
        f" {config.seeds} seeds."
      )
    todo = []
    for seed, folder in folders.items():
      if _is_finished(folder, _alone(config, seed)):
        table.say(f"{folder.name}: finished before")
      else:
        command = [sys.executable, *_command(arguments, seed, folder)]
        todo.append(jobs.Job(folder.name, command, folder / "log.txt"))
    if todo:
      # As if all were to do: the size of a share can change last bits.
      where = machine_shares.for_runs(config.seeds, at_once)
      failed = jobs.execute(todo, where, say=table.say, watch=table.watch)
  _report(folders, Path(workdir) / "report.md", echo)
  return failed


def plan(config: Config, workdir: str, *, at_once: int = 0) -> str:
  """Returns in words which runs there would be, and where.

  Args:
    config, workdir, at_once: as of `train`.

  Raises:
    ValueError: if the machine has no room for so many at a time.
  """
  where = machine_shares.for_runs(config.seeds, at_once)
  folders = [str(folder) for folder in _folders(config, workdir).values()]
  return (
    f"{config.seeds} runs, {len(where)} at a time, on"
    f" {', '.join(place.name for place in where)}:\n"
    + "".join(f"  {folder}\n" for folder in folders)
  )


def _folders(config: Config, workdir: str) -> dict[int, Path]:
  """Returns the folder of each seed."""
  numbers = range(config.seed, config.seed + config.seeds)
  return {number: Path(workdir) / f"seed{number}" for number in numbers}


def _alone(config: Config, seed: int) -> Config:
  """Returns the config of one of the runs."""
  alone = config.copy_and_resolve_references()
  alone.seed, alone.seeds = seed, 1
  return config_check.of_run(alone)


def _is_finished(folder: Path, config: Config) -> bool:
  """Returns whether a run is; raises WorkdirError if of other settings."""
  if not (folder / "config.json").exists():
    return False
  with workdirs.Workdir(folder) as run:
    run.check_config(config.to_dict())
  ends = (folder / "summary.json", folder / "report.md")
  return all(path.exists() for path in ends)


def _command(arguments: Sequence[str], seed: int, folder: Path) -> list[str]:
  """Returns the arguments to Python that make or resume one of the runs."""
  kept, is_value = [], False
  for argument in arguments:
    if is_value:  # of one of our flags, given as two words
      is_value = False
    elif _name(argument) in _OURS:
      is_value = "=" not in argument
    elif argument != "--":
      kept.append(argument)
  # The file itself may ask for several.
  own = (f"--workdir={folder}", f"--config.seed={seed}", "--config.seeds=1")
  return ["-m", "ltjax.main", *kept, *own]


def _name(argument: str) -> str:
  """Returns the flag that an argument sets; nothing where it sets none."""
  name = argument.partition("=")[0]
  return name.lstrip("-") if name.startswith("-") else ""


def _report(
  folders: Mapping[int, Path], path: Path, echo: Callable[[str], None]
) -> None:
  """Writes and prints the mean and spread of the seeds that are finished."""
  done = {
    seed: page.read_summary(folder)
    for seed, folder in folders.items()
    if (folder / "summary.json").exists()
  }
  if not done:
    return
  text = comparison.to_markdown(comparison.aggregate(done.values()))
  missing = [str(seed) for seed in folders if seed not in done]
  if missing:
    text = f"Seeds that are not finished: {', '.join(missing)}.\n\n{text}"
  path.write_text(text, encoding="utf-8")
  echo(f"{text}\nReport: {path}")
