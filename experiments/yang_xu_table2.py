"""Table 2 of Yang & Xu: self-supervised pre-training before supervised rules.

    python -m experiments.yang_xu_table2 [--scale=cpu|full] [--only=ldam] \
      [--print]

`full` is ResNet-32 on CIFAR-10-LT and CIFAR-100-LT (configs/cifar10_lt.py,
configs/cifar100_lt.py), `cpu` ResNet-8 on Fashion-MNIST at 14 x 14, at rho 100
only, with cross-entropy after rotation and after MoCo as further rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import sweep, tables

SEEDS = (0, 1, 2)
# Error in % at rho 100, 50, 10: CIFAR-10-LT, then CIFAR-100-LT.
PAPER = {
  "ce": ("CE", (29.64, 25.19, 13.61), (61.68, 56.15, 44.29)),
  "cb_ce": ("CB-CE", (27.63, 21.95, 13.23), (61.44, 55.45, 42.88)),
  "cb_ce_ssp": ("CB-CE + SSP", (23.47, 19.60, 11.57), (56.94, 52.91, 41.94)),
  "focal": ("Focal", (29.62, 23.29, 13.34), (61.59, 55.68, 44.22)),
  "cb_focal": ("CB-Focal", (25.43, 20.73, 12.90), (60.40, 54.83, 42.01)),
  "cb_focal_ssp": (
    "CB-Focal + SSP",
    (22.90, 18.74, 11.75),
    (57.03, 53.12, 41.16),
  ),
  "ce_drw": ("CE-DRW", (24.94, 21.10, 13.57), (59.49, 55.31, 43.78)),
  "ce_drs": ("CE-DRS", (25.53, 21.39, 13.73), (59.62, 55.46, 43.95)),
  "ce_drw_ssp": ("CE-DRW + SSP", (23.04, 19.93, 12.66), (57.21, 53.57, 41.77)),
  "ldam": ("LDAM", (26.65, 23.18, 13.04), (60.40, 55.03, 43.09)),
  "ldam_drw": ("LDAM-DRW", (22.97, 19.06, 11.84), (57.96, 53.85, 41.29)),
  "ldam_drw_ssp": (
    "LDAM-DRW + SSP",
    (22.17, 17.87, 11.47),
    (56.57, 52.89, 41.09),
  ),
}
OTHERS = {"ce_ssp": "CE + SSP", "ce_moco": "CE + MoCo"}
RHOS = (100, 50, 10)
CONFIGS = {
  "cpu": {"fashion_mnist_14": "configs/fashion_mnist_14_lt.py"},
  "full": {
    "cifar10": "configs/cifar10_lt.py",
    "cifar100": "configs/cifar100_lt.py",
  },
}
DIFFERS = {
  "fashion_mnist_14": (
    "Fashion-MNIST at 14 x 14 instead of CIFAR-10 (whose numbers stand beside"
    " ours for orientation), 250 labeled images in the first class, ResNet-8,"
    " 60 epochs of pre-training and 60 of training."
  ),
  "cifar10": "the paper reports its best epoch on the test set, we the last.",
  "cifar100": "the paper reports its best epoch on the test set, we the last.",
}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  for data, config in CONFIGS[scale].items():
    for rho in RHOS if scale == "full" else RHOS[:1]:
      for row in (*PAPER, *(OTHERS if scale == "cpu" else ())):
        for seed in SEEDS:
          yield sweep.Run(
            f"{row}-{data}-rho{rho}", f"{config}:row={row},rho={rho}", seed
          )


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields a table for each set and rho."""
  for data in CONFIGS[scale]:
    for position, rho in enumerate(RHOS if scale == "full" else RHOS[:1]):
      rows = []
      for row, (title, small, large) in PAPER.items():
        numbers = large if data == "cifar100" else small
        rows.append(
          tables.Row(
            f"{row}-{data}-rho{rho}", title, {"overall": numbers[position]}
          )
        )
      if scale == "cpu":
        rows += [
          tables.Row(f"{row}-{data}-rho{rho}", title)
          for row, title in OTHERS.items()
        ]
      yield tables.Section(
        f"{data}, rho {rho}", rows, DIFFERS[data], measure="error"
      )


def intro(scale: str) -> str:
  """Returns the picture of the embeddings, as Figure 4 of the paper."""
  if scale != "cpu":
    return ""
  return (
    "![Embeddings by t-SNE](tsne_ssp.png)\n\nAs Figure 4 of the paper, seed 0:"
    " `python -m ltjax.plots.tsne runs/cpu/ce-fashion_mnist_14-rho100-seed0"
    " runs/cpu/ce_ssp-fashion_mnist_14-rho100-seed0 --titles='CE,CE + SSP'"
    " --out=experiments/yang_xu_table2/tsne_ssp.png`."
  )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in CONFIGS},
      Path(__file__).with_suffix(""),
      tables.page("Table 2 of Yang & Xu", sections, intro=intro),
    )
  )
