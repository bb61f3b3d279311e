"""Presets: the rows of the papers' tables, as changes to a config.

A config file sets the protocol (data, network, schedule); a row chooses the
method, the loss and the sampler: `--config=configs/cifar10_sslt.py:row=
pseudo_label_l` is the row "Pseudo-Label + L" of Table 1 of Liu et al.
"""

from __future__ import annotations

from typing import Any

from ltjax import require
from ltjax.methods import changes, registry

ldam_schedule = changes.ldam_schedule
sdclr_protocol = changes.sdclr_protocol
sdclr_recipe = changes.sdclr_recipe

ROWS = registry.rows()


def apply(config: Any, row: str) -> Any:
  """Changes a config to a row of a table.

  Args:
    config: of the protocol; changed in place. The schedules of its blocks are
      kept, but for LDAM, which brings its own.
    row: a name in `ROWS`, such as `pseudo_label_l`.

  Returns:
    The config.

  Raises:
    ValueError: if the row is unknown; names the nearest.
  """
  known = registry.rows()
  require.choice("row", row, known)
  for change in known[row]:
    change(config)
  return config


def fassl_on_cifar(
  config: Any, row: str, *, num_classes: int, split: int, per_class: int = 0
) -> None:
  """Changes a config to a row of FASSL's tables, at full length.

  2000 epochs of pre-training, 200 of prototypes and 500 of the student; where
  pre-training has labels, or their like, 200 in batches of 128.

  Args:
    config: its data are named; changed in place.
    row: a name in `ROWS`.
    num_classes: C.
    split: which classes are frequent, and which images are drawn.
    per_class: images of each class for the probe; 0 for all.

  Raises:
    ValueError: if the row is unknown.
  """
  sdclr_recipe(config)
  config.pretrain.epochs = 2000
  config.prototypes.epochs = 200
  config.student.epochs = 500
  apply(config, row)
  sdclr_protocol(
    config, num_classes=num_classes, split=split, per_class=per_class
  )
  if config.pretrain.name in ("supervised", "rotation"):
    config.pretrain.epochs = 200
    config.pretrain.batch_size = 128
    config.pretrain.learning_rate = 0.1
    config.pretrain.weight_decay = 5e-4


def needs_unlabeled(config: Any) -> bool:
  """Returns whether the method of a config learns from unlabeled images.

  Args:
    config: a row has been applied to it.
  """
  return registry.find(config.method).needs_unlabeled or (
    config.pretrain.name != "none" and config.pretrain.data == "all"
  )
