"""A diagram of how far confidence is from accuracy."""

from __future__ import annotations

from collections.abc import Mapping
import os
from typing import Any

from ltjax.plots import style

_COLORS = ("#D55E00", "#0072B2", "#009E73", "#222222")
_MARKERS = "os^D"


def diagram(
  curves: Mapping[str, Any], path: str | os.PathLike[str], *, about: str
) -> None:
  """Draws accuracy over confidence; on the dashed line both are the same.

  A marker's area is the share of the images in its bin.

  Args:
    curves: by name, at most four, `trust.calibration.Reliability`.
    path: the PNG file.
    about: which images, such as `500 test images`.

  Raises:
    ValueError: if there is none to draw, or too many.
  """
  if not 1 <= len(curves) <= len(_COLORS):
    raise ValueError(
      f"there are {len(curves)} curves; 1 to {len(_COLORS)} can be drawn"
    )
  figure, axes = style.new(5.6, 4.2)
  axes.plot([0, 100], [0, 100], color="#777777", linestyle="--", linewidth=1)
  for (name, curve), color, marker in zip(curves.items(), _COLORS, _MARKERS):
    x, y = 100 * curve.confidence, 100 * curve.accuracy
    axes.plot(x, y, color=color, linewidth=1.4, marker=marker, markersize=3)
    area = 300 * curve.count / curve.count.sum()
    axes.scatter(x, y, s=area, color=color, alpha=0.35, linewidths=0)
    axes.plot([], [], color=color, marker=marker, label=style.name(name))
  axes.set_xlim(0, 101)
  axes.set_ylim(-1, 101)
  axes.set_xlabel(f"confidence (%), {about}")
  axes.set_ylabel("accuracy (%)")
  style.legend(axes, axes.get_legend_handles_labels()[0])
  style.save(figure, path)
