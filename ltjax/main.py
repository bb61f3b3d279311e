"""Trains a config: `python -m ltjax.main --config=FILE --workdir=DIR`.

Flags only; the story is in `ltjax.train`. The same command resumes a run.
"""

import errno
from pathlib import Path
import re
import signal
import sys
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from ltjax import dry_run, train
from ltjax.checkpoints import manager as checkpoints
from ltjax.devices import compilation, distributed
from ltjax.launch import seeds
from ltjax.runs import interrupts, rehearsal
from ltjax.training import fit

_CONFIG = config_flags.DEFINE_config_file(
  "config", help_string="Config file, as configs/digits_sslt.py."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run; the same folder resumes it."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Data sets; else LTJAX_DATA, else a cache folder."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Print config, classes, parameters and stages, and stop."
)
_CHECK = flags.DEFINE_bool(
  "check", False, "Compile every program of the run, and stop."
)
_COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache", None, f"A {compilation.HELP}."
)
_SEEDS_AT_ONCE = flags.DEFINE_integer(
  "seeds_at_once", 0, "Of config.seeds; 0: one a core, or one a GPU.", 0
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "One of several processes: of a TPU pod, SLURM, MPI."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "One of several processes: host:port of the first."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one, from 0.")
_PEER_TIMEOUT = flags.DEFINE_integer(
  "peer_timeout", 100, "Seconds until a silent process is given up.", 1
)


def main(argv: list[str]) -> None:
  """Runs the config of the flags."""
  if len(argv) > 1:
    _fail(f"Unknown arguments: {' '.join(argv[1:])}")
  if not flags.FLAGS["config"].present:
    _fail("--config is needed, as in --config=configs/digits_sslt.py.")
  workdir = _WORKDIR.value
  if not (_DRY_RUN.value or _CHECK.value or workdir):
    _fail("--workdir is needed, or --dry_run or --check.")
  logging.set_verbosity(logging.WARNING)
  try:
    if seeds.several(_CONFIG.value):
      _run_seeds(workdir)
      return
    distributed.initialize(
      automatic=_DISTRIBUTED.value,
      coordinator=_COORDINATOR.value,
      processes=_PROCESSES.value,
      process_id=_PROCESS_ID.value,
      timeout_s=_PEER_TIMEOUT.value,
    )
    compilation.enable(_COMPILATION_CACHE.value)
    if _DRY_RUN.value:
      dry_run.show(_CONFIG.value, data_dir=_DATA_DIR.value)
    elif _CHECK.value or not workdir:
      train.check(_CONFIG.value, data_dir=_DATA_DIR.value, echo=_say)
    else:
      train.train(_CONFIG.value, workdir, data_dir=_DATA_DIR.value)
  except interrupts.Interrupted as stop:
    print(f"Stopped by {stop} and saved; the same command goes on.")
    sys.exit(128 + stop.signum)
  except KeyboardInterrupt:
    print("Stopped at once; the same command goes on from what is saved.")
    sys.exit(128 + signal.SIGINT)
  except (
    ValueError,
    OSError,
    fit.NonFiniteLossError,
    checkpoints.CheckpointError,
    distributed.PeerError,
    rehearsal.CompilationError,
  ) as error:
    _fail(f"{type(error).__name__}: {error}{_hint(error)}")


def _run_seeds(workdir: str | None) -> None:
  """Trains several seeds, or says how it would."""
  config, at_once = _CONFIG.value, _SEEDS_AT_ONCE.value
  if _CHECK.value and not _DRY_RUN.value:
    _fail(
      "--check is of one run, on the devices that it will have: give it"
      " --config.seeds=1, and of several GPUs one (CUDA_VISIBLE_DEVICES=0). On"
      " an accelerator each seed compiles its programs before its first stage"
      " anyway."
    )
  if _DRY_RUN.value or not workdir:
    # The plan first: then this process takes the device.
    plan = seeds.plan(config, workdir or "WORKDIR", at_once=at_once)
    dry_run.show(config, data_dir=_DATA_DIR.value)
    print(f"\n{plan}", end="")
    return
  failed = seeds.train(config, workdir, sys.argv[1:], at_once=at_once)
  if failed:
    _fail(f"Failed: {', '.join(failed)}. The same command tries again.")


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a mistake in them is told in a line or two.

  Returns:
    What is no flag.
  """
  for path in re.findall(r"(?m)^--?config=([^:\n]*)", "\n".join(argv)):
    if not Path(path).is_file():
      _fail(f"The config file {path!r} does not exist in {Path.cwd()}.")
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    _fail(f"{_without_trace(str(error))}\n(--help lists the flags.)")
  except (AttributeError, KeyError) as error:
    # An override of a field that the config does not have.
    field = re.search(r"'(\w+)'", str(error).replace("\\", ""))
    for flag in re.findall(r"(?m)^--?((?:no)?config\.[\w.]+)", "\n".join(argv)):
      if field and field[1] in flag.split("."):
        near = re.search(r"Did you mean .?\"(\w+)\"", str(error))
        hint = f" Did you mean {near[1]}?" if near else ""
        _fail(f"--{flag}: the config has no field {field[1]!r}.{hint}")
    raise  # A mistake in the code of the config file: show where.


def _say(text: str) -> None:
  # At once: a compiler may abort the process.
  print(text, flush=True)


def _fail(message: str) -> NoReturn:
  print(message, file=sys.stderr)
  sys.exit(1)


def _hint(error: BaseException) -> str:
  if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
    return (
      " Free some space and run the same command again: it goes on from what"
      " is saved."
    )
  return ""


def _without_trace(message: str) -> str:
  """Leaves of a traceback what a check of `ltjax.config` had to say."""
  frames = re.findall(r'(?m)^\s*File "([^"]+)", line \d+', message)
  if frames and Path(frames[-1]).parts[-3:-1] == ("ltjax", "config"):
    return re.split(r"(?m)^\s*ValueError: ", message)[-1].strip()
  return message


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
