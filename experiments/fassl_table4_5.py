"""Tables 4 and 5 of FASSL: which classes the prototypes are near.

    python -m experiments.fassl_table4_5 [--scale=cpu|full] [--only=rho] \
      [--print]

Beside the shares of the groups stand what they have to be compared with: the
base rate of the images, and the same number of random directions. A last table
tells whether the weights that the prototypes give favour the tail: the
correlation of an image's weight with 1 / count of its class, seed by seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
import sys

from experiments import fassl, fassl_table3, sweep, tables
from ltjax.report import markdown

# Many, medium, few; CIFAR-10-LT.
COUNTS = {
  64: (90.63, 9.38, 0.00),
  96: (90.63, 8.33, 1.04),
  128: (90.63, 7.81, 1.56),
  256: (88.28, 9.38, 2.34),
  512: (85.35, 12.50, 2.15),
}
# Tiny-ImageNet.
RHOS = {
  1: (34.38, 33.59, 32.03),
  20: (72.66, 21.09, 6.25),
  100: (84.38, 14.06, 1.56),
  200: (87.50, 10.94, 1.56),
  500: (91.41, 7.81, 0.78),
}
# Images of the first class, for sets of much the same size on a CPU.
FIRST = {1: 124, 20: 380, 200: 500, 500: 500}
COLUMNS = ("many", "medium", "few")
KINDS = {
  "shares": "prototypes",
  "base_rate": "images (base rate)",
  "random": "random directions",
  "matched": "random, covariance of the features",
}
RHO_DIFFERS = (
  " CIFAR-10 and not Tiny-ImageNet, whose numbers stand beside ours."
)


def rhos(scale: str) -> tuple[int, ...]:
  """Returns the imbalance ratios of a scale."""
  return (1, 20, 100, 500) if scale == "cpu" else tuple(RHOS)


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs: those of Table 3, and some that end at the prototypes."""
  for run in fassl_table3.runs(scale):
    if not run.name.startswith("decay"):
      yield run
  for rho in rhos(scale):
    for seed in fassl.SEEDS if rho != 100 else ():
      changes = [
        "--config.student.epochs=1",
        "--config.student.warmup_epochs=0",
      ]
      if scale == "cpu":
        changes.append(f"--config.data.labeled.max_count={FIRST[rho]}")
      yield sweep.Run(
        f"rho{rho}",
        f"{fassl.CONFIGS[scale]}:row=fassl,rho={rho},split={seed}",
        seed,
        ("--config.probe.protocols=sdclr_fewshot", *changes),
      )


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields the two tables."""
  for title, paper, values, key, more in (
    (
      "Table 4: number of prototypes",
      COUNTS,
      fassl_table3.counts(scale),
      lambda value: fassl_table3.name("count", value),
      "",
    ),
    (
      "Table 5: imbalance ratio",
      RHOS,
      rhos(scale),
      lambda value: "fassl" if value == 100 else f"rho{value}",
      RHO_DIFFERS,
    ),
  ):
    rows = []
    for value in values:
      for kind, words in KINDS.items():
        numbers = dict(zip(COLUMNS, paper[value])) if kind == "shares" else {}
        rows.append(
          tables.Row(key(value), f"{value}: {words}", numbers, prototypes=kind)
        )
    yield tables.Section(
      title, rows, fassl.DIFFERS[scale] + more, columns=COLUMNS
    )


def page(records: Sequence[tables.Record]) -> str:
  """Returns the tables, and the correlations of the weights."""
  made = tables.page("Tables 4 and 5 of FASSL", sections)(records)
  lines = [
    [
      record["name"],
      str(record["seed"]),
      *(f"{row[f'weight_correlation/{score}']:+.2f}" for score in SCORES),
    ]
    for record in records
    for row in record.get("prototypes", ())[-1:]
  ]
  table = markdown.table(["runs", "seed", *SCORES.values()], lines)
  return (
    f"{made}\n## Do the weights favour the tail?\n\nCorrelation of an image's"
    " weight with 1 / count of its class, over the training images when the"
    " prototypes are learned: above 0 the tail counts more, below 0 the head."
    f"\n\n{table}"
  )


SCORES = {"paper": "weights of the paper", "energy": "weights by energy"}


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in fassl.SCALES},
      Path(__file__).with_suffix(""),
      page,
    )
  )
