"""Whole runs for tests: the toys in a file, a config for them, a command line.

A run of the toys goes through everything that a real one does, except that the
network is the toys' own, put in the place of `models.create`.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import toys

from ltjax import models, train
from ltjax.checkpoints import integrity
from ltjax.checkpoints import manager as checkpoints

ROOT = pathlib.Path(__file__).parents[1]
SET = "toys.npz"  # relative: a run's summary names its source


def write_set(path, **changes):
  """Writes the toys as an npz set; `changes` replace arrays."""
  counts = np.add(toys.LABELED, toys.UNLABELED) + 2
  y, y_test = toys.labels_of(counts), toys.labels_of((5, 5, 5, 5))
  arrays = {
    "x": toys.pictures(y),
    "y": y,
    "x_test": toys.pictures(y_test, 1),
    "y_test": y_test,
  }
  np.savez(path, **(arrays | changes))
  return path


def config(source=f"npz:{SET}", **changes):
  """Returns the config of a run of some fifty steps."""
  settings = {
    "data__source": str(source),
    "data__pad": 0,
    "data__labeled__profile": "explicit",
    "data__labeled__counts": toys.LABELED,
    "data__unlabeled__factor": 0.5,
    "loops": 1,
  }
  return toys.config(**(settings | changes))


def patch_model(monkeypatch):
  """Puts the toys' network in the place of the real ones."""
  monkeypatch.setattr(models, "create", lambda *a, **k: toys.model())


def place(tmp_path, monkeypatch):
  """Goes to a folder with the toys' set, whose network is any model's."""
  monkeypatch.chdir(tmp_path)
  write_set(SET)
  patch_model(monkeypatch)
  return tmp_path


def run(workdir, **changes):
  """Trains the toys; returns the summary and what was printed."""
  lines = []
  summary = train.train(config(**changes), str(workdir), echo=lines.append)
  return summary, "\n".join(lines)


def command(*arguments):
  return [sys.executable, "-m", "ltjax.main", *map(str, arguments)]


def environment(**more):
  """The environment of a child: one device, warnings are errors, no network."""
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    **{name: str(value) for name, value in more.items()},
  }


def main(*arguments, cwd=ROOT, timeout=300, **more):
  """Runs the command line to its end."""
  return subprocess.run(
    command(*arguments),
    cwd=cwd,
    env=environment(**more),
    capture_output=True,
    text=True,
    timeout=timeout,
  )


def outcome(workdir):
  """Returns what must be the same of two runs, however often interrupted."""
  workdir = pathlib.Path(workdir)
  (record,) = (workdir / "model").glob("*/_CHECKPOINT_METADATA")
  rows = []
  for line in (workdir / "metrics.jsonl").read_text().splitlines():
    row = json.loads(line)
    row.pop("images_per_second", None)
    rows.append(row)
  return {
    "model": json.loads(record.read_text())["custom_metadata"]["digest"],
    "model.json": (workdir / "model.json").read_bytes(),
    "summary": (workdir / "summary.json").read_bytes(),
    "metrics": rows,
  }


def digest_of_model(workdir):
  """Returns the digest of the arrays that are really in `model/`."""

  def target(record):
    del record
    params, batch_stats = toys.model().init(checkpoints.jax.random.key(0))
    return {
      "backbone": params["backbone"],
      "batch_stats": batch_stats,
      "head": params["head"],
      "balanced_head": params["head"],
    }

  tree, _ = checkpoints.read(pathlib.Path(workdir) / "model", target)
  return integrity.fingerprint(tree)


def files(folder):
  """Returns the content and time of every file of a folder."""
  return {
    str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
    for path in sorted(pathlib.Path(folder).rglob("*"))
    if path.is_file()
  }
