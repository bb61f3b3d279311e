"""What the gain of SSLT rests on: features, classifier, labels, schedule.

    python -m experiments.sslt_gain [--scale=cpu|full] [--only=digits] [--print]

`cpu` is digits and Fashion-MNIST at 14 x 14, `full` CIFAR-10 with ResNet-18.
Every run but those with more labels holds out validation images, of each class
alike, on which settings are chosen; the labeled and unlabeled images are those
of a run without. Rows of a data set:

  decoupling_e10 ... e100   `f` after so many % of the embedding's epochs; the
                            last is what `frozen_embedding` asks more of.
  decoupling_labels         more labeled images, no pool: at `cpu` as many as
                            images of the pool and labeled ones together, at
                            `full` the paper's 5000 in the first class.
  sslt_0 ... sslt_1920      classifiers of 10 epochs, but at least so many
                            steps.
  sslt_balanced             classifiers with the balanced softmax on random
                            draws instead of cross-entropy on balanced ones.
  sslt_e10 ... sslt_e50     SSLT from a less trained `f`.
  pl_scratch_d, pl_base_all ...  Pseudo-Label + Decoupling, trained from scratch
                            or fine-tuned from the base, its classifier fitted
                            on D or on D and U'.
  logit_adjustment          the loss of Menon et al. instead of resampling.

Where not told otherwise classifiers take at least 960 steps: 10 epochs of the
paper's 12,406 labeled images in batches of 128.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import math
from pathlib import Path
import sys

from experiments import frozen_embedding, sslt_gain_page, sweep

SEEDS = (0, 1, 2)
LEAST = frozen_embedding.LEAST
PAPER_STEPS = 960
SHARES = (10, 25, 50, 100)


@dataclasses.dataclass(frozen=True)
class Data:
  """A data set with its protocol.

  Attributes:
    name: of its rows.
    config: the config file.
    labeled: images with a label.
    pool: images without.
    batch: the batch size of the classifiers.
    embedding: epochs of the embedding.
    loops: epochs of all loops together, those of the rivals on everything.
    validation: flags that hold out validation images.
    labels: flags of more labels, without a pool.
    more: labeled images that these give.
  """

  name: str
  config: str
  labeled: int
  pool: int
  batch: int
  embedding: int
  loops: int
  validation: tuple[str, ...]
  labels: tuple[str, ...]
  more: int

  def epochs(self, least: int, *, images: int = 0) -> int:
    """Returns 10 epochs, or those of the least number of steps.

    Args:
      least: steps.
      images: those of the stage; 0 for the labeled ones.
    """
    steps = (images or self.labeled) // self.batch
    return max(10, math.ceil(least / steps))


def _labels(count: int) -> tuple[str, ...]:
  return (
    f"--config.data.labeled.max_count={count}",
    "--config.data.unlabeled.factor=0.0",
  )


SCALES = {
  "cpu": (
    Data(
      "digits",
      "configs/digits_sslt.py",
      labeled=78,
      pool=390,
      batch=32,
      embedding=40,
      loops=24,
      validation=("--config.data.validation.per_class=8",),
      labels=(*_labels(120), "--config.data.validation.per_class=8"),
      more=486,
    ),
    Data(
      "fashion_mnist_14",
      "configs/fashion_mnist_14_sslt.py",
      labeled=615,
      pool=3075,
      batch=64,
      embedding=60,
      loops=32,
      validation=("--config.data.validation.per_class=100",),
      labels=(*_labels(1500), "--config.data.validation.per_class=100"),
      more=3720,
    ),
  ),
  "full": (
    Data(
      "cifar10",
      "configs/cifar10_sslt.py",
      labeled=2021,
      pool=10105,
      batch=128,
      embedding=200,
      loops=200,
      # The first class has 5000 images: 816 + 5 * 816 + 100 of them.
      validation=(
        "--config.data.labeled.max_count=816",
        "--config.data.validation.per_class=100",
      ),
      labels=_labels(5000),
      more=12406,
    ),
  ),
}


def runs(scale: str) -> Iterator[sweep.Run]:
  """Yields the runs of a scale."""
  for data in SCALES[scale]:
    for name, flags in _rows(data).items():
      for seed in SEEDS:
        yield sweep.Run(f"{data.name}-{name}", data.config, seed, flags)


def _rows(data: Data) -> dict[str, tuple[str, ...]]:
  """Returns the flags of every row by its name."""
  paper = _both("epochs", data.epochs(PAPER_STEPS))
  rows: dict[str, tuple[str, ...]] = {}
  for share in SHARES:
    rows[f"decoupling_e{share}"] = (
      *(*data.validation, "--config.method=decoupling"),
      *(_embedding(data, share), paper[0]),
    )
  epochs = data.epochs(PAPER_STEPS, images=data.more)
  rows["decoupling_labels"] = (
    *(*data.labels, "--config.method=decoupling"),
    f"--config.classifier.epochs={epochs}",
  )
  for least in LEAST:
    rows[f"sslt_{least}"] = (
      *data.validation,
      *_both("epochs", data.epochs(least)),
    )
  rows["sslt_balanced"] = (
    *(*data.validation, *paper),
    *_both("loss", "logit_adjustment"),
    *_both("sampler", "random"),
  )
  for share in SHARES[:-1]:
    rows[f"sslt_e{share}"] = (
      *(*data.validation, *paper),
      _embedding(data, share),
    )
  for start in ("scratch", "base"):
    for name, source, images in (
      ("d", "labeled", data.labeled),
      ("all", "all", data.labeled + data.pool),
    ):
      rows[f"pl_{start}_{name}"] = (
        *(*data.validation, "--config.method=pseudo_label"),
        *("--config.pseudo.base=decoupling", f"--config.pseudo.start={start}"),
        f"--config.pseudo.epochs={data.loops}",
        f"--config.pseudo.batch_size={data.batch}",
        paper[0],
        f"--config.refit.data={source}",
        f"--config.refit.epochs={data.epochs(PAPER_STEPS, images=images)}",
      )
  rows["logit_adjustment"] = (
    *(*data.validation, "--config.method=supervised"),
    "--config.loss.name=logit_adjustment",
  )
  return rows


def _embedding(data: Data, share: int) -> str:
  return f"--config.embedding.epochs={round(data.embedding * share / 100)}"


def _both(name: str, value: object) -> tuple[str, ...]:
  """Flags of both blocks of SSLT's classifier."""
  return tuple(
    f"--config.{block}.{name}={value}" for block in ("classifier", "refit")
  )


def examine(
  run: sweep.Run, folder: Path, data_dir: str | None
) -> dict[str, object]:
  """Returns what is asked of the frozen `f` of a run, if anything.

  Args:
    run: a finished run.
    folder: of it.
    data_dir: where data sets live; None for the default.
  """
  _, row = run.name.split("-")
  if row not in ("decoupling_e100", "decoupling_labels", "sslt_960"):
    return {}
  return frozen_embedding.examine(
    folder, data_dir, classifiers=row == "decoupling_e100"
  )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {scale: list(runs(scale)) for scale in SCALES},
      Path(__file__).with_suffix(""),
      sslt_gain_page.to_markdown,
      sslt_gain_page.draw,
      examine=examine,
    )
  )
