"""Table 3 of FASSL: the number of prototypes and the teacher's decay.

    python -m experiments.fassl_table3 [--scale=cpu|full] [--only=decay] \
      [--print]

At its defaults (128 prototypes, decay 0.99) the runs are those of
experiments/fassl_table1.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import fassl, sweep, tables

COUNTS = {
  64: (80.69, 78.43, 75.33, 88.30),
  96: (80.81, 77.07, 77.20, 88.15),
  128: (80.69, 78.80, 76.73, 86.55),
  256: (80.79, 78.97, 75.53, 87.88),
  512: (80.69, 77.13, 76.70, 88.05),
}
DECAYS = {
  0.0: (49.74, 44.27, 47.83, 57.13),
  0.9: (79.74, 75.40, 76.57, 87.25),
  0.99: (80.69, 78.80, 76.73, 86.55),
  0.999: (80.16, 77.57, 74.30, 88.63),
  1.0: (79.63, 75.33, 75.83, 87.73),
}
# On a CPU fewer of both: the paper's neighbors differ by tenths of a percent.
CPU_COUNTS = (64, 128, 256)
CPU_DECAYS = (0.0, 0.99, 1.0)


def counts(scale: str) -> tuple[int, ...]:
  """Returns the numbers of prototypes that a scale runs."""
  return CPU_COUNTS if scale == "cpu" else tuple(COUNTS)


def decays(scale: str) -> tuple[float, ...]:
  """Returns the decays that a scale runs."""
  return CPU_DECAYS if scale == "cpu" else tuple(DECAYS)


def name(field: str, value: float) -> str:
  """Returns the runs' name at a value, those of Table 1 at the default."""
  default = {"count": 128, "decay": 0.99}[field]
  return "fassl" if value == default else f"{field}{value:g}"


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  grid = [("decay", "student.ema", value) for value in decays(scale)]
  grid += [("count", "prototypes.count", value) for value in counts(scale)]
  for field, setting, value in grid:
    made = name(field, value)
    changes = () if made == "fassl" else (f"--config.{setting}={value}",)
    if made == "fassl" and field == "count":
      continue  # once is enough
    for seed in fassl.SEEDS:
      yield fassl.run(made, scale, seed, arguments="row=fassl", changes=changes)


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields a table for each of the two, by two protocols."""
  for title, field, paper in (
    ("The teacher's decay", "decay", DECAYS),
    ("Number of prototypes", "count", COUNTS),
  ):
    values = counts(scale) if field == "count" else decays(scale)
    for protocol in ("sdclr_full", "cached_adam"):
      printed = protocol == "sdclr_full"  # the paper's protocol
      yield tables.Section(
        f"{title}, protocol {protocol}",
        [
          tables.Row(
            name(field, value),
            f"{value:g}",
            dict(zip(fassl.COLUMNS, paper[value])) if printed else {},
            protocol=protocol,
          )
          for value in values
        ],
        fassl.DIFFERS[scale],
        columns=fassl.COLUMNS,
      )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in fassl.SCALES},
      Path(__file__).with_suffix(""),
      tables.page("Table 3 of FASSL", sections),
    )
  )
