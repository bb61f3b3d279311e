"""Draws learned prototypes: `python -m experiments.prototype_pictures WORKDIR`.

A prototype is a direction of the latent space and has no picture of its own. It
is shown by the training image nearest to it, as in figure 4 of FASSL: group by
group, and within a group class by class, the most frequent first. An image
stands there once for each prototype that it is the nearest of.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
import sys
from typing import Any

import numpy as np

from ltjax.plots import style
from ltjax.runs import finished

_COLUMNS = 16
_UNKNOWN = "unknown"
_NAMED = 12  # classes of a group whose numbers its title tells


@dataclasses.dataclass(frozen=True)
class Pictures:
  """The images of prototypes.

  Attributes:
    title: of the picture.
    images: uint8 `[K, H, W, C]`, the nearest image of each prototype.
    classes: integers `[K]`, theirs; -1 where unknown.
    class_names: one name a class.
    order: class ids, the most frequent first.
    groups: class ids of `many`, `medium` and `few`.
    base_rate: share of the training images by group; None where unknown.
  """

  title: str
  images: np.ndarray
  classes: np.ndarray
  class_names: tuple[str, ...]
  order: tuple[int, ...]
  groups: Mapping[str, Sequence[int]]
  base_rate: Mapping[str, float | None]

  def of_group(self, group: str) -> np.ndarray:
    """Returns the prototypes of a group, the most frequent class first.

    Args:
      group: a name in `groups`, or `unknown`.
    """
    ids = [-1] if group == _UNKNOWN else list(self.groups[group])
    rank = {c: place for place, c in enumerate((*self.order, -1))}
    chosen = np.flatnonzero(np.isin(self.classes, ids))
    return np.array(
      sorted(chosen.tolist(), key=lambda k: rank[int(self.classes[k])]),
      np.int64,
    )


def collect(
  workdir: str | Path, *, title: str = "", data_dir: str | None = None
) -> Pictures:
  """Reads the images of the last prototypes of a finished run.

  Args:
    workdir: the run's folder.
    title: of the picture; the folder's name if empty.
    data_dir: where data sets live; None for the default.

  Raises:
    FileNotFoundError: if there is no run, or its data is gone.
    ValueError: if the run is not finished, its files do not belong together, or
      it learned no prototypes.
  """
  run = finished.reopen(workdir, data_dir)
  rows = run.summary.get("prototypes") or []
  if not rows:
    raise ValueError(
      f"The run in {workdir} learned no prototypes; choose one with"
      " --config.pretrain.name=fassl."
    )
  row, task = rows[-1], run.task
  # Of all training images, or of the labeled ones, which come first.
  if row["images"] not in (len(task.images), task.num_labeled):
    raise ValueError(
      f"The prototypes of {workdir} were compared with {row['images']:,}"
      f" images, and its data has {len(task.images):,}. Put back the files of"
      " one run."
    )
  counts = np.asarray(task.split.labeled_counts)
  return Pictures(
    title=title or Path(workdir).resolve().name,
    images=np.asarray(task.images[np.asarray(row["nearest"])]),
    classes=np.asarray(row["classes"]),
    class_names=tuple(task.class_names),
    order=tuple(int(c) for c in np.argsort(-counts, kind="stable")),
    groups=task.groups,
    base_rate=row["base_rate"],
  )


def draw(pictures: Pictures, path: str | Path) -> None:
  """Draws the images of prototypes, a panel for each group, in its colour.

  Args:
    pictures: what to draw.
    path: the PNG file.
  """
  from matplotlib import figure

  shown = {g: pictures.of_group(g) for g in (*pictures.groups, _UNKNOWN)}
  if not len(shown[_UNKNOWN]):
    del shown[_UNKNOWN]
  lines = [max(-(-len(chosen) // _COLUMNS), 1) for chosen in shown.values()]
  _, height, width, _ = pictures.images.shape
  cell = 0.62 * height / width + 0.14
  size = (0.62 * _COLUMNS + 0.2, cell * sum(lines) + 0.5 * len(lines) + 0.4)
  drawn = figure.Figure(figsize=size, layout="constrained")
  distinct = len(np.unique(pictures.images, axis=0))
  drawn.suptitle(
    f"{style.name(pictures.title)}: {len(pictures.images)} prototypes,"
    f" {distinct} different images",
    fontsize=11,
  )
  panels = drawn.subplots(
    len(shown), 1, squeeze=False, gridspec_kw={"height_ratios": lines}
  )[:, 0]
  for axes, (group, chosen) in zip(panels, shown.items(), strict=True):
    _panel(axes, pictures, group, chosen)
  style.save(drawn, path)


def _panel(
  axes: Any, pictures: Pictures, group: str, chosen: np.ndarray
) -> None:
  """Draws a grid of images, each in a frame, above it the class."""
  from matplotlib import patches

  color = style.COLORS.get(group, "#777777")
  _, height, width, _ = pictures.images.shape
  ratio = height / width
  step = ratio + 0.22  # A line for the name.
  for place, k in enumerate(chosen):
    line, column = divmod(place, _COLUMNS)
    left, top = column + 0.03, line * step + 0.22
    box = (left, left + 0.94, top + 0.94 * ratio, top)
    image = pictures.images[k]
    gray = image.shape[-1] == 1
    axes.imshow(
      image[..., 0] if gray else image,
      extent=box,
      cmap="gray" if gray else None,
      vmin=0,
      vmax=255,
      interpolation="nearest",
      aspect="equal",
    )
    axes.add_patch(
      patches.Rectangle(
        (left, top),
        0.94,
        0.94 * ratio,
        fill=False,
        edgecolor=color,
        linewidth=1.6,
      )
    )
    c = int(pictures.classes[k])
    before = int(pictures.classes[chosen[place - 1]]) if place else None
    if c >= 0 and (c != before or column == 0):
      axes.text(
        left,
        top - 0.05,
        style.name(pictures.class_names[c]),
        fontsize=6,
        color=color,
      )
  axes.set_xlim(0, _COLUMNS)
  axes.set_ylim(max(-(-len(chosen) // _COLUMNS), 1) * step, 0)
  axes.set_title(
    _heading(pictures, group, chosen), fontsize=9, loc="left", color=color
  )
  axes.axis("off")


def _heading(pictures: Pictures, group: str, chosen: np.ndarray) -> str:
  """`many-shot: 116 of 128 prototypes (90.6 %; 87.6 % of the images)`.

  Below it, the prototypes of each class of the group, where it has few classes.
  """
  name = style.GROUP_NAMES.get(group, f"class {group}")
  text = f"{name}: {len(chosen)} of {len(pictures.images)} prototypes"
  if group == _UNKNOWN:
    return text
  known = int((pictures.classes >= 0).sum())
  rate = pictures.base_rate[group]
  if known and rate is not None:
    share = f"{100 * len(chosen) / known:.1f} %"
    of = "" if known == len(pictures.images) else " of known class"
    text += f" ({share}{of}; {100 * rate:.1f} % of the images{of})"
  classes = pictures.classes[chosen]
  numbers = {
    style.name(pictures.class_names[c]): int((classes == c).sum())
    for c in pictures.order
    if c in pictures.groups[group]
  }
  if 0 < len(numbers) <= _NAMED:
    text += "\n" + ", ".join(f"{name} {n}" for name, n in numbers.items())
  return text


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m experiments.prototype_pictures",
    description="Draws the training images nearest to a run's prototypes.",
  )
  parser.add_argument(
    "workdir", metavar="WORKDIR", help="folder of a finished run of FASSL"
  )
  parser.add_argument("--title", default="", help="else the folder's name")
  parser.add_argument(
    "--data_dir", help="data sets; else LTJAX_DATA, else a cache folder"
  )
  parser.add_argument(
    "--out",
    type=Path,
    help="the PNG file; else plots/prototypes.png of the run",
  )
  options = parser.parse_args(argv)
  path = options.out or Path(options.workdir) / "plots" / "prototypes.png"
  try:
    found = collect(
      options.workdir, title=options.title, data_dir=options.data_dir
    )
    draw(found, path)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(path)
  return 0


if __name__ == "__main__":
  sys.exit(main())
