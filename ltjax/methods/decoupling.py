"""Decoupling (Kang et al., 2020): embedding first, balanced classifier second.

Also the initialization of SSLT.

Source: Kang et al., "Decoupling representation and classifier for long-tailed
recognition" (classifier re-training, cRT); Liu et al., Section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ltjax import fit
from ltjax import recipe as recipes
from ltjax.methods.learner import Learner
from ltjax.stages import classifier, embedding


def stages(learner: Learner, config: Any) -> Iterator[fit.Stage]:
  """Yields the two stages; `CE (g')` and `Decoupling` are evaluated.

  Args:
    learner: the network and the task.
    config: uses the blocks `embedding` and `classifier`.
  """
  task = learner.task

  # A CNN with random sampling: f and g'.
  yield embedding.make(
    "embedding",
    learner.model,
    images=task.images,
    labels=task.labels,
    transform=learner.transform,
    recipe=recipes.of("embedding", config.embedding),
    seed=learner.seed,
    key=learner.key("embedding"),
    report=lambda state: learner.evaluate(
      state, model="CE (g')", head="random"
    ),
  )

  # A fresh head g, class-balanced, on frozen f.
  make = classifier.Maker(
    learner.predictor,
    images=task.images,
    labels=task.labels,
    num_classes=task.num_classes,
    views=config.classifier.views,
    recipe=recipes.of("classifier", config.classifier),
    seed=learner.seed,
  )
  yield make.make(
    "classifier",
    fresh=True,
    key=learner.key("classifier"),
    report=lambda state: learner.evaluate(
      state, model="Decoupling", head="balanced"
    ),
  )
