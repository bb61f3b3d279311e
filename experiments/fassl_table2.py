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
CIFAR100 = {
  "swav": ("SwAV", (20.14, 13.91, 20.06, 26.44, 5.12)),
  "byol": ("BYOL", (20.62, 14.03, 19.61, 28.24, 5.84)),
  "simclr": ("SimCLR", (22.51, 15.45, 22.48, 29.59, 5.77)),
  "sdclr": ("SDCLR", (25.39, 19.91, 25.52, 30.74, 4.42)),
  "fassl": ("FASSL", (27.11, 21.18, 27.88, 32.26, 4.56)),
  "probe_supervised": ("Supervised", (28.97, 13.88, 32.03, 41.00, 11.28)),
}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  names = [*PAPER, *(f"cifar100-{row}" for row in CIFAR100)]
  yield from (r for r in fassl_table1.runs(scale) if r.name in names)


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
  if scale == "full":
    yield fassl.cifar100(CIFAR100, "sdclr_fewshot")


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in fassl.SCALES},
      Path(__file__).with_suffix(""),
      tables.page("Table 2 of FASSL", sections),
    )
  )
