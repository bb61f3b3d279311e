"""Figures 2 and 3 of Yang & Xu: unlabeled images that are not of the classes.

    python -m experiments.yang_xu_figures_2_3 [--scale=cpu|full] [--print]

Test error of self-training with cross-entropy at rho 50, over the relevance of
the unlabeled images (Figure 2: the relevant ones with rho_u 50) and, at a
relevance of 60 %, over rho_u of the relevant ones (Figure 3). The dashed line
is plain cross-entropy. `full` is ResNet-32 on CIFAR-10-LT with CIFAR-100 as the
irrelevant images, `cpu` ResNet-8 on Fashion-MNIST at 14 x 14 with CIFAR-10,
grey and as small. The paper prints its figures without numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
import statistics
import sys
from typing import Any

from experiments import sweep, tables
from ltjax.plots import style

SEEDS = (0, 1, 2)
RHO = 50
RELEVANCES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RATIOS = (1, 25, 50, 100)
FIXED = 0.6
CONFIGS = {
  "cpu": ("configs/fashion_mnist_14_lt.py", ""),
  "full": ("configs/cifar10_lt.py", ",max_count=833"),
}


def name(relevance: float, rho_u: int) -> str:
  """Returns the name of the runs of a point."""
  return f"ce_du-relevance{round(100 * relevance)}-rho_u{rho_u}"


def points() -> list[tuple[float, int]]:
  """Returns `(relevance, rho_u)` of all points of both figures."""
  wanted = [(relevance, RHO) for relevance in RELEVANCES]
  wanted += [(FIXED, rho_u) for rho_u in RATIOS]
  return list(dict.fromkeys(wanted))


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  config, more = CONFIGS[scale]
  for seed in SEEDS:
    yield sweep.Run("ce-rho50", f"{config}:row=ce,rho={RHO}{more}", seed)
  for relevance, rho_u in points():
    arguments = f"row=ce_du,rho={RHO},rho_u={rho_u},relevance={relevance}"
    for seed in SEEDS:
      yield sweep.Run(
        name(relevance, rho_u), f"{config}:{arguments}{more}", seed
      )


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields a table for each figure."""
  del scale  # The same points.
  plain = tables.Row("ce-rho50", "CE, no unlabeled images")
  second = [
    tables.Row(name(r, RHO), f"relevance {100 * r:.0f} %") for r in RELEVANCES
  ]
  third = [tables.Row(name(FIXED, u), f"rho_u {u}") for u in RATIOS]
  yield tables.Section(
    f"Figure 2: relevance, rho_u {RHO}", [plain, *second], measure="error"
  )
  yield tables.Section(
    f"Figure 3: rho_u, relevance {100 * FIXED:.0f} %",
    [plain, *third],
    measure="error",
  )


def draw(records: Sequence[dict[str, Any]], folder: Path) -> None:
  """Draws both figures; bars are the standard deviation over seeds."""
  from matplotlib import figure

  drawn = figure.Figure(figsize=(9, 3.4), layout="constrained")
  left, right = drawn.subplots(1, 2, sharey=True)
  for axes, label, ticks, keys in (
    (
      left,
      f"relevance of the unlabeled images (%), rho_u {RHO}",
      [100 * r for r in RELEVANCES],
      [name(r, RHO) for r in RELEVANCES],
    ),
    (
      right,
      f"rho_u of the relevant ones, relevance {100 * FIXED:.0f} %",
      RATIOS,
      [name(FIXED, u) for u in RATIOS],
    ),
  ):
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.7)
    found = [
      (tick, _errors(records, key))
      for tick, key in zip(ticks, keys, strict=True)
    ]
    found = [(tick, errors) for tick, errors in found if errors]
    if found:
      axes.errorbar(
        [tick for tick, _ in found],
        [statistics.mean(e) for _, e in found],
        yerr=[statistics.stdev(e) if len(e) > 1 else 0.0 for _, e in found],
        color=style.COLORS["overall"],
        marker=style.MARKERS["overall"],
        capsize=2,
        label="with unlabeled images",
      )
    plain = _errors(records, "ce-rho50")
    if plain:
      axes.axhline(
        statistics.mean(plain), color="#777777", linestyle="--", label="CE"
      )
  left.set_ylabel("test error (%)")
  drawn.legend(
    *left.get_legend_handles_labels(), loc="outside lower center", ncols=2
  )
  scale = records[0]["scale"]
  style.save(drawn, folder / f"figures_{scale}.png")


def _errors(records: Sequence[dict[str, Any]], key: str) -> list[float]:
  return [
    100 * (1 - record["result"]["last"]["accuracy"])
    for record in records
    if record["name"] == key
  ]


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in CONFIGS},
      Path(__file__).with_suffix(""),
      tables.page(
        "Figures 2 and 3 of Yang & Xu",
        sections,
        intro=lambda scale: f"![Test error](figures_{scale}.png)",
      ),
      draw,
    )
  )
