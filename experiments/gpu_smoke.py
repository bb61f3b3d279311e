"""The first steps of every method, compiled and run on tiny data.

    python -m experiments.gpu_smoke --out=FILE [--scale=full|cpu] \
      [--seconds=200]

A case is a row of the presets on a backbone: every stage of its run takes an
epoch of a few steps, with the passes between them. `full` begins with ResNet-18
in bf16 and in fp32, the networks of the full-size runs, and goes on with all
other rows on the smallest; `cpu` is a few rows on 8 x 8 pixels. All cases share
a child process; one that aborts, as a compiler may, costs its own case and no
other. What FILE has is not done again; a case that failed is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import importlib.util
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from experiments import benchmark
from ltjax.config import rows
from ltjax.methods import build

ROOT = Path(__file__).parents[1]
# First what full-size runs need, by value; then the rest.
FIRST = ("sslt", "mean_teacher_l", "fassl", "ldam_drw")
OTHERS = {"wrn28_2": "sslt", "resnet50": "sslt", "resnet32": "ce_du"}
CPU = ("ce", "sslt")
BATCH, IMAGES = 32, 60  # Images of a batch, and of each class to draw from.


def cases(scale: str) -> list[str]:
  """Returns the names of the cases, `ROW/BACKBONE/DTYPE`, in their order.

  Args:
    scale: `full` or `cpu`.
  """
  if scale == "cpu":
    return [f"{row}/resnet8/bfloat16" for row in CPU]
  found = [f"{row}/resnet18/bfloat16" for row in FIRST]
  found.append(f"{FIRST[0]}/resnet18/float32")
  found += [f"{row}/{model}/bfloat16" for model, row in OTHERS.items()]
  found += [f"{row}/resnet8/bfloat16" for row in rows.ROWS]
  return list(dict.fromkeys(found))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the cases that are missing; returns 1 if one failed, or `PARTIAL`."""
  options = _parser().parse_args(argv)
  if options.child:
    _serve(options.scale)
    return 0
  ends = time.monotonic() + options.seconds
  records = benchmark.read(options.out)
  order = cases(options.scale)
  todo = [c for c in order if "error" in _result(records.get(c))]
  for case, found in _run(todo, options.scale, ends):
    print(f"{case}: {found.get('error') or 'ran'}", flush=True)
    records[case] = {
      "name": case,
      "command": f"python -m experiments.gpu_smoke --scale={options.scale}",
      "machine": found.pop("machine", {}),
      "result": found,
    }
    benchmark.write(options.out, order, records)
  wrong = [c for c in order if c in records and "error" in _result(records[c])]
  missing = [c for c in order if c not in records]
  print(
    f"{len(order) - len(wrong) - len(missing)} of {len(order)} cases ran,"
    f" {len(wrong)} failed, {len(missing)} were not begun"
  )
  return 1 if wrong else benchmark.PARTIAL if missing else 0


def _result(record: Any) -> dict[str, Any]:
  return record["result"] if record else {"error": "not begun"}


def _run(
  todo: list[str], scale: str, ends: float
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields what became of cases; a process that dies is started again."""
  while todo and time.monotonic() < ends:
    with tempfile.TemporaryFile("w+") as err:
      child = subprocess.Popen(
        [sys.executable, "-m", "experiments.gpu_smoke", "--child", "--out=-"]
        + [f"--scale={scale}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=err,
        text=True,
        cwd=ROOT,
      )
      timer = threading.Timer(max(ends - time.monotonic(), 0.0), child.kill)
      timer.start()
      try:
        while todo:
          found = _ask(child, todo[0])
          if found is None:
            break
          yield todo.pop(0), found
      finally:
        timer.cancel()
        child.kill()
        child.communicate()
      if todo and time.monotonic() < ends:
        err.seek(0)
        yield todo.pop(0), {"error": _why(err.read(), child.returncode)}


def _ask(child: subprocess.Popen, case: str) -> dict[str, Any] | None:
  """Has the child run a case; None if it dies of it."""
  lines, answers = child.stdin, child.stdout
  assert lines is not None and answers is not None
  with contextlib.suppress(BrokenPipeError):
    lines.write(case + "\n")
    lines.flush()
  answer = answers.readline()
  return json.loads(answer) if answer else None


def _why(err: str, code: int) -> str:
  lines = [line.strip() for line in err.splitlines() if line.strip()]
  checks = [line for line in lines if "Check failed" in line]
  said = (checks or lines or ["it said nothing"])[-1]
  return f"the process ended with {code}: {said}"


def _serve(scale: str) -> None:
  """Runs the cases that are named on the input, and answers a line each."""
  from benchmarks import machine
  from ltjax.devices import compilation

  answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  compilation.enable()
  folder = Path(tempfile.mkdtemp(prefix="ltjax-smoke-"))
  try:
    source = _images(folder, 8 if scale == "cpu" else 32)
    for line in sys.stdin:
      began = time.monotonic()
      try:
        found = _try(line.strip(), source, folder / "run")
      except Exception as error:  # Whatever a method may meet.
        first = (str(error).strip().splitlines() or [""])[0]
        found = {"error": f"{type(error).__name__}: {first}"}
      found["seconds"] = round(time.monotonic() - began, 2)
      found["machine"] = machine.describe()
      answers.write(json.dumps(found) + "\n")
      answers.flush()
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def _images(folder: Path, side: int) -> str:
  """Writes random images; returns their source."""
  import numpy as np

  rng = np.random.default_rng(0)
  path = folder / "images.npz"
  np.savez(
    path,
    x=rng.integers(0, 256, (10 * IMAGES, side, side, 3), np.uint8),
    y=np.arange(10 * IMAGES) % 10,
    x_test=rng.integers(0, 256, (BATCH, side, side, 3), np.uint8),
    y_test=np.arange(BATCH) % 10,
  )
  return f"npz:{path}"


def _try(case: str, source: str, folder: Path) -> dict[str, Any]:
  """Runs a case to its end; returns its stages, and their last losses."""
  from ltjax import methods
  from ltjax.devices import sharding
  from ltjax.runs import run

  config = tiny(case, source)
  mesh = sharding.make_mesh(1)
  task = build.build_task(config, mesh, None)
  learner = build.build_learner(config, task, mesh)
  stages = methods.stages(learner, config)
  shutil.rmtree(folder, ignore_errors=True)
  run.Run(folder, mesh=mesh, checkpoint_every_s=3600.0, keep=2).execute(
    stages, learner.init()
  )
  return {"stages": [stage.name for stage in stages]}


def tiny(case: str, source: str) -> Any:
  """Returns the config of a case, of a few steps.

  Args:
    case: of `cases`.
    source: of the images, 10 classes.
  """
  row, model, dtype = case.split("/")
  config = _load("configs/cifar10_sslt.py", row)
  if config.method in ("probe", "fassl"):
    config = _load("configs/cifar10_fassl.py", row)
    config.data.probe.per_class = 0
  config.data.source = source
  config.data.groups = ()
  config.data.labeled = _load("configs/cifar10_sslt.py", "sslt").data.labeled
  config.data.labeled.max_count, config.data.labeled.rho = IMAGES // 3, 2.0
  if config.data.unlabeled.factor:
    config.data.unlabeled.factor = 1.0
  config.data.validation.per_class = 2
  config.model.name, config.model.dtype = model, dtype
  if config.pretrain.name == "moco":
    config.pretrain.queue = BATCH
  _shorten(config)
  return config


def _shorten(block: Any) -> None:
  """Leaves an epoch of small batches of everything, and one loop."""
  for name, value in block.items():
    if hasattr(value, "items"):
      _shorten(value)
    elif name in ("epochs", "loops"):
      block[name] = min(value, 1)
    elif name == "batch_size":
      block[name] = BATCH
    elif name == "warmup_epochs":
      block[name] = 0


def _load(path: str, row: str) -> Any:
  spec = importlib.util.spec_from_file_location("smoke_config", ROOT / path)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(f"row={row}")


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--scale", choices=("full", "cpu"), default="full")
  parser.add_argument("--seconds", type=float, default=3600.0)
  parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
  return parser


if __name__ == "__main__":
  sys.exit(main())
