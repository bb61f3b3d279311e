"""Table 2 of Liu et al.: six methods on ImageNet-SSLT, ResNet-18 and ResNet-50.

    python -m experiments.sslt_table2 [--scale=cpu|full] [--only=sslt] [--print]

`full` is ImageNet-SSLT (configs/imagenet_sslt.py, which says where the images
and lists go). `cpu` keeps what is peculiar to it, the Lomax profile with four
times as many unlabeled images, on the ten classes of Fashion-MNIST at 14 x 14:
alpha 6 as in the paper, scale 10 instead of 1000, as there are ten classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import sslt_table1, sweep, tables

SEEDS = (0, 1, 2)
NETWORKS = {"cpu": ("resnet8",), "full": ("resnet18", "resnet50")}
COLUMNS = ("overall", "many", "medium", "few")
# Row: its name in the paper, then its numbers for ResNet-18 and ResNet-50.
PAPER = {
  "ldam_drw": (
    "LDAM-DRW (L)",
    (21.3, 42.6, 27.0, 8.6),
    (24.9, 51.2, 31.1, 9.9),
  ),
  "pseudo_label_l": (
    "Pseudo-Label + L",
    (17.6, 22.4, 20.9, 12.6),
    (23.9, 44.0, 30.0, 11.1),
  ),
  "mean_teacher_l": (
    "Mean Teacher + L",
    (21.3, 41.8, 28.1, 7.6),
    (25.6, 49.1, 31.8, 11.7),
  ),
  "decoupling": (
    "Decoupling (D)",
    (24.8, 53.9, 31.1, 8.7),
    (27.2, 58.5, 34.2, 9.8),
  ),
  "pseudo_label_d": (
    "Pseudo-Label + D, from scratch, g on D and U'",
    (25.3, 47.6, 32.1, 11.1),
    (27.7, 52.2, 34.7, 12.4),
  ),
  "pseudo_label_d_finetuned": (
    "Pseudo-Label + D, fine-tuned, g on D",
    (25.3, 47.6, 32.1, 11.1),
    (27.7, 52.2, 34.7, 12.4),
  ),
  "sslt": ("SSLT", (26.5, 52.0, 33.9, 10.7), (29.0, 57.1, 36.5, 12.3)),
}
LOMAX = (
  "--config.data.labeled.profile=lomax",
  "--config.data.labeled.scale=10.0",
  "--config.data.unlabeled.factor=4.0",
)
DIFFERS = {
  "cpu": (
    "everything but the profile and the methods: ten classes of Fashion-MNIST"
    " at 14 x 14 instead of a thousand of ImageNet, ResNet-8. The paper's"
    " column (ResNet-18) is for orientation."
  ),
  "full": (
    "the batch size, the crops and the settings of Mean Teacher and LDAM-DRW,"
    " which the paper does not give: see configs/imagenet_sslt.py."
  ),
}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  for network in NETWORKS[scale]:
    for row in PAPER:
      for seed in SEEDS:
        if scale == "cpu":
          config = f"configs/fashion_mnist_14_sslt.py:row={row}"
          yield sweep.Run(f"{row}-lomax", config, seed, LOMAX)
        else:
          config = f"configs/imagenet_sslt.py:row={row},model={network}"
          yield sweep.Run(f"{row}-imagenet-{network}", config, seed)


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields a table for each network."""
  for position, network in enumerate(NETWORKS[scale]):
    end = "lomax" if scale == "cpu" else f"imagenet-{network}"
    rows = [
      tables.Row(
        f"{row}-{end}",
        title,
        dict(zip(COLUMNS, numbers[position], strict=True)),
      )
      for row, (title, *numbers) in PAPER.items()
    ]
    differs = f"{DIFFERS[scale]} {sslt_table1.EITHER}"
    yield tables.Section(network, rows, differs)


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in NETWORKS},
      Path(__file__).with_suffix(""),
      tables.page("Table 2 of Liu et al.", sections),
    )
  )
