"""Trains a config: `python -m ltjax.main --config=FILE --workdir=DIR`.

Flags only; the story is in `ltjax.train`. The same command resumes a run.
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from ltjax import checkpoints, fit, interrupts, train

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


def main(argv: list[str]) -> None:
  """Runs the config of the flags."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
  if _CONFIG.value is None:
    raise app.UsageError("--config is needed, as configs/digits_sslt.py.")
  workdir = _WORKDIR.value
  if not _DRY_RUN.value and not workdir:
    raise app.UsageError("--workdir is needed, or --dry_run.")
  logging.set_verbosity(logging.WARNING)
  try:
    if _DRY_RUN.value or not workdir:
      train.dry_run(_CONFIG.value, data_dir=_DATA_DIR.value)
    else:
      train.train(_CONFIG.value, workdir, data_dir=_DATA_DIR.value)
  except interrupts.Interrupted as stop:
    print(f"Stopped by {stop} and saved; the same command goes on.")
    sys.exit(128 + stop.signum)
  except (
    ValueError,
    OSError,
    fit.NonFiniteLossError,
    checkpoints.CheckpointError,
  ) as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
  app.run(main)
