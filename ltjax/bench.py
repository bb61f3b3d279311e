"""Measures speed: `python -m ltjax.bench --model=resnet8`.

Tells how fast ltjax trains, labels and refits, beside a bare jitted loop of the
same network and the machine's own peak; with `--peer=torch` also beside PyTorch.
`--scaling` tells how cost grows with the size of a task, `--breakdown` where the
time of a step goes, `--seeds` how several seeds are best trained at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import contextlib
import json
import sys
from typing import Any

import jax

from ltjax import models
from ltjax.benchmarks import (
  breakdown,
  measure,
  scaling,
  seeds,
  table,
  torch_client,
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  options = _parser().parse_args(argv)
  with _no_compilation_cache():
    try:
      result, text = _run(options)
    except ValueError as error:
      print(f"error: {error}", file=sys.stderr)
      return 1
  print(json.dumps(result) if options.json else text)
  return 0


def _run(options: argparse.Namespace) -> tuple[Any, str]:
  shape = {
    name: getattr(options, name)
    for name in ("model", "batch_size", "image", "dtype", "steps")
  }
  if options.scaling:
    result = scaling.measure(
      only=_names(options.only, scaling.CASES),
      largest=options.largest,
      repeats=options.repeats,
    )
    return result, scaling.text(result)
  if options.breakdown:
    shape.pop("steps")
    result = breakdown.measure(**shape, repeats=options.repeats)
    return result, breakdown.text(result)
  if options.seeds is not None:
    result = seeds.measure(
      **shape, seeds=options.seeds, repeats=options.repeats
    )
    return result, seeds.text(result)
  with contextlib.ExitStack() as stack:
    peers = {}
    if options.peer:
      peers = stack.enter_context(
        torch_client.start(python=options.peer_python, **shape)
      )
    result = measure.measure(
      **shape,
      repeats=options.repeats,
      devices=options.devices,
      only=_names(options.only, measure.LOOPS),
      peers=peers,
    )
  return result, table.of_measure(result)


def _names(given: str, known: Any) -> tuple[str, ...]:
  return tuple(given.split(",")) if given else tuple(known)


@contextlib.contextmanager
def _no_compilation_cache():
  """Compilation is timed, so nothing may have compiled before."""
  name = "jax_enable_compilation_cache"
  before = getattr(jax.config, name)
  jax.config.update(name, False)
  try:
    yield
  finally:
    jax.config.update(name, before)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.bench",
    description="Measures how fast ltjax is, beside others and as tasks grow.",
  )
  parser.add_argument("--model", default="resnet8", help="name of the network")
  parser.add_argument("--batch_size", type=int, default=128)
  parser.add_argument("--image", type=int, default=32, help="pixels of a side")
  parser.add_argument("--dtype", choices=models.DTYPES, default="float32")
  parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
  parser.add_argument("--repeats", type=int, default=5, help="turns to time")
  parser.add_argument(
    "--devices", type=int, default=0, help="how many to use; 0 for all"
  )
  parser.add_argument(
    "--only", default="", help="what to measure, such as bare,epoch"
  )
  parser.add_argument(
    "--peer", choices=("torch",), help="compare with PyTorch, turn by turn"
  )
  parser.add_argument(
    "--peer_python", default="", help="the interpreter that has PyTorch"
  )
  what = parser.add_mutually_exclusive_group()
  what.add_argument(
    "--scaling", action="store_true", help="cost against the size of a task"
  )
  what.add_argument(
    "--breakdown", action="store_true", help="where the time of a step goes"
  )
  what.add_argument(
    "--seeds", type=int, help="so many: in turn, vmapped, a process each"
  )
  parser.add_argument(
    "--largest", type=int, default=10**7, help="size at which --scaling ends"
  )
  parser.add_argument("--json", action="store_true", help="one line of JSON")
  return parser


if __name__ == "__main__":
  sys.exit(main())
