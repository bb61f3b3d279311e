"""Methods: one short driver a paper, each a sequence of stages.

A driver is a generator of stages that reads like the paper's algorithm. What
it yields can be run, resumed, counted (`--dry_run`) and tested alike. Before any
method a stage of self-supervised pre-training may come, and after it a post-hoc
correction of its head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import difflib
from typing import Any

from ltjax.config import titles, unread
from ltjax.devices import sharding
from ltjax.methods import (
  decoupling,
  posthoc,
  pretraining,
  probe,
  pseudo_label,
  semi_supervised,
  sslt,
  supervised,
)
from ltjax.methods.learner import Learner
from ltjax.training.stage import Stage

METHODS: dict[str, Callable[[Learner, Any], Iterator[Stage]]] = {
  "decoupling": decoupling.stages,
  "mean_teacher": semi_supervised.mean_teacher,
  "pi_model": semi_supervised.pi_model,
  "probe": probe.stages,
  "pseudo_label": pseudo_label.stages,
  "sslt": sslt.stages,
  "supervised": supervised.stages,
  "temporal_ensembling": semi_supervised.temporal_ensembling,
  "vat": semi_supervised.vat,
}


def stages(method: str, learner: Learner, config: Any) -> list[Stage]:
  """Returns the stages of a method, in order.

  Args:
    method: a name in `METHODS`.
    learner: the network and the task.
    config: the run's config, see `ltjax.config`.

  Raises:
    ValueError: if the method is unknown, or a setting does not fit or would do
      nothing.
  """
  if method not in METHODS:
    close = difflib.get_close_matches(method, METHODS, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
      f"method is {method!r}; choose one of {', '.join(METHODS)}.{hint}"
    )
  made = [
    *pretraining.stages(learner, config),
    *METHODS[method](learner, config),
  ]
  if config.posthoc.name != "none":
    title = titles.final(config)
    made.append(
      posthoc.make("posthoc", learner, config.posthoc, title=title, after=made)
    )
  for stage in made:
    if stage.steps:
      name = stage.name.split("/")[-1]
      sharding.check_batch(stage.batch_size, learner.mesh, name)
  # Last: what a stage says of its own settings is more precise.
  unread.check(method, config)
  return made
