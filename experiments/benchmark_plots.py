"""The pictures of `benchmark`: images a second, and time against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltjax.plots import style

COLORS = {
  "bare": "#BBBBBB",
  "epoch": "#0072B2",
  "torch_field": "#D55E00",
  "torch_best": "#E69F00",
}
NAMES = {
  "bare": "bare JAX step",
  "epoch": "ltjax epoch",
  "torch_field": "PyTorch, DataLoader and PIL",
  "torch_best": "PyTorch, all on the device",
}


def shape(result: Mapping[str, Any]) -> str:
  """Returns what was measured, such as `resnet8, float32, 128`.

  Args:
    result: of `benchmarks.command`.
  """
  return f"{result['model']}, {result['dtype']}, {result['batch_size']}"


def speeds(results: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Draws a group of points, with their ranges, for each shape.

  Args:
    results: of `measure.measure`.
    path: the picture.
  """
  drawn, axes = style.new(9.0, 0.9 + 0.75 * len(results))
  axes.grid(axis="y", visible=False)
  axes.grid(axis="x", color="#E3E3E3", linewidth=0.7)
  for place, result in enumerate(results):
    found = {
      name: result["loops"][name]["images_per_second"]
      for name in ("bare", "epoch")
      if name in result["loops"]
    }
    for name, peer in result["peers"].items():
      if "images_per_second" not in peer:
        continue  # It was stopped before it had a figure.
      found[name] = peer["images_per_second"]
    for i, (name, speed) in enumerate(found.items()):
      height, color = place + 0.2 * (i - 1.5), COLORS[name]
      axes.hlines(height, speed["min"], speed["max"], color=color)
      # A point: the axis is logarithmic, where a bar has no length.
      axes.plot(
        speed["median"],
        height,
        "o",
        color=color,
        label=NAMES[name] if place == 0 else None,
      )
  axes.set_yticks(range(len(results)), [shape(r) for r in results])
  axes.set_ylim(len(results) - 0.5, -0.5)
  axes.set_xscale("log")
  _plain(axes.xaxis)
  axes.set_xlabel("images a second, trained (median and range)")
  style.legend(axes, axes.get_legend_handles_labels()[0])
  style.save(drawn, path)


def _plain(axis: Any) -> None:
  """Labels a logarithmic axis at 1, 2 and 5 of each decade, plainly."""
  from matplotlib import ticker

  axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,.12g}"))
  axis.set_minor_locator(ticker.NullLocator())


def scaling(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Draws a panel for each variable, a line for each case.

  Args:
    rows: of `scaling.measure`.
    path: the picture.
  """
  from matplotlib import figure

  variables = list(dict.fromkeys(row["variable"] for row in rows))
  most = max(sum(r["variable"] == v for r in rows) for v in variables)
  drawn = figure.Figure(
    figsize=(4.0 * len(variables), 3.6 + 0.2 * most), layout="constrained"
  )
  for axes, variable in zip(
    drawn.subplots(1, len(variables), squeeze=False)[0], variables
  ):
    for row in rows:
      if row["variable"] == variable:
        name = f"{row['name']} ({row['exponent']:.2f})"
        axes.plot(row["sizes"], row["seconds"], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(variable)
    if axes.get_xlim()[1] < 100:
      _plain(axes.xaxis)
    axes.set_ylabel("seconds")
    low, high = axes.get_ylim()
    # Times that hardly differ shall look so.
    axes.set_ylim(min(low, high / 20), max(high, low * 20))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
      frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.16)
    )
  style.save(drawn, path)
