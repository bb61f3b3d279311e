"""Methods: one short driver a paper, each a sequence of stages.

A driver is a generator of stages that reads like the paper's algorithm. What it
yields can be run, resumed, counted (`--dry_run`) and tested alike. Before any
method a stage of self-supervised pre-training may come, and after it a post-hoc
correction of its head.
"""

from __future__ import annotations

from typing import Any

from ltjax.devices import sharding
from ltjax.methods import (
  abc,
  acr,
  alternate,
  blocks,
  cdmad,
  crest,
  darp,
  daso,
  decoupling,
  fassl,
  fixmatch,
  frozen,
  glmc,
  head_start,
  label_propagation,
  linear,
  linear_pool,
  posthoc,
  pretraining,
  probe,
  pseudo_label,
  registry,
  semi_supervised,
  simpro,
  sslt,
  supervised,
)
from ltjax.methods.learner import Learner
from ltjax.methods.registry import METHODS, Method, register
from ltjax.training.stage import Stage

__all__ = ["METHODS", "Method", "register", "stages"]

for _method in (
  supervised.METHOD,
  decoupling.METHOD,
  pseudo_label.METHOD,
  sslt.METHOD,
  *semi_supervised.METHODS,
  glmc.METHOD,
  fixmatch.METHOD,
  acr.METHOD,
  simpro.METHOD,
  cdmad.METHOD,
  abc.METHOD,
  darp.METHOD,
  daso.METHOD,
  crest.METHOD,
  alternate.METHOD,
  linear.METHOD,
  linear_pool.METHOD,
  label_propagation.METHOD,
  probe.METHOD,
):
  register(_method)
for _block in (
  blocks.MODEL,
  frozen.FEATURES,
  head_start.START,
  pretraining.PRETRAIN,
  fassl.PROTOTYPES,
  fassl.STUDENT,
  posthoc.POSTHOC,
):
  registry.COMMON[_block.name] = _block


def stages(learner: Learner, config: Any) -> list[Stage]:
  """Returns the stages of the config's method, in order.

  Args:
    learner: the network and the task.
    config: the run's config, see `ltjax.config`.

  Raises:
    ValueError: if the method is unknown, or a setting does not fit or would do
      nothing.
  """
  registry.check_ranges(config)
  made = [
    *pretraining.stages(learner, config),
    *registry.find(config.method).stages(learner, config),
  ]
  if config.posthoc.name != "none":
    title = registry.title(config)
    made.append(
      posthoc.make("posthoc", learner, config.posthoc, title=title, after=made)
    )
  for stage in made:
    if stage.steps:
      name = stage.name.split("/")[-1]
      sharding.check_batch(stage.batch_size, learner.mesh, name)
  # Last: what a stage says of its own settings is more precise.
  registry.check_read(config)
  return made
