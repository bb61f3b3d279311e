"""FASSL and its rivals on a set that is long-tailed by nature: plankton.

    python -m experiments.fassl_plankton [--scale=cpu|full] [--only=fassl] \
      [--print]

The training images of the National Data Science Bowl (Kaggle, 2015): 30,336
pictures of plankton in 121 classes, from 1,979 down to 9. They are not ours to
pass on: put them, padded to squares and brought to one size, as
`plankton_64.npz` (`x` uint8 [N, H, W], `y`, `classes`) into the current folder.
A fifth of each class is tested, so that the test set is as skewed as the
training set: read the means over classes. Another seed is another split. No
paper has this table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import fassl, fassl_table4_5, sweep, tables

ROWS = {
  "probe_untrained": "Untrained",
  "simclr": "SimCLR",
  "sdclr": "SDCLR",
  "fassl_uniform": "FASSL, all weights 1",
  "fassl": "FASSL, weights of the paper",
  "probe_supervised": "Supervised",
}
COLUMNS = (
  *("overall", "class mean", "group mean"),
  *("mean few", "mean medium", "mean many"),
)
CONFIG = "configs/natural_fassl.py:source=npz:plankton_64.npz,classes=121"
# Epochs are of 12,106 images, half of each class; the probes have all labels.
CPU = (
  "--config.model.name=resnet8",
  "--config.data.labeled.fraction=0.5",
  "--config.pretrain.epochs=6",
  "--config.prototypes.epochs=2",
  "--config.student.epochs=6",
  "--config.embedding.epochs=6",
  *(f"--config.{block}.batch_size=256" for block in ("pretrain", "student")),
  *(f"--config.{block}.warmup_epochs=1" for block in ("pretrain", "student")),
  "--config.pretrain.learning_rate=0.25",
  "--config.student.learning_rate=0.5",  # as configs/cifar10_fassl_small.py
  "--config.prototypes.batch_size=256",
  "--config.prototypes.warmup_epochs=0",
  "--config.pretrain.interpolation=linear",
  "--config.pretrain.dim=64",
)
CHANGES = {"cpu": CPU, "full": ()}
SIZE = {"cpu": 16, "full": 64}
SETTING = {
  "cpu": (
    "16 x 16 pixels, ResNet-8, half of the images, 6 epochs of SDCLR, 2 of the"
    " prototypes, 6 of the student"
  ),
  "full": "64 x 64 pixels, ResNet-18, 200, 50 and 200 epochs",
}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale, seed by seed."""
  for seed in fassl.SEEDS:
    for row in ROWS:
      yield sweep.Run(
        f"plankton-{row}",
        f"{CONFIG},size={SIZE[scale]},row={row}",
        seed,
        (f"--config.data.seed={seed}", *CHANGES[scale]),
      )


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields the two protocols, and which classes the prototypes are near."""
  for protocol in ("cached_adam", "knn"):
    yield tables.Section(
      f"Protocol {protocol}; {SETTING[scale]}",
      [
        tables.Row(f"plankton-{row}", title, protocol=protocol)
        for row, title in ROWS.items()
      ],
      columns=COLUMNS,
    )
  yield tables.Section(
    "Prototypes of FASSL by groups of classes",
    [
      tables.Row("plankton-fassl", title, prototypes=kind)
      for kind, title in fassl_table4_5.KINDS.items()
    ],
    columns=fassl_table4_5.COLUMNS,
  )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in fassl.SCALES},
      Path(__file__).with_suffix(""),
      tables.page("FASSL on plankton", sections),
    )
  )
