"""How fast ltjax is here: beside PyTorch, by machine, as tasks grow.

    python -m experiments.benchmark [--peer=torch] [--only=PREFIX] [--print]

The shapes are those of the machine: small ResNets on a CPU; on a GPU ResNet-18 and
WRN-28-2 at batches of 128 to 1024. Each shape is a process of its own and a command
anyone can run. What `results_DEVICE.jsonl` has is not measured again, unless it is
named with `--again`. From the speeds follows how long the paper's full schedule
takes. On a machine that does other things as well, wait: `load` is noted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
import shlex
import subprocess
import sys
from typing import Any

from experiments import benchmark_page
from ltjax.benchmarks import machine

FOLDER = Path(__file__).parent / "benchmark"
_DEVICE = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)"

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One process of `ltjax.bench`.

  Attributes:
    name: of the measurement, as in the results.
    flags: of `ltjax.bench`.
    peer: whether it can be compared with PyTorch.
  """

  name: str
  flags: tuple[str, ...]
  peer: bool = False

  def command(self, peer: Sequence[str] = ()) -> list[str]:
    """Returns the command.

    Args:
      peer: flags that compare with PyTorch.
    """
    more = peer if self.peer else ()
    return ["python", "-m", "ltjax.bench", "--json", *self.flags, *more]


def measurements(platform: str) -> Iterator[Measurement]:
  """Yields what is measured.

  Args:
    platform: as JAX calls it, `cpu`, `gpu` or `tpu`.
  """
  if platform == "cpu":
    steps = {"resnet8": 16, "resnet32": 8, "resnet18": 2}
    batches: Sequence[int] = (128,)
  else:
    steps = {"resnet18": 96, "wrn28_2": 96}
    batches = (128, 256, 512, 1024)
  dtypes = ("float32", "bfloat16")
  for model, count in steps.items():
    for dtype in dtypes:
      for batch in batches:
        # An epoch has as many images at any batch size.
        length = max(count * batches[0] // batch, 1)
        yield Measurement(
          f"speed/{model}/{dtype}/{batch}",
          (
            *(f"--model={model}", f"--dtype={dtype}", f"--batch_size={batch}"),
            *(f"--steps={length}", "--repeats=5"),
          ),
          peer=True,
        )
  for model in steps:
    for dtype in dtypes:
      yield Measurement(
        f"breakdown/{model}/{dtype}",
        ("--breakdown", f"--model={model}", f"--dtype={dtype}"),
      )
  yield Measurement("scaling", ("--scaling",))


def main(argv: Sequence[str] | None = None) -> int:
  """Measures what is missing, and writes the results.

  Args:
    argv: the arguments; those of the process by default.

  Returns:
    The exit status: 1 if a measurement failed.
  """
  options = _parser().parse_args(argv)
  platform, device = _device()
  chosen = [
    m for m in measurements(platform) if m.name.startswith(options.only)
  ]
  if not chosen:
    print(f"error: nothing begins with {options.only!r}", file=sys.stderr)
    return 1
  peer, noted = [], []
  if options.peer:
    peer.append(f"--peer={options.peer}")
  if options.peer_python:
    noted = [*peer, f"--peer_python={Path(options.peer_python).name}"]
    peer.append(f"--peer_python={options.peer_python}")
  if options.print:
    for measurement in chosen:
      print(shlex.join(measurement.command(peer)))
    return 0
  path = FOLDER / f"results_{machine.slug(device)}.jsonl"
  records = read(path)
  failed = []
  for measurement in chosen if not options.collect else ():
    if measurement.name in records and not options.again:
      print(f"{measurement.name}: measured before")
      continue
    print(shlex.join(measurement.command(peer)), flush=True)
    result = _run(measurement.command(peer))
    if result is None:
      failed.append(measurement.name)
      continue
    records[measurement.name] = {
      "name": measurement.name,
      # Where the other interpreter lies is of this machine only.
      "command": shlex.join(measurement.command(noted or peer)),
      "machine": result["machine"],
      "result": result,
    }
    # A long list of measurements may be stopped and gone on with.
    write(path, [m.name for m in measurements(platform)], records)
  if records:
    benchmark_page.write(path, list(records.values()))
    print(f"{len(records)} measurements: {path.with_suffix('.md')}")
  if failed:
    print(f"failed: {', '.join(failed)}", file=sys.stderr)
  return int(bool(failed))


def read(path: Path) -> dict[str, Record]:
  """Returns the records of a file, by name; none if there is no file.

  Args:
    path: of the results.
  """
  if not path.exists():
    return {}
  records = map(json.loads, path.read_text().splitlines())
  return {record["name"]: record for record in records}


def write(
  path: Path, order: Sequence[str], records: Mapping[str, Record]
) -> None:
  """Writes the records.

  Args:
    path: of the results.
    order: of the names; others come last.
    records: by name.
  """
  names = [*(n for n in order if n in records), *(set(records) - set(order))]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(records[n]) + "\n" for n in names))


def _run(command: Sequence[str]) -> Any:
  # Two libraries share a GPU's memory; JAX would take most of it at its start.
  share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.6"}
  done = subprocess.run(
    [sys.executable, *command[1:]],
    env=share | os.environ,
    stdout=subprocess.PIPE,
    text=True,
  )
  return None if done.returncode else json.loads(done.stdout)


def _device() -> tuple[str, str]:
  """Returns platform and kind; in another process, which frees the device."""
  done = subprocess.run(
    [sys.executable, "-c", _DEVICE],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  platform, _, device = done.stdout.strip().partition(" ")
  return platform, device


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--only", default="", help="names that start so")
  parser.add_argument("--again", action="store_true", help="even if measured")
  parser.add_argument("--print", action="store_true", help="commands only")
  parser.add_argument("--collect", action="store_true", help="pages only")
  parser.add_argument("--peer", choices=("torch",))
  parser.add_argument("--peer_python", default="")
  return parser


if __name__ == "__main__":
  sys.exit(main())
