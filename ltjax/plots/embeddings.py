"""Maps of embeddings, as PNG files: what `ltjax.plots.tsne` finds, drawn.

A class has a colour, or a group of them above 20 classes; few-shot classes are
triangles with a dark edge.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ltjax.plots import style as figures


def choose(labels: np.ndarray, limit: int, *, seed: int) -> np.ndarray:
  """Draws images, so that small classes are drawn whole: int64, sorted indices.

  Every class gives the same number, or all it has; what is left over goes, an
  image each, to classes that have more.

  Args:
    labels: integers `[N]`.
    limit: the most images, one a class at least, else a ValueError.
    seed: of the draw.
  """
  labels = np.asarray(labels)
  classes, counts = np.unique(labels, return_counts=True)
  if limit < len(classes):
    raise ValueError(
      f"--images is {limit}; the {len(classes)} classes need one image each at"
      " least, so choose more."
    )
  take = np.zeros_like(counts)
  while take.sum() < min(limit, len(labels)):
    open_ = np.flatnonzero(take < counts)
    left = min(limit, len(labels)) - take.sum()
    each = max(min(left // len(open_), int((counts - take)[open_].min())), 1)
    take[open_[:left]] += each
  rng = np.random.default_rng(seed)
  chosen = [
    rng.choice(np.flatnonzero(labels == c), n, replace=False)
    for c, n in zip(classes, take)
  ]
  return np.sort(np.concatenate(chosen))


def narrow(
  found: np.ndarray, classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Keeps the images `[N]` of some classes, and numbers these anew.

  Returns sorted indices, int64 `[n]`, and their classes as places in `classes`.
  """
  place = {c: number for number, c in enumerate(classes)}
  kept = np.flatnonzero(np.isin(found, list(classes)))
  return kept, np.array([place[int(c)] for c in found[kept]], np.int64)


def check_classes(classes: Sequence[int], num_classes: int) -> None:
  """Raises a ValueError unless classes exist and are named once."""
  for c in classes:
    if not 0 <= c < num_classes:
      raise ValueError(
        f"--classes has {c}; there are {num_classes} classes, 0 to"
        f" {num_classes - 1}."
      )
    if list(classes).count(c) > 1:
      raise ValueError(f"--classes has {c} twice; name each class once.")


_COLORED = 20  # classes; a colour each, above it one for each group


@dataclasses.dataclass(frozen=True)
class Map:
  """The embeddings of a run's images on the plane.

  Attributes:
    title: of the run.
    points: float32 `[N, 2]` of the labeled images, `[T, 2]` of the test images.
    labels: their classes, `[N]` and `[T]`.
    class_names: one name a class.
    order: class ids, the most frequent first.
    groups: class ids of `many`, `medium` and `few`.
  """

  title: str
  points: dict[str, np.ndarray]
  labels: dict[str, np.ndarray]
  class_names: tuple[str, ...]
  order: tuple[int, ...]
  groups: dict[str, tuple[int, ...]]


def draw(maps: Sequence[Map], path: str | Path) -> None:
  """Draws maps side by side: a column a run, above training, below test.

  A single run has its two panels side by side. Raises a ValueError if the runs
  have not the same classes and groups.
  """
  from matplotlib import figure

  for other in maps[1:]:
    if (other.class_names, other.groups) != (
      maps[0].class_names,
      maps[0].groups,
    ):
      raise ValueError(
        f"{maps[0].title} and {other.title} are of other classes, or of other"
        " few-shot classes; draw them one by one."
      )
  shape = (2, len(maps)) if len(maps) > 1 else (1, 2)
  drawn = figure.Figure(
    figsize=(4.2 * shape[1] + 1.6, 4.2 * shape[0]), layout="compressed"
  )
  grid = drawn.subplots(*shape, squeeze=False)
  for i, run in enumerate(maps):
    panels = grid[:, i] if len(maps) > 1 else grid[0]
    every = np.concatenate(list(run.points.values()))
    middle = (every.max(axis=0) + every.min(axis=0)) / 2
    reach = 1.05 * float(np.ptp(every, axis=0).max()) / 2 or 1.0
    for axes, name in zip(panels, ("train", "test"), strict=True):
      _scatter(axes, run, name)
      axes.set_xlim(middle[0] - reach, middle[0] + reach)
      axes.set_ylim(middle[1] - reach, middle[1] + reach)
      images = f"{len(run.labels[name]):,} {name} images"
      axes.set_title(f"{figures.name(run.title)}, {images}", fontsize=10)
      axes.set(xticks=[], yticks=[], aspect="equal")
      axes.spines[:].set_color("#BBBBBB")
  figures.legend(grid[0, -1], _handles(maps[0]))
  figures.save(drawn, path)


def _scatter(axes: Any, run: Map, name: str) -> None:
  """Draws points, those of rare classes on top."""
  points, labels = run.points[name], run.labels[name]
  for c in run.order:
    mine = points[labels == c]
    axes.scatter(mine[:, 0], mine[:, 1], **_style(run, c))


def _style(run: Map, c: int) -> dict[str, Any]:
  from matplotlib import colormaps

  group = next((g for g, ids in run.groups.items() if c in ids), "many")
  color: Any = figures.COLORS[group]
  if len(run.order) <= _COLORED:
    color = colormaps["tab10" if len(run.order) <= 10 else "tab20"](c)
  few = group == "few"
  return {
    "color": [color],
    "marker": "^" if few else "o",
    "s": 26 if few else 12,
    "linewidths": 0.5 if few else 0.0,
    "edgecolors": "#222222" if few else "none",
    "alpha": 0.9 if few else 0.7,
  }


def _handles(run: Map) -> list[Any]:
  """The legend: classes, the most frequent first; or, of many, the groups."""
  from matplotlib import lines

  shown = {c: figures.name(run.class_names[c]) for c in run.order}
  if len(shown) > _COLORED:
    shown = {
      ids[0]: figures.GROUP_NAMES[group]
      for group, ids in run.groups.items()
      if ids
    }
  else:
    for c in run.groups.get("few", ()):
      shown[c] += " (few-shot)"
  handles = []
  for c, label in shown.items():
    style = _style(run, c)
    handles.append(
      lines.Line2D(
        [],
        [],
        linestyle="",
        marker=style["marker"],
        markerfacecolor=style["color"][0],
        markeredgecolor=style["edgecolors"],
        markersize=7,
        label=label,
      )
    )
  return handles
