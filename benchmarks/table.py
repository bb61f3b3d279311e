"""What was measured, as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def of_measure(result: Mapping[str, Any]) -> str:
  """Draws what `measure.measure` found.

  Args:
    result: of `measure.measure`.
  """
  side, machine, peak = result["image"], result["machine"], result["peak"]
  lines = [
    f"{result['model']}, {result['dtype']}, batches of {result['batch_size']}"
    f" images of {side}x{side}x3; medians of {result['repeats']} turns of"
    f" {result['steps']} steps, and their range.",
    f"{len(result['mesh'])} x {machine['device']} ({machine['processor']},"
    f" {machine['cores']} cores, load {machine['load']}), jax"
    f" {machine['versions']['jax']}"
    + (
      f"; peak {teraflops(peak['flops_per_second'])} TFLOP/s in products of"
      f" {peak['size']}x{peak['size']}."
      if peak
      else "."
    ),
    "",
    *grid(
      ("", "images/s", "from", "to", "TFLOP/s", "MFU", "compile s", "MiB"),
      [_cells(row) for row in result["loops"].values()],
    ),
  ]
  made = next((r for r in result["loops"].values() if r.get("made_of")), None)
  made = result["loops"].get("epoch", made)
  if made and made.get("made_of"):
    lines.append(f"A step of {made['name']}: {of_program(made['made_of'])}.")
  if made and "mfu_of_card" in made:
    lines.append(
      f"Of the card's data sheet {made['name']} reaches"
      f" {100 * made['mfu_of_card']:.1f}%."
    )
  if "ltjax_over_bare" in result:
    lines += [
      "",
      f"ltjax / bare step: {spread(result['ltjax_over_bare'])}, by processor"
      f" time {result['processor_ratio']['median']:.3f}",
    ]
  for name, peer in result["peers"].items():
    how = peer["how"]
    if "ratio" not in peer or "layout" not in how:
      lines.append(f"{name}: stopped before its turns.")
      continue
    mode = f", torch.compile {how['compiled']}" if how["compiled"] else ""
    lines.append(
      f"ltjax / {name}: {spread(peer['ratio'])}; it trains"
      f" {peer['images_per_second']['median']:,.1f} images/s (torch"
      f" {how['torch']}, {how['precision']}, {how['layout']}{mode})"
    )
  held = result["process"]
  lines.append(
    "Most memory held: "
    + ", ".join(
      f"{value / 2**20:,.0f} MiB on the {name.removesuffix('_bytes')}"
      for name, value in held.items()
    )
  )
  if "stopped" in result:
    lines.append(f"Not all was measured: {result['stopped']}.")
  return "\n".join(lines)


def of_program(made_of: Mapping[str, Any]) -> str:
  """Draws what a step is made of.

  Args:
    made_of: of `kernels.count`.
  """
  kinds = ", ".join(
    f"{count:g} {name}" for name, count in list(made_of["kinds"].items())[:4]
  )
  labels = ", ".join(
    f"{count:g} {name}" for name, count in made_of["convolutions"].items()
  )
  return (
    f"{made_of['kernels']:g} kernels ({kinds}), {made_of['transposes']:g}"
    f" transposes, {made_of['graphs']} command buffers; convolutions {labels}"
  )


def spread(values: Mapping[str, float]) -> str:
  """Draws a spread, such as `0.970 (0.951 to 0.998)`.

  Args:
    values: of `clock.spread`.
  """
  return f"{values['median']:.3f} ({values['min']:.3f} to {values['max']:.3f})"


def teraflops(flops_per_second: float) -> str:
  """Draws operations a second, in units of 10^12.

  Args:
    flops_per_second: operations a second.
  """
  return f"{flops_per_second / 1e12:.3g}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  """Sets rows in columns, the first to the left, the others to the right.

  Args:
    header: names of the columns.
    rows: as many cells each.
  """
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
  return [
    "  ".join(
      cell.rjust(width) if place else cell.ljust(width)
      for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in (header, *rows)
  ]


def _cells(row: Mapping[str, Any]) -> list[str]:
  speed = row["images_per_second"]
  memory = row["memory_bytes"]
  return [
    row["name"],
    *(f"{speed[name]:,.1f}" for name in ("median", "min", "max")),
    teraflops(row["flops_per_second"]) if "mfu" in row else "",
    f"{100 * row['mfu']:.1f}%" if "mfu" in row else "",
    f"{row['compile_seconds']:.1f}",
    f"{memory / 2**20:,.0f}" if memory else "",
  ]
