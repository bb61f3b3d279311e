"""Measures speed: `python -m ltjax.bench --model=resnet8`.

Tells how fast ltjax trains beside a bare jitted loop of the same network, how
fast it assigns pseudo labels, and how long a classifier refit takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import sys
from typing import Any

from ltjax import models, speed


def table(result: dict[str, Any]) -> str:
  """Draws what `speed.measure` found.

  Args:
    result: of `speed.measure`.
  """
  shape = "x".join(str(result["image"]) for _ in range(2))
  low, high = min(result["ratios"]), max(result["ratios"])
  return "\n".join(
    [
      f"{result['model']}, {result['dtype']}, batches of"
      f" {result['batch_size']} images of {shape}x{result['channels']}, on"
      f" {', '.join(result['devices'])}; medians of {result['repeats']} turns"
      f" of {result['steps']} steps.",
      f"bare jitted loop    {result['bare']:>12,.1f} images/s, compiled in"
      f" {result['bare_compile_seconds']:.1f} s",
      f"ltjax training      {result['ltjax']:>12,.1f} images/s, compiled in"
      f" {result['ltjax_compile_seconds']:.1f} s",
      f"ltjax / bare        {result['ratio']:>12.3f} (turns: {low:.3f} to"
      f" {high:.3f}), by processor time {result['processor_ratio']:.3f}",
      f"pseudo-labelling    {result['pseudo_label']:>12,.1f} images/s",
      f"classifier refit    {result['refit_features_seconds']:>12.2f} s for"
      f" the features of {result['refit_images']:,} images in"
      f" {result['refit_views']} views, {result['refit_fit_seconds']:.2f} s for"
      f" {result['refit_epochs']} epochs",
    ]
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.bench",
    description="Compares ltjax's training loop with a bare jitted one.",
  )
  parser.add_argument("--model", default="resnet8", help="name of the network")
  parser.add_argument("--batch_size", type=int, default=128)
  parser.add_argument("--image", type=int, default=32, help="pixels of a side")
  parser.add_argument("--dtype", choices=models.DTYPES, default="float32")
  parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
  parser.add_argument("--repeats", type=int, default=5, help="turns to time")
  parser.add_argument("--json", action="store_true", help="one line of JSON")
  options = vars(parser.parse_args(argv))
  as_json = options.pop("json")
  try:
    result = speed.measure(**options)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(json.dumps(result) if as_json else table(result))
  return 0


if __name__ == "__main__":
  sys.exit(main())
