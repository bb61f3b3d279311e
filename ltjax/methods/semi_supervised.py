"""Four semi-supervised baselines: Pi-model, temporal ensembling, Mean Teacher, VAT.

Each is one stage from the state it is given, a fresh network or one that was
pre-trained, with any loss and any sampler on the labeled images: Mean Teacher
with `config.loss.name = "ldam"` is "Mean Teacher + L" of Liu et al.

The settings that Liu et al. used for it, and those of the VAT and Mean Teacher
runs that Yang & Xu mention, are unpublished. Ours are the defaults of
`config.semi`, and for `semi.weight` those of `WEIGHTS`.

Source: Liu et al., Section 4.1; Laine & Aila (2017); Tarvainen & Valpola (2017);
Miyato et al. (2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ltjax.config import titles
from ltjax.devices import sharding
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.semi_supervised import mean_teacher as teachers
from ltjax.semi_supervised import pi_model as pi_models
from ltjax.semi_supervised import regularizer as regularizers
from ltjax.semi_supervised import stage
from ltjax.semi_supervised import temporal_ensembling as ensembles
from ltjax.semi_supervised import vat as vats
from ltjax.training import draw, step
from ltjax.training.stage import Stage

# 10 and 50 as in the configs of USB (Wang et al., 2022) for CIFAR-10; 1 as in
# the paper on VAT; 30, between the other squared errors, is ours.
WEIGHTS = {
  "pi_model": 10.0,
  "temporal_ensembling": 30.0,
  "mean_teacher": 50.0,
  "vat": 1.0,
}


def pi_model(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stage of the Pi-model.

  Args:
    learner: the network and the task.
    config: uses the blocks `semi`, `loss`, `sampler` and `model`.
  """
  yield _stage(learner, config, "pi_model", pi_models.make())


def temporal_ensembling(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stage of temporal ensembling.

  Args:
    learner: the network and the task.
    config: uses the blocks `semi`, `loss`, `sampler` and `model`.
  """
  regularizer = ensembles.make(alpha=config.semi.alpha)
  yield _stage(learner, config, "temporal_ensembling", regularizer)


def mean_teacher(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stage of Mean Teacher, which leaves the teacher to be tested.

  Args:
    learner: the network and the task.
    config: uses the blocks `semi`, `loss`, `sampler` and `model`.
  """
  regularizer = teachers.make(
    decay=config.semi.ema, batch_norm=config.semi.teacher_batch_norm
  )
  yield _stage(learner, config, "mean_teacher", regularizer)


def vat(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stage of virtual adversarial training.

  Args:
    learner: the network and the task.
    config: uses the blocks `semi`, `loss`, `sampler` and `model`.
  """
  regularizer = vats.make(
    epsilon=config.semi.epsilon,
    xi=config.semi.xi,
    iterations=config.semi.iterations,
  )
  yield _stage(learner, config, "vat", regularizer)


def _stage(
  learner: Learner,
  config: Any,
  method: str,
  regularizer: regularizers.Regularizer,
) -> Stage:
  if config.loss.counts != "labeled":
    raise ValueError(
      f"loss.counts is {config.loss.counts!r}, but {method} has no pseudo labels"
      " to count; set --config.loss.counts=labeled."
    )
  settings, title = config.semi, titles.final(config)
  sharding.check_batch(settings.batch_size, learner.mesh, "semi")
  recipe = recipes.of("semi", settings)
  return step.make(
    "semi",
    stage.algorithm(
      learner.model,
      regularizer,
      objective=learner.objective(config),
      transform=learner.transform,
      num_labeled=recipe.batch_size,
      weight=WEIGHTS[method] if settings.weight is None else settings.weight,
      rampup=settings.rampup,
    ),
    draw.pairs(
      learner.samples,
      recipe.batch_size,
      ratio=settings.unlabeled_ratio,
      field="semi",
      sampler=config.sampler,
    ),
    recipe,
    key=learner.key("semi"),
    report=lambda state: learner.evaluate(state, model=title, head="balanced"),
  )
