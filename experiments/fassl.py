"""What the tables of FASSL share: their runs, their protocols, what differs.

A run pre-trains once and is then judged by all protocols, so that Tables 1 and
2 and the ablation are read off the same runs. The seed of a run is also its
split: which classes are frequent.

In the results at CPU scale, runs of FASSL with one split were resumed from one
checkpoint of the stages that they share, SDCLR and, where they do not differ,
the prototypes (on plankton: `fassl_uniform` from `fassl`). Their seconds leave
it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from experiments import sweep, tables

SEEDS = (0, 1, 2)
COLUMNS = ("group mean", "mean few", "mean medium", "mean many", "std")
CONFIGS = {
  "cpu": "configs/cifar10_fassl_small.py",
  "full": "configs/cifar10_fassl.py",
  "cifar100": "configs/cifar100_fassl.py",
}
SCALES = ("cpu", "full")
PROTOCOLS = "knn,cached_adam,sdclr_fewshot,sdclr_full"
# "All" is the mean of the groups.
DIFFERS = {
  "cpu": (
    "CIFAR-10 at 16 x 16 pixels, 500 images in the first class and not 4500,"
    " ResNet-8 and not ResNet-18, 40 epochs of pre-training and not 2000"
    " (FASSL: 15 and 40 more for its own stages), probes on 300 images of each"
    " class, SDCLR's at a learning rate of 0.3 and not 30, the student's of 0.5"
    " and not 0.1. The paper's numbers stand beside ours for orientation."
  ),
  "full": (
    "three splits of our own and not one of the authors'; the lengths of"
    " FASSL's stages, which the paper does not tell."
  ),
}


def run(
  name: str,
  scale: str,
  seed: int,
  *,
  arguments: str,
  changes: tuple[str, ...] = (),
) -> sweep.Run:
  """Returns a run of `row=...` that all protocols judge.

  Args:
    name: the setting.
    scale: a name in `CONFIGS`.
    seed: of the run and of its split.
    arguments: of the config file, such as `row=sdclr`.
    changes: further flags.
  """
  return sweep.Run(
    name,
    f"{CONFIGS[scale]}:{arguments},split={seed}",
    seed,
    (f"--config.probe.protocols={PROTOCOLS}", *changes),
  )


def probed(
  scale: str, rows: tuple[str, ...], *, prefix: str = ""
) -> Iterator[sweep.Run]:
  """Yields the runs of rows that pre-train and are probed, seed by seed.

  Args:
    scale: a name in `CONFIGS`.
    rows: names of `ltjax.config.rows.ROWS`.
    prefix: of the runs' names.
  """
  for seed in SEEDS:
    for row in rows:
      yield run(f"{prefix}{row}", scale, seed, arguments=f"row={row}")


def cifar100(
  paper: Mapping[str, tuple[str, tuple[float, ...]]], protocol: str
) -> tables.Section:
  """Returns the table of CIFAR-100-LT, at full scale.

  Args:
    paper: titles and the paper's numbers in `COLUMNS`, by row.
    protocol: of the probe.
  """
  return tables.Section(
    "CIFAR-100-LT, rho 100",
    [
      tables.Row(
        f"cifar100-{row}",
        title,
        dict(zip(COLUMNS, numbers)),
        protocol=protocol,
      )
      for row, (title, numbers) in paper.items()
    ],
    DIFFERS["full"],
    columns=COLUMNS,
  )
