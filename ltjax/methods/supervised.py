"""Supervised training with any loss and sampler: a row of a table in one stage.

Cross-entropy, focal, LDAM, logit adjustment and VS, class weights from the
start or deferred (DRW), re-sampling from the start or deferred (DRS): one stage
with `config.loss` and `config.sampler`.

Source: Cao et al. (2019), "Learning imbalanced datasets with
label-distribution-aware margin loss", and the baselines of Yang & Xu, Table 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ltjax.methods import blocks, changes, registry, titles
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.stages import embedding
from ltjax.training.stage import Stage


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the one stage; its head is the one to test.

  Args:
    learner: the network and the task.
    config: uses the blocks `embedding`, `loss` and `sampler`.
  """
  task, title = learner.task, titles.supervised(config)
  yield embedding.make(
    "embedding",
    learner.model,
    images=task.images,
    labels=task.labels,
    transform=learner.transform,
    recipe=recipes.of("embedding", config.embedding),
    seed=learner.seed,
    key=learner.key("embedding"),
    report=learner.report(title, head="balanced"),
    minimize=learner.objective(config),
    sampler=config.sampler,
    final=True,
  )


_CE = (changes.method("supervised"),)
_L = (*_CE, changes.ldam, changes.drw)
METHOD = registry.Method(
  "supervised",
  title=titles.supervised,
  paper="Cao et al. (2019); Yang & Xu (2020), Table 2",
  stages=stages,
  blocks=blocks.SUPERVISED,
  rows={
    # Liu et al., Tables 1 and 2.
    "ldam_drw": _L,
    # Yang & Xu, Tables 1 and 2.
    "ce": _CE,
    "cb_ce": (*_CE, changes.balanced),
    "cb_ce_ssp": (*_CE, changes.balanced, changes.ssp),
    "focal": (*_CE, changes.focal),
    "cb_focal": (*_CE, changes.focal, changes.balanced),
    "cb_focal_ssp": (*_CE, changes.focal, changes.balanced, changes.ssp),
    "ce_drw": (*_CE, changes.drw),
    "ce_drs": (*_CE, changes.drs),
    "ce_drw_ssp": (*_CE, changes.drw, changes.ssp),
    "ldam": (*_CE, changes.ldam),
    "ldam_drw_ssp": (*_L, changes.ssp),
    # Yang & Xu, Appendix F.1: other self-supervised methods.
    "ce_ssp": (*_CE, changes.ssp),
    "ce_moco": (*_CE, changes.moco),
    # In no paper here, and what a reader asks for next.
    "class_balanced": (*_CE, changes.sample("class_balanced")),
    "square_root": (*_CE, changes.sample("square_root")),
    "progressive": (*_CE, changes.sample("progressive")),
    "logit_adjustment": (*_CE, changes.loss(name="logit_adjustment")),
    "logit_adjustment_posthoc": (*_CE, changes.post("logit_adjustment")),
    "vs": (*_CE, changes.loss(name="vs")),
  },
)
