"""Label propagation on frozen features, and a classifier of all labels.

The transductive step of Iscen et al., without their training of the network:
labels spread over the graph of neighbors, and the linear classifier is fitted
to labels and pseudo labels, the sure ones weighing more and each class alike.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

from ltjax import require
from ltjax.methods import blocks, changes, linear, registry
from ltjax.methods.learner import Learner
from ltjax.settings import fields
from ltjax.settings.fields import setting
from ltjax.stages import label_propagation
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """The graph, and how labels flow. The defaults are the paper's."""

  neighbors: int = setting(50, "of each image in the graph", least=1)
  gamma: float = setting(3.0, "power of the cosines", least=1)
  alpha: float = setting(0.99, "how far labels flow", above=0, below=1)
  iterations: int = setting(20, "of conjugate gradients at most", least=1)


PROPAGATION = registry.Block("propagation", Settings)


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the one stage; its head is the one to test.

  Args:
    learner: the network, on features, and the task.
    config: uses the blocks `propagation`, `linear` and `loss`.

  Raises:
    ValueError: as `linear.stages`, if there are no unlabeled images, or the
      loss balances classes, as the weights of the images do already.
  """
  require.choice("loss.name", config.loss.name, ("cross_entropy",))
  require.choice("loss.weights", config.loss.weights, ("none",))
  task, told = learner.task, learner.report_pseudo_labels(1)
  report = learner.report(registry.title(config), head="balanced")
  settings = fields.of(Settings, config.propagation)
  yield label_propagation.make(
    "propagation",
    learner.predictor,
    linear.solver(learner, config),
    images=task.images,
    labels=task.labels,
    report=lambda state: [*told(state), *report(state)],
    **dataclasses.asdict(settings),
  )


METHOD = registry.Method(
  "label_propagation",
  title=lambda config: "Label propagation",
  paper="Iscen et al. (2019), on frozen features",
  stages=stages,
  blocks={PROPAGATION: {}, linear.LINEAR: {}, blocks.LOSS: {}},
  needs_unlabeled=True,
  rows={"label_propagation": (changes.method("label_propagation"),)},
)
