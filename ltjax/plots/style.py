"""How a picture looks: one style for all of ltjax's plots.

Many-shot classes are blue, medium-shot green, few-shot orange, the whole test
set black: colours that keep apart for colour-blind readers and, with their
markers, on a grey print. Nothing here touches matplotlib's global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import functools
import os
import pathlib
from typing import Any
import warnings

COLORS = {
  "overall": "#222222",
  "many": "#0072B2",
  "medium": "#009E73",
  "few": "#D55E00",
}
MARKERS = {"overall": "o", "many": "s", "medium": "D", "few": "^"}
GROUP_NAMES = {
  "overall": "overall",
  "many": "many-shot",
  "medium": "medium-shot",
  "few": "few-shot",
}
_LONGEST_NAME = 22
# Of Debian's fonts-noto-cjk and fonts-wqy, Windows and macOS.
_FALLBACKS = (
  *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC"),
  *("WenQuanYi Zen Hei", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
  *("PingFang SC", "Hiragino Sans", "Droid Sans Fallback", "Noto Sans"),
)
_DPI = 150


def new(width: float, height: float) -> tuple[Any, Any]:
  """A figure and its one pair of axes."""
  from matplotlib import figure
  from matplotlib.backends import backend_agg

  drawn = figure.Figure(figsize=(width, height), layout="compressed")
  backend_agg.FigureCanvasAgg(drawn)
  axes = drawn.add_subplot()
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(axis="y", color="#E3E3E3", linewidth=0.7)
  axes.set_axisbelow(True)
  return drawn, axes


def group_lines(
  axes: Any,
  points: Mapping[int, Mapping[str, Any]],
  key: str,
  level: Mapping[str, Any],
) -> None:
  """Draws one line for each group of classes, in per cent.

  Args:
    axes: to draw on.
    points: x, a loop, to a record.
    key: of the overall fraction; that of a group is `key/group`. What a record
      lacks is not drawn.
    level: a record drawn as dashed horizontal lines; may be empty.
  """
  from matplotlib import ticker

  for group, color in COLORS.items():
    name = key if group == "overall" else f"{key}/{group}"
    known = {x: r[name] for x, r in points.items() if r.get(name) is not None}
    if not known:
      continue
    axes.plot(
      list(known),
      [100 * value for value in known.values()],
      color=color,
      marker=MARKERS[group],
      markersize=6 if group == "overall" else 5,
      linewidth=2.2 if group == "overall" else 1.6,
      label=GROUP_NAMES[group],
    )
    if level.get(name) is not None:
      axes.axhline(
        100 * level[name], color=color, linewidth=1.1, linestyle=(0, (5, 3))
      )
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
  low, high = min(points), max(points)
  margin = 0.03 * (high - low) or 0.5
  axes.set_xlim(low - margin, high + margin)
  bottom, top = axes.get_ylim()
  axes.set_ylim(max(bottom, -1), min(top, 101))


def line_handles(axes: Any, dashed: str) -> list[Any]:
  """What the legend shows; `dashed` names the dashed lines, if any."""
  from matplotlib import lines

  handles, _ = axes.get_legend_handles_labels()
  if dashed:
    handles.append(
      lines.Line2D(
        [], [], color="#777777", linewidth=1.1, linestyle="--", label=dashed
      )
    )
  return handles


def legend(axes: Any, handles: Sequence[Any]) -> None:
  """A legend outside, at the upper right."""
  axes.legend(
    handles=handles,
    loc="upper left",
    bbox_to_anchor=(1.0, 1.0),
    frameon=False,
    handlelength=2.4,
  )


def name(text: str) -> str:
  """A class name, cut to what fits a label; a dollar starts no formula."""
  if len(text) > _LONGEST_NAME:
    text = text[: _LONGEST_NAME - 1] + "…"
  return text.replace("$", r"\$")


@functools.cache
def families() -> tuple[str, ...]:
  """The fonts to draw with: matplotlib's own, and others for its gaps."""
  from matplotlib import font_manager

  there = {font.name for font in font_manager.fontManager.ttflist}
  return ("DejaVu Sans", *(name for name in _FALLBACKS if name in there))


def lacks(texts: Sequence[str]) -> bool:
  """Whether a letter of the texts is in none of the fonts: a box is drawn."""
  from matplotlib import font_manager, ft2font

  left = {ord(c) for text in texts for c in text if c.isprintable()}
  for family in families():
    if left:
      font = ft2font.FT2Font(font_manager.findfont(family))
      left -= font.get_charmap().keys()
  return bool(left)


def save(
  figure: Any, path: str | os.PathLike[str], *, vector: bool = False
) -> None:
  """Writes a PNG atomically; the same picture gives the same bytes.

  Args:
    figure: the picture.
    path: the PNG file.
    vector: whether to write an SVG of the same name too, its text as text.
  """
  import matplotlib
  from matplotlib import text

  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  for found in figure.findobj(text.Text):
    found.set_fontfamily(families())
  kinds = {path: {"Software": None}}
  if vector:
    kinds[path.with_suffix(".svg")] = {"Date": None}
  for file, metadata in kinds.items():
    temporary = file.with_name(f".{file.name}.tmp")
    try:
      with (
        warnings.catch_warnings(),
        matplotlib.rc_context(
          {"svg.fonttype": "none", "svg.hashsalt": "ltjax"}
        ),
      ):
        # A class name in a script that no font has is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(
          temporary,
          format=file.suffix[1:],
          dpi=_DPI,
          bbox_inches="tight",
          pad_inches=0.08,
          metadata=metadata,
        )
      os.replace(temporary, file)
    finally:
      temporary.unlink(missing_ok=True)
