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

from ltjax.config import titles
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
  task, title = learner.task, titles.base(config)
  yield embedding.make(
    "embedding",
    learner.model,
    images=task.images,
    labels=task.labels,
    transform=learner.transform,
    recipe=recipes.of("embedding", config.embedding),
    seed=learner.seed,
    key=learner.key("embedding"),
    report=lambda state: learner.evaluate(state, model=title, head="balanced"),
    minimize=learner.objective(config),
    sampler=config.sampler,
    final=True,
  )
