"""Table 2 of FASSL: the few-shot setting, a probe on 1 % of the labels.

    python -m experiments.fassl_table2 [--scale=cpu|full] [--print]

The runs are those of experiments/fassl_table1.py: what is finished there is not
run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import fassl, fassl_table1, sweep, tables

PAPER = {
  "byol": ("BYOL", (62.33, 50.40, 60.53, 76.05, 10.55)),
  "simclr": ("SimCLR", (62.98, 56.67, 62.97, 69.30, 5.16)),
  "swav": ("SwAV", (65.16, 52.90, 61.97, 80.60, 11.53)),
  "sdclr": ("SDCLR", (67.23, 56.63, 61.87, 83.20, 11.49)),
  "fassl": ("FASSL", (68.54, 62.43, 61.93, 81.25, 8.99)),
  "probe_supervised": ("Supervised", (69.82, 65.07, 66.47, 77.93, 5.76)),
}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  yield from (r for r in fassl_table1.runs(scale) if r.name in PAPER)


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields the table."""
  shots = {"cpu": "5", "full": "45"}[scale]
  yield tables.Section(
    f"CIFAR-10-LT, rho 100, {shots} labels of each class",
    [
      tables.Row(
        row, title, dict(zip(fassl.COLUMNS, numbers)), protocol="sdclr_fewshot"
      )
      for row, (title, numbers) in PAPER.items()
    ],
    fassl.DIFFERS[scale],
    columns=fassl.COLUMNS,
  )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in fassl.CONFIGS},
      Path(__file__).with_suffix(""),
      tables.page("Table 2 of FASSL", sections),
    )
  )
