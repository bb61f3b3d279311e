"""The picture of self-supervised pre-training: is the embedding alive?

A network that maps all images to one point can have the best loss of all.
Beside the loss stand, therefore, what tells a collapse, and what labels say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
from typing import Any

from ltjax.plots import style

Record = Mapping[str, Any]

# What is shown beside the loss, by the names in `metrics.jsonl`.
METRICS = {
  "feature_std": "feature std",
  "effective_rank": "effective rank",
  "online_accuracy": "online probe",
  "effective_sample_size": "effective sample size",
  "weight_correlation": "correlation of weight and 1/count",
}
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def watched(records: Sequence[Record]) -> dict[str, str]:
  """Returns the metrics of pre-training that records have, with their names."""
  return {
    key: name
    for key, name in METRICS.items()
    if any(record.get(key) is not None for record in records)
  }


def stages(records: Sequence[Record]) -> dict[str, list[Record]]:
  """Returns the epochs of each stage of pre-training, in order.

  A stage is one of pre-training if its records watch its features.
  """
  found: dict[str, list[Record]] = {}
  for record in records:
    if record.get("kind") == "train" and watched([record]):
      found.setdefault(record["stage"], []).append(record)
  return found


def draw(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
  """Draws the loss and what was watched over the epochs, a panel each.

  Stages follow one another, a colour each. Raises a ValueError if no stage of
  pre-training is among the lines of `metrics.jsonl`.
  """
  from matplotlib import figure, ticker

  found = stages(records)
  if not found:
    raise ValueError("no stage watched its features: nothing to draw")
  every = [record for rows in found.values() for record in rows]
  panels = {"loss": "loss"} | watched(every)
  drawn = figure.Figure(
    figsize=(6.4, 1.7 * len(panels) + 0.6), layout="compressed"
  )
  grid = drawn.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
  for axes, (key, name) in zip(grid, panels.items(), strict=True):
    before = 0
    for number, (stage, rows) in enumerate(found.items()):
      known = [r for r in rows if r.get(key) is not None]
      axes.plot(
        [before + r["epoch"] for r in known],
        [r[key] for r in known],
        color=_COLORS[number % len(_COLORS)],
        linewidth=1.8,
        marker="o" if len(known) == 1 else "",
        label=stage,
      )
      before += rows[-1]["epochs"]
    axes.set_title(name, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.7)
  grid[-1].set_xlabel("epoch")
  grid[-1].xaxis.set_major_locator(
    ticker.MaxNLocator(integer=True, min_n_ticks=1)
  )
  style.legend(grid[0], grid[0].get_legend_handles_labels()[0])
  style.save(drawn, path)
