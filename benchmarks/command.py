"""Measures speed: `python -m benchmarks.command --model=resnet8`.

Tells how fast ltjax trains, labels and refits, beside a bare jitted loop of the
same network and the machine's own peak; with `--peer=torch` also beside
PyTorch. `--breakdown` tells where the time of a step goes, `--launches` what a
step costs whatever its batch, `--variants` what flags of XLA and other means
change, `--seeds` how several seeds are best trained at a time.

Figures are printed as soon as they are there. With `--json` each of these lines
is all that is known so far, and the last one the result. `--seconds` bounds the
time; then, after SIGTERM and after Ctrl-C, what was measured is the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import contextlib
import json
import sys
from typing import Any

import jax

from benchmarks import breakdown, launches, measure, table, variants
from benchmarks import budget as budgets
from benchmarks.pytorch import client as torch_client
from benchmarks.seeds import compare as seeds
from ltjax import models


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  options = _parser().parse_args(argv)

  def say(line: str, result: Any) -> None:
    print(json.dumps(result) if options.json else line, flush=True)

  def last_words() -> None:
    print("The time is over, and it hangs: ended.", file=sys.stderr, flush=True)

  try:
    with (
      _no_compilation_cache(),
      budgets.limit(options.seconds, last_words) as budget,
    ):
      result, text = _run(options, say, budget)
  except budgets.OverError as error:
    print(f"error: {error}", file=sys.stderr)
    return 128 + error.signum if error.signum else 1
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(json.dumps(result) if options.json else text, flush=True)
  return 0


def _run(
  options: argparse.Namespace, say: measure.Say, budget: budgets.Budget
) -> tuple[Any, str]:
  shape = {
    name: getattr(options, name)
    for name in ("model", "batch_size", "image", "dtype", "steps")
  }
  repeats = {"repeats": options.repeats}
  if options.breakdown:
    shape.pop("steps")
    result = breakdown.measure(**shape, **repeats)
    return result, breakdown.text(result)
  if options.seeds is not None:
    result = seeds.measure(**shape, seeds=options.seeds, **repeats)
    return result, seeds.text(result)
  more = {"budget": budget, "say": say}
  if options.launches:
    shape.pop("batch_size")
    result = launches.measure(**shape, **repeats, **more)
    return result, launches.text(result)
  if options.variants:
    result = variants.measure(
      **shape,
      **repeats,
      **more,
      only=_names(options.variants.replace("all", ""), variants.VARIANTS),
    )
    return result, variants.text(result)
  with contextlib.ExitStack() as stack:
    peers = {}
    if options.peer:
      peers = stack.enter_context(
        torch_client.start(
          python=options.peer_python,
          compile_seconds=options.compile_seconds,
          **shape,
        )
      )
    result = measure.measure(
      **shape,
      **repeats,
      **more,
      devices=options.devices,
      unroll=options.unroll,
      batch_norm=options.batch_norm,
      only=_names(options.only, measure.USUAL),
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
    prog="python -m benchmarks.command",
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
  parser.add_argument(
    "--compile_seconds",
    type=float,
    default=60.0,
    help="the most that torch.compile may take of a candidate",
  )
  parser.add_argument(
    "--seconds", type=float, default=0.0, help="time for all; 0 for no limit"
  )
  parser.add_argument(
    "--unroll", type=int, default=1, help="steps in a round of the epoch's loop"
  )
  parser.add_argument(
    "--batch_norm",
    choices=("two_pass", "one_pass"),
    default="two_pass",
    help="how BatchNorm's statistics are taken",
  )
  what = parser.add_mutually_exclusive_group()
  what.add_argument(
    "--breakdown", action="store_true", help="where the time of a step goes"
  )
  what.add_argument(
    "--launches", action="store_true", help="cost of a step, whatever its batch"
  )
  what.add_argument(
    "--variants", help=f"all, or some of {', '.join(variants.VARIANTS)}"
  )
  what.add_argument(
    "--seeds", type=int, help="so many: in turn, vmapped, a process each"
  )
  parser.add_argument("--json", action="store_true", help="one line of JSON")
  return parser


if __name__ == "__main__":
  sys.exit(main())
