"""A linear classifier on frozen features, solved to its end.

What whoever has few labels should begin with: the features of a pretrained
backbone (`model.tune=head`), one convex problem and no schedule to choose. Loss
and class weights are those of `config.loss`; the balanced softmax, which is
logit adjustment of tau 1, is the default of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np

from ltjax import require
from ltjax.methods import blocks, changes, registry, titles
from ltjax.methods.learner import Learner
from ltjax.models import pretrained
from ltjax.settings import fields
from ltjax.settings.fields import setting
from ltjax.stages import linear
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """How the linear classifier is found."""

  l2: float | None = setting(
    None, "penalty; None to choose it on held-out images", least=0
  )
  folds: int = setting(
    5, "of cross-validation, where there are no validation images", least=2
  )
  steps: int = setting(200, "of L-BFGS at most", least=1, size=True)


LINEAR = registry.Block("linear", Settings)


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the one stage; its head is the one to test.

  Args:
    learner: the network, on features, and the task.
    config: uses the blocks `linear` and `loss`.

  Raises:
    ValueError: if the backbone is not frozen, or a setting does not fit.
  """
  yield solver(learner, config).make(
    "linear",
    data="labeled",
    report=learner.report(registry.title(config), head="balanced"),
  )


def solver(learner: Learner, config: Any) -> linear.Solver:
  """Returns what finds linear classifiers, as of `stages`."""
  settings = fields.of(Settings, config.linear)
  check(config)
  task, objective = learner.task, learner.objective(config)

  def loss(logits, labels, counts, weights):
    return objective(
      logits, labels, counts=counts, epoch=0, epochs=1, example_weights=weights
    )

  return linear.Solver(
    learner.predictor,
    images=task.images,
    labels=task.labels,
    validation=(task.validation_images, task.validation_labels),
    loss=loss,
    offset=balance(config, np.asarray(task.split.labeled_counts)),
    seed=learner.seed,
    **dataclasses.asdict(settings),
  )


def check(config: Any) -> None:
  """Raises ValueError unless the backbone is frozen and the head linear."""
  require.choice("model.name", config.model.name, pretrained.ARCHITECTURES)
  require.choice("model.tune", config.model.tune, ("head",))
  require.choice("model.head", config.model.head, ("linear",))


def balance(config: Any, counts: np.ndarray) -> np.ndarray:
  """Returns what makes a loss's logits those of a balanced world, fp32 `[C]`.

  Args:
    config: its block `loss` says which loss.
    counts: `[C]` labeled images.
  """
  plain = config.loss.name == "cross_entropy" and config.loss.weights == "none"
  if not plain or not counts.all():
    return np.zeros(len(counts), np.float32)
  return -np.log(counts / counts.sum()).astype(np.float32)


def title(config: Any) -> str:
  """Returns the name of the classifier.

  Args:
    config: a run's config.
  """
  return f"Linear, {titles.objective(config)}"


_LINEAR = (changes.method("linear"),)
METHOD = registry.Method(
  "linear",
  title=title,
  paper="Menon et al. (2021); Ren et al. (2020), on frozen features",
  stages=stages,
  blocks={LINEAR: {}, blocks.LOSS: {}},
  rows={
    "linear": (*_LINEAR, changes.loss(name="logit_adjustment")),
    "linear_ce": _LINEAR,
    "linear_ce_posthoc": (*_LINEAR, changes.post("logit_adjustment")),
    "linear_cb": (*_LINEAR, changes.balanced),
  },
)
