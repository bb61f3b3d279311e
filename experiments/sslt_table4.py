"""Table 4 of Liu et al.: how many pseudo labels are right, loop by loop.

    python -m experiments.sslt_table4 [--scale=cpu|full] [--print]

The runs are those of SSLT in experiments/sslt_table1.py, at rho 100: what is
finished there is not run again. The paper counts its loops from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import sslt_table1, sweep, tables

# Accuracy on the unlabeled images, for each loop.
PAPER = (
  (87.7, 92.3, 63.0, 41.8),
  (87.9, 92.3, 64.0, 48.1),
  (87.8, 92.1, 64.7, 52.2),
  (87.8, 91.8, 65.3, 55.8),
  (87.7, 91.6, 65.8, 57.8),
)
LOOPS = {"cpu": 4, "full": 5}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  config = f"{sslt_table1.CONFIGS[scale]}:row=sslt,rho=100"
  for seed in sslt_table1.SEEDS:
    yield sweep.Run("sslt-rho100", config, seed)


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields the table."""
  rows = [
    tables.Row(
      "sslt-rho100",
      f"loop {loop}",
      dict(zip(sslt_table1.COLUMNS, numbers, strict=True)),
      loop=loop,
    )
    for loop, numbers in enumerate(PAPER[: LOOPS[scale]], 1)
  ]
  yield tables.Section("rho 100", rows, sslt_table1.DIFFERS[scale])


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in LOOPS},
      Path(__file__).with_suffix(""),
      tables.page("Table 4 of Liu et al.", sections),
    )
  )
