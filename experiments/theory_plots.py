"""The pictures of `yang_xu_theory`: bounds dashed, measured points solid.

Error bars are 95% intervals of a probability, or what the panel says. Where
nothing was seen to happen, a triangle marks the upper end of the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import scale_mixture
from ltjax.plots import style as figures

COLORS = ("#0072B2", "#D55E00", "#009E73", "#222222")
_GREY = "#777777"
_DASHED = (0, (5, 3))
_POINTS = {"marker": "o", "markersize": 4, "capsize": 2}
_LEAST = 1e-5  # of a logarithmic axis of probabilities

Record = dict[str, Any]


def draw(records: Sequence[Record], folder: Path) -> None:
  """Draws `theorem1.png`, `theorem2.png` and `theorem3.png`.

  Args:
    records: as `yang_xu_theory` makes them.
    folder: gets the files.
  """
  from matplotlib import figure

  for number, panels in enumerate((_theorem1, _theorem2, _theorem3), 1):
    drawn = figure.Figure(figsize=(14.0, 3.8))
    axes = drawn.subplots(1, 3, gridspec_kw={"wspace": 0.26})
    for place in axes:
      place.spines[["top", "right"]].set_visible(False)
      place.grid(axis="y", color="#E3E3E3", linewidth=0.7)
      place.set_axisbelow(True)
    panels([r for r in records if r["theorem"] == number], axes)
    for place in axes:
      place.minorticks_off()  # Of logarithmic axes: most of the time to draw.
    figures.save(drawn, folder / f"theorem{number}.png")


def _name(axes: Any, title: str, x: str, y: str) -> None:
  axes.set_title(title, fontsize=11)
  axes.set_xlabel(x)
  axes.set_ylabel(y)


def _legend(
  axes: Any, colors: Mapping[str, str], styles: Mapping[str, Mapping[str, Any]]
) -> None:
  """Names the colours, then the kinds of lines, below the panel."""
  from matplotlib import lines

  kinds = {label: {"color": c, "linewidth": 3} for label, c in colors.items()}
  kinds |= {label: {"color": _GREY} | dict(s) for label, s in styles.items()}
  handles = [lines.Line2D([], [], label=k, **s) for k, s in kinds.items()]
  axes.legend(
    handles=handles,
    frameon=False,
    fontsize=9,
    loc="upper center",
    ncols=2,
    bbox_to_anchor=(0.5, -0.17),
  )


def _groups(
  rows: Sequence[Record], sweep: str, by: str
) -> dict[Any, tuple[str, list[Record]]]:
  """Returns the rows of a sweep by a field's value, each with a colour."""
  rows = [r for r in rows if r["sweep"] == sweep]
  values = dict.fromkeys(r[by] for r in rows)
  return {
    value: (color, [r for r in rows if r[by] == value])
    for value, color in zip(values, COLORS)
  }


def _column(rows: Sequence[Record], name: str) -> np.ndarray:
  return np.array([r[name] for r in rows], np.float64)  # None becomes nan


def _measured(
  axes: Any, x: Any, rows: Sequence[Record], color: str, **style: Any
) -> None:
  """Draws measured probabilities; what never happened, as its upper limit."""
  x = np.asarray(x, np.float64)
  y, low, high = (_column(rows, n) for n in ("measured", "low", "high"))
  seen = y > 0
  ends = np.maximum([y - low, high - y], 0)[:, seen]
  style = {"linewidth": 1.6, **_POINTS, **style}
  axes.errorbar(x[seen], y[seen], yerr=ends, color=color, **style)
  axes.plot(x[~seen], high[~seen], "v", color=color, markersize=5, alpha=0.5)


def _bound(axes: Any, x: Any, y: Any, color: str) -> None:
  axes.plot(x, y, color=color, linestyle=_DASHED, linewidth=1.3)


def _vacuous(axes: Any) -> None:
  """Shades the probabilities above 1: a bound there says nothing."""
  axes.set_xscale("log")
  axes.set_yscale("log")
  axes.set_ylim(_LEAST, 10)
  axes.axhspan(1, 10, color="#EEEEEE", zorder=0)
  axes.annotate(
    "above 1: says nothing",
    (0.98, 0.99),
    xycoords="axes fraction",
    ha="right",
    va="top",
    fontsize=8,
    color=_GREY,
  )


def _theorem1(rows: Sequence[Record], axes: Any) -> None:
  styles = {
    "measured": {"marker": "o"},
    "Theorem 1": {"linestyle": _DASHED},
    "variances added (ours)": {"linestyle": ":"},
  }
  for place, sweep, by in ((axes[0], "size", "delta"), (axes[1], "ratio", "n")):
    groups = _groups(rows, sweep, by)
    for color, same in groups.values():
      x = _column(same, "n")
      if sweep == "ratio":
        x = _column(same, "n_plus") / _column(same, "n_minus")
      _measured(place, x, same, color)
      _bound(place, x, _column(same, "bound"), color)
      place.plot(x, _column(same, "sharper"), ":", color=color)
    _vacuous(place)
    name = "δ" if by == "delta" else "ñ"
    colors = {f"{name} = {value}": c for value, (c, _) in groups.items()}
    _legend(place, colors, styles)
  y = "probability of |θ̂ − centre| > δ"
  x = "unlabeled images ñ = ñ₊ + ñ₋"
  _name(axes[0], "Misses over unlabeled images, balanced", x, y)
  x = "imbalance of the pseudo labels ñ₊ / ñ₋"
  _name(axes[1], "Misses over imbalance, δ = 0.4", x, y)
  ends = np.array([-0.45, 0.45])
  _bound(axes[2], ends, ends, _GREY)
  kinds = {
    "labels right at random": ("difference", COLORS[0]),
    "labels sign(x − cut)": ("cut", COLORS[1]),
  }
  for sweep, color in kinds.values():
    same = [r for r in rows if r["sweep"] == sweep]
    y, bars = _column(same, "mean"), 2 * _column(same, "std")
    x = _column(same, "centre")
    axes[2].errorbar(x, y, yerr=bars, color=color, linewidth=1.6, **_POINTS)
  x, y = "difference of accuracies Δ = p − q", "θ̂ − midpoint (units of σ)"
  _name(axes[2], "Where the estimate lies (bars: ±2 std)", x, y)
  styles = {"Theorem 1: Δ(μ₁ − μ₂)/2": {"linestyle": _DASHED}}
  _legend(axes[2], {label: c for label, (_, c) in kinds.items()}, styles)


def _theorem2(rows: Sequence[Record], axes: Any) -> None:
  styles = {
    "measured": {"marker": "o", "linestyle": ""},
    "formula": {"linewidth": 1},
    "Theorem 2: ≥ 1/4": {"color": "#222222", "linestyle": _DASHED},
  }
  x = np.linspace(-4.3, 4.3, 200)
  for place, p_minus in zip(axes, (0.5, 0.9)):
    groups = _groups(
      [r for r in rows if r["p_minus"] == p_minus], "margin", "beta"
    )
    for beta, (color, same) in groups.items():
      y = scale_mixture.linear_error(x, p_plus=1 - p_minus, beta=beta)
      place.plot(x, y, color=color, linewidth=1)
      _measured(place, _column(same, "margin"), same, color, linestyle="")
    place.axvspan(-4.3, 0, color="#EEEEEE", zorder=0)
    place.text(-4.1, 0.02, "b < 0: not in the theorem", fontsize=8, color=_GREY)
    _bound(place, [-4.3, 4.3], [0.25, 0.25], "#222222")
    place.set(xlim=(-4.3, 4.3), ylim=(0, 1))
    title = f"Linear classifiers of raw inputs, p₋ = {p_minus}"
    _name(place, title, "margin b / (‖θ‖ σ₁)", "error probability")
    _legend(place, {f"β = {b:g}": c for b, (c, _) in groups.items()}, styles)
  betas = np.geomspace(3.01, 1e4, 120)
  colors = dict(zip((0.5, 0.7, 0.9, 0.99), COLORS))
  for p_minus, color in colors.items():
    for any_sign, style in ((False, "-"), (True, ":")):
      y = [
        scale_mixture.least_linear_error(
          p_plus=1 - p_minus, beta=beta, any_sign=any_sign
        )
        for beta in betas
      ]
      axes[2].plot(betas, y, style, color=color, linewidth=1.6)
    same = [r for r in rows if (r["sweep"], r["p_minus"]) == ("best", p_minus)]
    _measured(axes[2], _column(same, "beta"), same, color, linestyle="")
  _bound(axes[2], [3, 1e4], [0.25, 0.25], "#222222")
  axes[2].set_xscale("log")
  axes[2].set_ylim(0, 0.55)
  x, y = "ratio of the variances β", "infimum of the error over b"
  _name(axes[2], "Least error of all linear classifiers", x, y)
  del styles["formula"]
  styles |= {"b ≥ 0": {}, "b of any sign": {"linestyle": ":"}}
  _legend(axes[2], {f"p₋ = {p}": c for p, c in colors.items()}, styles)


def _theorem3(rows: Sequence[Record], axes: Any) -> None:
  styles: dict[str, Mapping[str, Any]] = {
    "measured": {"marker": "o"},
    "Theorem 3": {"linestyle": _DASHED},
  }
  groups = _groups(rows, "positive", "d")
  for color, same in groups.values():
    x = _column(same, "n_plus")
    _measured(axes[1], x, same, color)
    _bound(axes[1], x, _column(same, "failure_bound"), color)
  title = "A class's mean norm off by > 0.2, β = 4"
  _name(axes[1], title, "labeled positives N₊ (of N = 1000)", "probability")
  _vacuous(axes[1])
  _legend(axes[1], {f"d = {d}": c for d, (c, _) in groups.items()}, styles)
  styles |= {
    "best threshold": {"linestyle": ":"},
    "all called −1 (p₊)": {"linewidth": 1},
  }
  for place, sweep, by in (
    (axes[0], "dimension", "beta"),
    (axes[2], "imbalance", "d"),
  ):
    groups = _groups(rows, sweep, by)
    for color, same in groups.values():
      x = _column(same, "d")
      if sweep == "imbalance":
        x = _column(same, "n_minus") / _column(same, "n_plus")
      y = _column(same, "error")
      ends = [y - _column(same, "error_5"), _column(same, "error_95") - y]
      bars = {"yerr": np.maximum(ends, 0), **_POINTS}
      place.errorbar(x, y, color=color, linewidth=1.6, **bars)
      _bound(place, x, _column(same, "bound"), color)
      place.plot(x, _column(same, "best_error"), ":", color=color)
      place.plot(x, _column(same, "p_plus"), color=_GREY, linewidth=1)
    place.set_xscale("log")
    place.set_yscale("log")
    place.set_ylim(1e-6, 1.5)
    name = "β" if by == "beta" else "d"
    colors = {f"{name} = {v:g}": c for v, (c, _) in groups.items()}
    _legend(place, colors, styles)
  y = "error (bars: 5 to 95% of labeled sets)"
  title = "Error over dimensions, N = 100 + 900"
  _name(axes[0], title, "dimensions d", y)
  x = "imbalance N₋ / N₊ = p₋ / p₊"
  _name(axes[2], "Error over imbalance, β = 4, N = 1000", x, y)
