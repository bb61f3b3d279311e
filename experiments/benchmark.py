"""How fast ltjax is here: beside PyTorch, by machine, as tasks grow.

    python -m experiments.benchmark [--peer=torch] [--only=PREFIX,...] [--print]

The shapes are those of the machine: small ResNets on a CPU; on a GPU ResNet-18
and WRN-28-2 at batches of 128 to 1024. Each shape is a process of its own and a
command anyone can run. What `results_DEVICE.jsonl` has is not measured again,
unless it is named with `--again`. What is known of a measurement is written as
it comes, so that a process that is killed, or bounded by `--seconds`, leaves
what it had; that is `partial`, and measured again. `--out=DIR` writes
elsewhere, `--merge=FILE` takes in what was measured there. From the speeds
follows how long the paper's full schedule takes. On a machine that does other
things as well, wait: `load` is noted.
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

from benchmarks import machine
from experiments import benchmark_page

FOLDER = Path(__file__).parent / "benchmark"
PARTIAL = 2  # The exit status where a measurement was stopped.
_DEVICE = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)"

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One process of `benchmarks.command`.

  Attributes:
    name: of the measurement, as in the results.
    flags: of `benchmarks.command`.
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
    return ["python", "-m", "benchmarks.command", "--json", *self.flags, *more]


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
  if platform == "gpu":
    for model, count in steps.items():
      what = (f"--model={model}", "--dtype=bfloat16", f"--steps={count}")
      yield Measurement(f"launches/{model}/bfloat16", ("--launches", *what))
      for batch in (128, 512):
        yield Measurement(
          f"variants/{model}/bfloat16/{batch}",
          ("--variants=all", *what, f"--batch_size={batch}", "--repeats=3"),
        )
      yield Measurement(f"seeds/{model}/bfloat16/3", ("--seeds=3", *what))
  for model in steps:
    for dtype in dtypes:
      yield Measurement(
        f"breakdown/{model}/{dtype}",
        ("--breakdown", f"--model={model}", f"--dtype={dtype}"),
      )


def main(argv: Sequence[str] | None = None) -> int:
  """Measures what is missing, and writes the results.

  Args:
    argv: the arguments; those of the process by default.

  Returns:
    The exit status: 1 if a measurement failed, `PARTIAL` if one was stopped.
  """
  options = _parser().parse_args(argv)
  platform, device = _device()
  known = {m.name: m for m in measurements(platform)}
  chosen = [
    m
    for prefix in options.only.split(",")
    for m in known.values()
    if m.name.startswith(prefix)
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
  path = (options.out or FOLDER) / f"results_{machine.slug(device)}.jsonl"
  records = read(path)
  for other in options.merge:
    for name, record in read(other).items():
      if is_whole(record) or name not in records:
        records[name] = record
  failed = []
  wanted = [] if options.collect else [m.name for m in chosen]
  for measurement in chosen if not options.collect else ():
    name = measurement.name
    if name in records and is_whole(records[name]) and not options.again:
      print(f"{name}: measured before")
      continue
    command = measurement.command(peer)
    command += [f"--seconds={options.seconds:g}"] if options.seconds else []
    print(shlex.join(command), flush=True)
    result, code = None, 0
    for result, code in _run(command):
      records[name] = {
        "name": name,
        # Where the other interpreter lies is of this machine only.
        "command": shlex.join(measurement.command(noted or peer)),
        "machine": result.get("machine", {}),
        "result": result,
        **({"partial": True} if code != 0 or "stopped" in result else {}),
      }
      # A long list of measurements may be stopped and gone on with.
      write(path, list(known), records)
    if result is None or code:
      failed.append(name)
  if options.merge:
    write(path, list(known), records)
  if any(record["machine"] for record in records.values()):
    benchmark_page.write(path, list(records.values()))
    print(f"{len(records)} measurements: {path.with_suffix('.md')}")
  if failed:
    print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1
  whole = [name in records and is_whole(records[name]) for name in wanted]
  return 0 if all(whole) else PARTIAL


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


def is_whole(record: Record) -> bool:
  """Returns whether a measurement came to its end."""
  return not record.get("partial")


def _run(command: Sequence[str]) -> Iterator[tuple[Any, int | None]]:
  """Yields what is known so far, and the exit code once there is one."""
  # Two libraries share a GPU's memory; JAX would take most of it at its start.
  share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.6"}
  process = subprocess.Popen(
    [sys.executable, *command[1:]],
    env=share | os.environ,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout is not None
  result = None
  for line in process.stdout:
    result = json.loads(line)
    yield result, None
  code = process.wait()
  if result is not None:
    yield result, code


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
  parser.add_argument(
    "--only", default="", help="names that start so, in order"
  )
  parser.add_argument(
    "--seconds", type=float, default=0.0, help="for each; 0 for no limit"
  )
  parser.add_argument("--out", type=Path, help="another folder of results")
  parser.add_argument("--merge", type=Path, action="append", default=[])
  parser.add_argument("--again", action="store_true", help="even if measured")
  parser.add_argument("--print", action="store_true", help="commands only")
  parser.add_argument("--collect", action="store_true", help="pages only")
  parser.add_argument("--peer", choices=("torch",))
  parser.add_argument("--peer_python", default="")
  return parser


if __name__ == "__main__":
  sys.exit(main())
