"""Alternate sampling on frozen features: labels for the pool, and refitting.

What is left of SSLT's loop where the features are good and stay as they are:
the class-balanced classifier labels the pool, and is fitted again to labels and
pseudo labels. The pool keeps its own tail, estimated by EM, and of each class
only the most certain images are learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np

from ltjax.methods import blocks, changes, linear, registry
from ltjax.methods.learner import Learner
from ltjax.settings.fields import setting
from ltjax.stages import balanced_labels
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """How the pool is learned from."""

  loops: int = setting(2, "of labels and classifier", least=1, size=True)
  keep: float = setting(
    0.9, "images kept of those that a class is estimated to have", above=0
  )


POOL = registry.Block("pool", Settings)


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the linear classifier of the labels, then the loops.

  Args:
    learner: the network, on features, and the task.
    config: uses the blocks `linear`, `pool` and `loss`.

  Raises:
    ValueError: as `linear.stages`, or if there are no unlabeled images.
  """
  task, title = learner.task, registry.title(config)
  counts = np.asarray(task.split.labeled_counts)
  offset = linear.balance(config, counts)
  solver = linear.solver(learner, config)
  yield solver.make(
    "linear",
    data="labeled",
    report=learner.report(linear.title(config), head="balanced"),
  )
  for loop in range(1, config.pool.loops + 1):
    yield balanced_labels.make(
      f"loop{loop}/pseudo_label",
      learner.predictor,
      images=task.unlabeled_images,
      counts=counts,
      offset=offset,
      keep=config.pool.keep,
      report=learner.report_pseudo_labels(loop),
    )
    yield solver.make(
      f"loop{loop}/linear",
      data="all",
      report=learner.report(f"{title} loop {loop}", head="balanced"),
    )


METHOD = registry.Method(
  "linear_pool",
  title=lambda config: f"{linear.title(config)}, pool",
  paper="Liu et al., Algorithm 1, on frozen features; Saerens et al. (2002)",
  stages=stages,
  blocks={POOL: {}, linear.LINEAR: {}, blocks.LOSS: {}},
  needs_unlabeled=True,
  rows={
    "linear_pool": (
      changes.method("linear_pool"),
      changes.loss(name="logit_adjustment"),
    ),
  },
)
