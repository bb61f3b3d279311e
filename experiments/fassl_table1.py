"""Table 1 of FASSL: a linear probe on all labels, and the ablation it lacks.

    python -m experiments.fassl_table1 [--scale=cpu|full] [--only=fassl] \
      [--print]

`full` is ResNet-18 on CIFAR-10-LT and CIFAR-100-LT (configs/cifar10_fassl.py,
configs/cifar100_fassl.py), `cpu` ResNet-8 on CIFAR-10-LT at 16 x 16 pixels
(configs/cifar10_fassl_small.py). The second table judges the same
embeddings by other protocols, the third tells what each part of FASSL brings:
its paper compares with BYOL from scratch, where FASSL starts from SDCLR.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import fassl, sweep, tables

# Mean of the groups, few, medium, many, deviation of the groups.
PAPER = {
  "simclr": ("SimCLR", (75.37, 69.33, 73.33, 83.45, 5.94)),
  "byol": ("BYOL", (75.66, 75.43, 69.83, 81.70, 4.85)),
  "swav": ("SwAV", (76.60, 73.30, 71.10, 85.40, 6.29)),
  "bcl_i": ("BCL-I", ()),
  "sdclr": ("SDCLR", (80.49, 75.10, 78.07, 88.30, 5.66)),
  "fassl": ("FASSL", (80.69, 78.80, 76.73, 86.55, 4.23)),
  "probe_supervised": ("Supervised", (80.76, 75.43, 80.93, 85.93, 4.95)),
}
CIFAR100 = {
  "swav": ("SwAV", (47.00, 44.00, 47.03, 49.97, 2.44)),
  "byol": ("BYOL", (48.86, 45.55, 47.42, 53.62, 3.45)),
  "simclr": ("SimCLR", (49.76, 47.58, 50.36, 51.35, 1.60)),
  "bcl_i": ("BCL-I", (52.22, 48.27, 53.03, 55.35, 2.95)),
  "sdclr": ("SDCLR", (54.94, 51.00, 55.03, 58.79, 3.18)),
  "fassl": ("FASSL", (55.27, 53.55, 54.52, 57.74, 1.79)),
  "probe_supervised": ("Supervised", (54.06, 51.39, 54.18, 56.62, 2.13)),
}
ABLATION = {
  "sdclr": "SDCLR, where FASSL starts",
  "sdclr_longer": "SDCLR, as long as all of FASSL",
  "fassl_uniform": "FASSL, all weights 1",
  "fassl": "FASSL, weights of the paper",
  "fassl_energy": "FASSL, weights by energy",
  "fassl_features": "FASSL, prototypes from features",
}
OTHERS = ("probe_untrained", *PAPER)
LONGER = {"cpu": 95, "full": 2700}  # epochs


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale, seed by seed."""
  rows = tuple(dict.fromkeys((*OTHERS, *ABLATION)))
  yield from fassl.probed(
    scale, tuple(row for row in rows if row != "sdclr_longer")
  )
  for seed in fassl.SEEDS:
    yield fassl.run(
      "sdclr_longer",
      scale,
      seed,
      arguments="row=sdclr",
      changes=(f"--config.pretrain.epochs={LONGER[scale]}",),
    )
  if scale == "full":
    yield from fassl.probed("cifar100", tuple(CIFAR100), prefix="cifar100-")
  for seed in fassl.SEEDS:
    config = f"{fassl.CONFIGS[scale]}:row=ldam_drw_ssp,split={seed}"
    yield sweep.Run("ldam_drw_ssp", config, seed)


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields the table, the other protocols and the ablation."""
  differs = fassl.DIFFERS[scale]
  rows = [
    tables.Row(
      row,
      title,
      dict(zip(fassl.COLUMNS, numbers)),
      protocol="sdclr_full",
    )
    for row, (title, numbers) in PAPER.items()
  ]
  ssp = tables.Row("ldam_drw_ssp", "LDAM-DRW + SSP", {"overall": 77.83})
  yield tables.Section(
    "CIFAR-10-LT, rho 100",
    [*rows, tables.Row("probe_untrained", "Untrained", protocol="sdclr_full")],
    differs,
    columns=fassl.COLUMNS,
  )
  if scale == "full":
    yield fassl.cifar100(CIFAR100, "sdclr_full")
  yield tables.Section(
    "The supervised row, no probe", [ssp], differs, columns=("overall", "few")
  )
  for protocol in ("cached_adam", "knn"):
    yield tables.Section(
      f"The same embeddings under the protocol {protocol}",
      [
        tables.Row(row, title, protocol=protocol)
        for row, title in {
          **{row: title for row, (title, _) in PAPER.items()},
          "probe_untrained": "Untrained",
        }.items()
      ],
      columns=fassl.COLUMNS,
    )
  for protocol in ("sdclr_full", "cached_adam", "sdclr_fewshot"):
    yield tables.Section(
      f"Ablation, protocol {protocol}",
      [
        tables.Row(row, title, protocol=protocol)
        for row, title in ABLATION.items()
      ],
      columns=fassl.COLUMNS,
    )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in fassl.SCALES},
      Path(__file__).with_suffix(""),
      tables.page("Table 1 of FASSL", sections),
    )
  )
