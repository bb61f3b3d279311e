"""Table 3 of Liu et al.: what sampling and data each stage of SSLT should have.

    python -m experiments.sslt_table3 [--scale=cpu|full] [--only=sslt] [--print]

Configs, seeds and split are those of experiments/sslt_table1.py, at rho 100.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import sslt_table1, sweep, tables

# Row: its name in the paper, and its numbers.
PAPER = {
  "sslt_r_r": ("R + R", (50.9, 93.0, 57.8, 14.1)),
  "sslt_c_r": ("C + R", (61.2, 91.3, 62.6, 37.6)),
  "sslt_c_c": ("C + C", (63.3, 91.2, 64.4, 41.6)),
  "sslt_classifier_all": (
    "classifier on D and U', embedding on D and U'",
    (70.1, 89.6, 68.7, 56.5),
  ),
  "sslt_embedding_labeled": (
    "classifier on D and U', embedding on D",
    (63.3, 91.6, 61.9, 43.2),
  ),
  "sslt": ("SSLT (R + C, classifier on D)", (71.3, 89.5, 67.7, 60.2)),
}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  for row in PAPER:
    for seed in sslt_table1.SEEDS:
      config = f"{sslt_table1.CONFIGS[scale]}:row={row},rho=100"
      yield sweep.Run(f"{row}-rho100", config, seed)


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields the table."""
  rows = [
    tables.Row(
      f"{row}-rho100",
      title,
      dict(zip(sslt_table1.COLUMNS, numbers, strict=True)),
    )
    for row, (title, numbers) in PAPER.items()
  ]
  differs = (
    f"{sslt_table1.DIFFERS[scale]} The ablations change the loops; the"
    " initialization is the same in all rows."
  )
  yield tables.Section("rho 100", rows, differs)


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in sslt_table1.CONFIGS},
      Path(__file__).with_suffix(""),
      tables.page(
        "Table 3 of Liu et al.",
        sections,
        intro=lambda scale: (
          "R is random sampling, C class-balanced, in Stage 2 + Stage 3."
        ),
      ),
    )
  )
