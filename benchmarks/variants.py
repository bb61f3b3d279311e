"""Means that may make a GPU faster, each with its figure.

XLA reads its flags once, when it starts: each variant is a process of its own,
after the other, which times an epoch. An XLA that does not know a flag ends its
process; that row says so, and the others go on. Flags of XLA's GPU compiler are
given on GPUs only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from typing import Any, NamedTuple

from benchmarks import budget as budgets
from benchmarks import measure as measuring
from benchmarks import table
from ltjax.launch import machine_shares

_GRAPHS = "--xla_gpu_enable_command_buffer="
_SMALL = "--xla_gpu_graph_min_graph_size=1"
_LOOPS = "+WHILE,+CONDITIONAL"
_CALLS = "+CONVOLUTION,+CUDNN,+CUBLASLT,+CUSTOM_CALL,+DYNAMIC_SLICE_FUSION"


class Variant(NamedTuple):
  """A way to run an epoch.

  Attributes:
    what: in words.
    xla: flags of XLA.
    bench: flags of `benchmarks.command`.
    loop: which of `measure.LOOPS` is timed.
  """

  what: str
  xla: tuple[str, ...] = ()
  bench: tuple[str, ...] = ()
  loop: str = "epoch"


VARIANTS = {
  "base": Variant("as it is"),
  "no_graphs": Variant("no command buffers", (_GRAPHS,)),
  "small_graphs": Variant("command buffers however few kernels", (_SMALL,)),
  "call_graphs": Variant(
    "command buffers of library calls too", (f"{_GRAPHS}{_CALLS}", _SMALL)
  ),
  "loop_graphs": Variant(
    "command buffers of the loop too", (f"{_GRAPHS}{_CALLS},{_LOOPS}", _SMALL)
  ),
  "concurrent_graphs": Variant(
    "command buffers whose kernels may run at a time",
    ("--xla_gpu_graph_enable_concurrent_region=true", _SMALL),
  ),
  "unroll_2": Variant("2 steps a round", bench=("--unroll=2",)),
  "unroll_4": Variant("4 steps a round", bench=("--unroll=4",)),
  "unroll_8": Variant("8 steps a round", bench=("--unroll=8",)),
  "unroll_4_call_graphs": Variant(
    "4 steps a round, command buffers of library calls too",
    (f"{_GRAPHS}{_CALLS}", _SMALL),
    ("--unroll=4",),
  ),
  "latency_hiding": Variant(
    "latency-hiding scheduler",
    ("--xla_gpu_enable_latency_hiding_scheduler=true",),
  ),
  "conv_nhwc": Variant(
    "convolutions in NHWC", ("--xla_gpu_force_conv_nhwc=true",)
  ),
  "conv_nchw": Variant(
    "convolutions in NCHW", ("--xla_gpu_force_conv_nchw=true",)
  ),
  "conv_fusion": Variant(
    "cuDNN's fusions", ("--xla_gpu_experimental_enable_conv_fusion=true",)
  ),
  "runtime_fusion": Variant(
    "cuDNN's runtime fusions", ("--xla_gpu_use_runtime_fusion=true",)
  ),
  "no_triton": Variant(
    "products by cuBLAS", ("--xla_gpu_enable_triton_gemm=false",)
  ),
  "one_pass": Variant(
    "BatchNorm's statistics in one pass", bench=("--batch_norm=one_pass",)
  ),
  "ahead": Variant("an epoch is augmented ahead", loop="ahead"),
}


def measure(
  *,
  only: Sequence[str] = (),
  budget: budgets.Budget | None = None,
  say: measuring.Say = lambda line, result: None,
  **settings: Any,
) -> dict[str, Any]:
  """Times variants, one after the other.

  Args:
    only: which of `VARIANTS`; none for all. The base comes first in any case.
    budget: when it is over, what was measured is the result.
    say: takes a line, and all that is known, whenever something new is.
    **settings: flags of `benchmarks.command`: `model`, `batch_size` and so on.

  Returns:
    JSON values: the settings; `machine`, of the base; `rows`, by name, each
    with `flags` and either its `images_per_second` and their `ratio` to the
    base's, `mfu` and what a step is `made_of`, or an `error` that says why not;
    and `stopped`, why it was, if it was.

  Raises:
    ValueError: if a name is unknown, or the base cannot be measured.
  """
  unknown = [name for name in only if name not in VARIANTS]
  if unknown:
    raise ValueError(
      f"--variants is {','.join(only)!r}; choose all or from"
      f" {', '.join(VARIANTS)}."
    )
  budget = budget or budgets.Budget()
  rows: dict[str, Any] = {}
  result: dict[str, Any] = {**settings, "rows": rows}
  try:
    platform, _ = machine_shares.devices()
    for name in dict.fromkeys(("base", *(only or VARIANTS))):
      budget.check()
      variant = VARIANTS[name]
      row: dict[str, Any] = {
        "what": variant.what,
        "flags": [*variant.xla, *variant.bench],
      }
      if variant.xla and platform != "gpu":
        row["error"] = f"for GPUs; this is a {platform}"
      else:
        found, error = _run(variant, settings, budget)
        if "epoch" in found.get("loops", {}) or variant.loop in found.get(
          "loops", {}
        ):
          row |= _of_loop(found["loops"][variant.loop])
          result.setdefault("machine", found["machine"])
        if "images_per_second" not in row:
          row["error"] = error
          if name == "base":
            raise ValueError(f"The base cannot be measured: {error}")
        else:
          base = rows.get("base", row)["images_per_second"]
          row["ratio"] = row["images_per_second"]["median"] / base["median"]
      rows[name] = row
      say(_line(name, row), result)
    budget.check()  # The last one may have been cut short.
  except budgets.OverError as error:
    result["stopped"] = str(error)
  return result


def text(result: Mapping[str, Any]) -> str:
  """Draws what `measure` found.

  Args:
    result: of `measure`.
  """
  lines = table.grid(
    ("", "images/s", "to base", "MFU", "kernels", "transposes", "compile s"),
    [_cells(name, row) for name, row in result["rows"].items()],
  )
  lines += [
    f"{name}: {row['error']}"
    for name, row in result["rows"].items()
    if "error" in row
  ]
  base = result["rows"].get("base", {})
  if "made_of" in base:
    lines.append(f"A step of the base: {table.of_program(base['made_of'])}.")
  if "stopped" in result:
    lines.append(f"Not all was measured: {result['stopped']}.")
  return "\n".join(line.rstrip() for line in lines)


def _run(
  variant: Variant, settings: Mapping[str, Any], budget: budgets.Budget
) -> tuple[dict[str, Any], str]:
  """Returns what a process found last, and why it found nothing if so."""
  flags = [f"--{name}={value}" for name, value in settings.items()]
  command = [sys.executable, "-m", "benchmarks.command", "--json"]
  command += [f"--only={variant.loop}", *flags, *variant.bench]
  xla = " ".join([os.environ.get("XLA_FLAGS", ""), *variant.xla])
  process = subprocess.Popen(
    command,
    env=os.environ | {"XLA_FLAGS": xla},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  left = budget.left
  try:
    out, err = process.communicate(timeout=left if left < math.inf else None)
  except subprocess.TimeoutExpired:
    _kill(process)
    out, err = process.communicate()
    err += "\nthe time was over"
  except BaseException:
    _kill(process)
    process.communicate()
    raise
  lines = out.strip().splitlines()
  found = json.loads(lines[-1]) if lines else {}
  return found, _reason(err, process.returncode)


def _kill(process: subprocess.Popen) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)


def _reason(err: str, code: int) -> str:
  """Returns in a line why a process ended without a figure."""
  lines = [line.strip() for line in err.splitlines() if line.strip()]
  for line in lines:
    if "Unknown flag" in line:
      return f"flag unknown: {line.partition(': --')[2] or line}"
    if "Check failed" in line:
      return line
  return f"exit code {code}: {lines[-1] if lines else 'it said nothing'}"


def _of_loop(row: Mapping[str, Any]) -> dict[str, Any]:
  names = ("images_per_second", "compile_seconds", "mfu", "mfu_of_card")
  names = (*names, "made_of", "memory_bytes")
  return {name: row[name] for name in names if name in row}


def _line(name: str, row: Mapping[str, Any]) -> str:
  if "error" in row:
    return f"{name}: {row['error']}"
  speed = row["images_per_second"]["median"]
  return f"{name}: {speed:,.1f} images/s, {row['ratio']:.3f} of the base's"


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
  if "error" in row:
    return [name, *[""] * 6]
  return [
    name,
    f"{row['images_per_second']['median']:,.1f}",
    f"{row['ratio']:.3f}",
    f"{100 * row['mfu']:.1f}%" if "mfu" in row else "",
    f"{row['made_of']['kernels']:g}",
    f"{row['made_of']['transposes']:g}",
    f"{row['compile_seconds']:.1f}",
  ]
