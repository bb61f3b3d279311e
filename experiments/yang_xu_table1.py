"""Table 1 of Yang & Xu: what unlabeled images add, by their own imbalance.

    python -m experiments.yang_xu_table1 [--scale=cpu|full] [--only=ce] \
      [--print]

Cross-entropy and LDAM-DRW, without and with five times as many unlabeled images
of imbalance rho_u, whose total is fixed. `full` is ResNet-32 on CIFAR-10-LT and
SVHN-LT (configs/cifar10_lt.py, configs/svhn_lt.py), `cpu` ResNet-8 on
Fashion-MNIST at 14 x 14, at rho 100 only, with the other semi-supervised
methods of their Appendix E.1 (whose numbers are not in the paper's main text).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import sweep, tables

SEEDS = (0, 1, 2)
# Error in %: without unlabeled images, then for rho_u = 1, rho / 2, rho, 2 rho.
PAPER = {
  "cifar10_714": {
    ("ce", 100): (29.64, 17.48, 18.42, 18.74, 20.06),
    ("ldam_drw", 100): (22.97, 14.96, 15.18, 15.33, 15.55),
    ("ce", 50): (25.19, 16.79, 16.88, 18.36, 19.94),
    ("ldam_drw", 50): (19.06, 14.33, 14.70, 14.93, 15.24),
    ("ce", 10): (13.61, 10.22, 10.48, 10.86, 11.04),
    ("ldam_drw", 10): (11.84, 8.72, 8.24, 8.68, 8.97),
  },
  "svhn": {
    ("ce", 100): (19.98, 13.02, 13.73, 14.65, 15.04),
    ("ldam_drw", 100): (16.66,),
    ("ce", 50): (17.50, 13.07, 13.36, 13.16, 14.54),
    ("ldam_drw", 50): (14.59,),
    ("ce", 10): (11.46, 10.01, 10.20, 10.06, 10.71),
    ("ldam_drw", 10): (10.27,),
  },
}
NAMES = {"ce": "CE", "ldam_drw": "LDAM-DRW"}
OTHERS = {
  "ce_mean_teacher": "Mean Teacher + CE",
  "ce_pi_model": "Pi-model + CE",
  "ce_temporal_ensembling": "Temporal ensembling + CE",
  "ce_vat": "VAT + CE",
}
CONFIGS = {
  "cpu": {"fashion_mnist_14": "configs/fashion_mnist_14_lt.py"},
  "full": {
    "cifar10_714": "configs/cifar10_lt.py",
    "svhn": "configs/svhn_lt.py",
  },
}
RHOS = {"cpu": (100,), "full": (100, 50, 10)}
DIFFERS = {
  "fashion_mnist_14": (
    "Fashion-MNIST at 14 x 14 instead of CIFAR-10 (whose numbers stand beside"
    " ours for orientation), 250 labeled images in the first class, ResNet-8,"
    " 60 epochs on the labeled images and 32 on all."
  ),
  "cifar10_714": (
    "labeled and unlabeled images both from CIFAR-10, as Tiny Images is"
    " withdrawn; so 714 labeled images in the first class instead of 5000, in"
    " all rows: the most that rho 10 with rho_u 20 leaves room for."
  ),
  "svhn": (
    "1000 labeled images in the first class, as in the authors' code; classes"
    " in the order 0 to 9. The paper's rows for LDAM-DRW with unlabeled images"
    " are not legible in our copy."
  ),
}


def ratios(rho: int) -> tuple[int, ...]:
  """Returns the imbalance ratios of the unlabeled images."""
  return (1, rho // 2, rho, 2 * rho)


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  for data, config in CONFIGS[scale].items():
    size = ",max_count=714" if data == "cifar10_714" else ""
    for rho in RHOS[scale]:
      wanted = []
      for row in NAMES:
        wanted.append((f"{row}-{data}-rho{rho}", f"row={row},rho={rho}"))
        for rho_u in ratios(rho):
          wanted.append(
            (
              f"{row}_du-{data}-rho{rho}-rho_u{rho_u}",
              f"row={row}_du,rho={rho},rho_u={rho_u}",
            )
          )
      if scale == "cpu":
        for row in OTHERS:
          wanted.append((f"{row}-{data}-rho{rho}", f"row={row},rho={rho}"))
      for name, arguments in wanted:
        for seed in SEEDS:
          yield sweep.Run(name, f"{config}:{arguments}{size}", seed)


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields a table for each set and rho."""
  for data in CONFIGS[scale]:
    paper = PAPER.get(data, PAPER["cifar10_714"])
    for rho in RHOS[scale]:
      rows = []
      for row, title in NAMES.items():
        numbers = iter(paper[row, rho])
        rows.append(
          tables.Row(
            f"{row}-{data}-rho{rho}", title, {"overall": next(numbers)}
          )
        )
        for rho_u in ratios(rho):
          number = next(numbers, None)
          rows.append(
            tables.Row(
              f"{row}_du-{data}-rho{rho}-rho_u{rho_u}",
              f"{title} + unlabeled, rho_u {rho_u}",
              {} if number is None else {"overall": number},
            )
          )
      yield tables.Section(
        f"{data}, rho {rho}", rows, DIFFERS[data], measure="error"
      )
      if scale == "cpu":
        rows = [
          tables.Row(f"{row}-{data}-rho{rho}", title)
          for row, title in OTHERS.items()
        ]
        yield tables.Section(
          f"{data}, rho {rho}: other semi-supervised methods",
          rows,
          measure="error",
        )


def intro(scale: str) -> str:
  """Returns the picture of the embeddings, as Figure 1 of the paper."""
  if scale != "cpu":
    return ""
  return (
    "![Embeddings by t-SNE](tsne_unlabeled.png)\n\nAs Figure 1 of the paper,"
    " seed 0: `python -m ltjax.plots.tsne"
    " runs/cpu/ce-fashion_mnist_14-rho100-seed0"
    " runs/cpu/ce_du-fashion_mnist_14-rho100-rho_u100-seed0 --titles='CE,CE +"
    " unlabeled' --out=experiments/yang_xu_table1/tsne_unlabeled.png`."
  )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in CONFIGS},
      Path(__file__).with_suffix(""),
      tables.page("Table 1 of Yang & Xu", sections, intro=intro),
    )
  )
