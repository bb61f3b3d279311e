"""The pictures of a report, as PNG files; how they look is in `style.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
import re
from typing import Any

import numpy as np

from ltjax.plots import style

_BARS_UP_TO = 40  # classes; a bar with a name each, above it a profile
_NUMBERS_UP_TO = 20  # classes; a number in each cell of a confusion matrix
_NAMES_UP_TO = 150  # classes; a name for each row of a confusion matrix


def class_histogram(
  labeled_counts: Sequence[int],
  unlabeled_counts: Sequence[int],
  class_names: Sequence[str],
  groups: Mapping[str, Sequence[int]],
  path: str | os.PathLike[str],
) -> None:
  """Draws the training images of each class, the most frequent first.

  Args:
    labeled_counts: `[C]` images per class.
    unlabeled_counts: `[C]` images per class, or empty if not known.
    class_names: `[C]`.
    groups: class ids of `many`, `medium` and `few`.
    path: the PNG file.
  """
  labeled = np.asarray(labeled_counts)
  unlabeled = np.asarray(unlabeled_counts, dtype=labeled.dtype)
  order = np.argsort(-labeled, kind="stable")
  group_of = {c: name for name, ids in groups.items() for c in ids}
  colors = [
    style.COLORS.get(group_of.get(int(c), ""), "#777777") for c in order
  ]
  bars = len(order) <= _BARS_UP_TO
  figure, axes = style.new(max(7.4, 0.3 * len(order) + 2) if bars else 9, 3.8)
  x = np.arange(len(order))
  both = len(unlabeled) > 0
  size = (0.4 if both else 0.7) if bars else 1.0
  shift = size / 2 if both and bars else 0.0
  if both and not bars:  # two rows of bars without gaps would look stacked
    axes.step(x, unlabeled[order], where="mid", color="#555555", linewidth=1)
  elif both:
    height = unlabeled[order]
    place = axes.bar(x + shift, height, size, color=colors, alpha=0.35)
    if len(order) <= 14:
      axes.bar_label(place, padding=1, fontsize=7, color="#555555")
  place = axes.bar(
    x - shift, labeled[order], size, color=colors, antialiased=bars
  )
  if len(order) <= 14:
    axes.bar_label(place, padding=1, fontsize=7)
  axes.set_yscale("log")
  counts = np.concatenate([labeled, unlabeled])
  axes.set_ylim(0.8, 2.2 * max(int(counts.max(initial=1)), 1))
  axes.set_xlim(-0.7, len(order) - 0.3)
  axes.set_ylabel("training images")
  axes.yaxis.set_major_formatter("{x:,.0f}")
  if bars:
    axes.set_xticks(x, [style.name(class_names[c]) for c in order])
    _slant(axes.get_xticklabels())
  else:
    axes.set_xlabel(f"{len(order)} classes, the most frequent first")
  style.legend(axes, _group_patches(groups, both, bars))
  style.save(figure, path, vector=True)


def accuracy_over_loops(
  evaluations: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
  """Draws test accuracy, overall and per group, after each loop.

  Loop 0 is the initialization ("Decoupling"). The dashed lines are the level of
  the network trained by cross entropy alone, with random sampling: the first
  record of the random head. Without a point it is a ValueError.
  """
  points = loops(evaluations)
  if not points:
    raise ValueError(
      "no evaluation of the balanced head on the test set is named "
      "'Decoupling' or '... loop N': nothing to draw over loops"
    )
  level = next(
    (
      e
      for e in evaluations
      if e.get("head") == "random" and e.get("split", "test") == "test"
    ),
    {},
  )
  figure, axes = style.new(6.4, 4.0)
  style.group_lines(axes, points, "accuracy", level)
  axes.set_ylabel("test accuracy (%)")
  axes.set_xlabel("loop (0: decoupled initialization)")
  style.legend(axes, style.line_handles(axes, "cross entropy" if level else ""))
  style.save(figure, path, vector=True)


def pseudo_label_accuracy(
  rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
  """Draws the accuracy of the pseudo labels, overall and per group, over loops.

  Rows without an accuracy, as the truth is not known, are a ValueError.
  """
  points = {
    int(row["loop"]): row
    for row in rows
    if row.get("pseudo/accuracy") is not None
  }
  if not points:
    raise ValueError("the pseudo labels have no known accuracy to draw")
  figure, axes = style.new(6.4, 4.0)
  style.group_lines(axes, points, "pseudo/accuracy", {})
  axes.set_ylabel("pseudo-label accuracy (%)")
  axes.set_xlabel("loop that trains on them")
  style.legend(axes, style.line_handles(axes, ""))
  style.save(figure, path, vector=True)


def confusion_matrix(
  matrix: Sequence[Sequence[int]],
  class_names: Sequence[str],
  path: str | os.PathLike[str],
) -> None:
  """Draws a confusion matrix, each row in per cent of its true class.

  Args:
    matrix: `[C, C]` test images, true class by predicted class. A row without
      an image is grey.
    class_names: `[C]`.
    path: the PNG file.
  """
  from matplotlib import colors

  counts = np.asarray(matrix, dtype=np.float64)
  total = counts.sum(axis=1, keepdims=True)
  share = 100 * np.divide(
    counts, total, out=np.full_like(counts, np.nan), where=total > 0
  )
  n = len(counts)
  each = 0.52 if n <= _NUMBERS_UP_TO else 0.11 if n > 40 else 0.26
  side = min(max(4.2, each * n), 15.0)
  figure, axes = style.new(side + 1.8, side + 1.0)
  # Among many classes single confusions are rare: give them more colour.
  norm = colors.PowerNorm(1.0 if n <= _NUMBERS_UP_TO else 0.5, 0, 100)
  image = axes.imshow(
    np.ma.masked_invalid(share),
    cmap="Blues",
    norm=norm,
    interpolation="nearest",
  )
  axes.set_facecolor("#DDDDDD")
  bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02)
  bar.set_label("% of the true class")
  bar.outline.set_visible(False)
  axes.grid(False)
  axes.spines[:].set_visible(False)
  if n <= _NUMBERS_UP_TO:
    for i, j in zip(*np.nonzero(share >= 0.5)):
      axes.text(
        j,
        i,
        f"{share[i, j]:.0f}",
        ha="center",
        va="center",
        fontsize=8,
        color="white" if share[i, j] > 55 else "#222222",
      )
  if n <= _NAMES_UP_TO:
    names = [style.name(name) for name in class_names]
    size = 9 if n <= _NUMBERS_UP_TO else 7 if n <= 40 else 5
    axes.set_xticks(range(n), names, rotation=90)
    if n <= _NUMBERS_UP_TO:
      _slant(axes.get_xticklabels())
    axes.set_yticks(range(n), names)
    axes.tick_params(labelsize=size, length=0, pad=2)
  axes.set_xlabel("predicted class")
  axes.set_ylabel("true class")
  style.save(figure, path, vector=True)


def loops(
  evaluations: Sequence[Mapping[str, Any]],
) -> dict[int, Mapping[str, Any]]:
  """The balanced head's last test evaluation by loop, 0 for "Decoupling"."""
  found = {}
  for record in evaluations:
    if record.get("head", "balanced") != "balanced":
      continue
    if record.get("split", "test") != "test":
      continue
    model = record.get("model", "")
    number = re.search(r"loop (\d+)$", model)
    if number:
      found[int(number.group(1))] = record
    elif model == "Decoupling":
      found[0] = record
  return dict(sorted(found.items()))


def _group_patches(
  groups: Mapping[str, Any], both: bool, bars: bool
) -> list[Any]:
  from matplotlib import lines, patches

  found: list[Any] = [
    patches.Patch(color=color, label=style.GROUP_NAMES[group])
    for group, color in style.COLORS.items()
    if len(groups.get(group, ()))
  ]
  if both:
    found.append(patches.Patch(color="#777777", label="labeled"))
    found.append(
      patches.Patch(color="#777777", alpha=0.35, label="unlabeled")
      if bars
      else lines.Line2D([], [], color="#555555", label="unlabeled")
    )
  return found


def _slant(labels: Sequence[Any]) -> None:
  if max((len(label.get_text()) for label in labels), default=0) > 3:
    for label in labels:
      label.set(rotation=45, ha="right", rotation_mode="anchor")
