"""SSLT: semi-supervised long-tailed recognition using alternate sampling.

The embedding `f` and the classifier are learned apart: `f` (with its head `g'`)
by random sampling on everything, `g` by class-balanced sampling on the labeled
images only. They take turns: `g` labels the pool, `f` learns from those labels,
`g` is fitted again to the better `f`.

Pseudo-Label + Decoupling, fine-tuned, the closest baseline, is a limiting case:
one loop, as long as all of them, with `consistency.weight = 0`.

Source: Liu et al., "Semi-supervised Long-tailed Recognition using Alternate
Sampling", Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
from typing import Any

from ltjax.methods import blocks, changes, decoupling, registry, titles
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.settings.fields import setting
from ltjax.stages import classifier, consistency, pseudo_label
from ltjax.training import step
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """What stands beside the blocks."""

  loops: int = setting(
    5,
    "of labels, embedding and classifier; decoupling is without",
    least=1,
    size=True,
  )
  shared_head: bool = setting(
    False, "one head in both stages, as the authors' code", author_code=True
  )


@dataclasses.dataclass(frozen=True)
class Consistency:
  """Stage 2: fine-tuning with temporal consistency."""

  weight: float = setting(1.0, "lambda", least=0)
  memory_reset: str = setting(
    "keep",
    "what a loop's memory starts from",
    choices=consistency.MEMORY_RESETS,
    author_code="uniform",
  )
  sampler: str = setting(
    "random", "how images are drawn", choices=consistency.SAMPLERS
  )
  data: str = setting("all", "or the labeled images", choices=consistency.DATA)
  schedule_over: str = setting(
    "loop",
    "what the learning rate falls over: each loop, or all of them",
    choices=consistency.SCHEDULE_OVER,
  )


SETTINGS = registry.Block("", Settings)
CONSISTENCY = registry.Block(
  "consistency",
  Consistency,
  recipes.Recipe(epochs=40),
  {
    "epochs": 50,
    "learning_rate": 0.01,
    "schedule": "step",
    "milestones": (0.8,),
    "nesterov": True,
  },
)


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stages of Algorithm 1.

  Args:
    learner: the network and the task.
    config: uses the blocks `embedding`, `classifier`, `pseudo_label`,
      `consistency` and `refit`, and `loops` and `shared_head`.

  Raises:
    ValueError: if the classifier cannot be trained on, or a block does not fit.
  """
  if config.classifier.kind in ("ncm", "knn"):
    raise ValueError(
      f"classifier.kind is {config.classifier.kind!r}, but SSLT goes on"
      " training the classifier in each loop, and class means and neighbors are"
      " not trained; choose crt, tau_norm or lws."
    )
  task, title = learner.task, registry.title(config)
  fine_tune = _fine_tuning(learner, config)
  refit = _refit(learner, dict(config.refit))
  share = _shared if config.shared_head else _apart

  # Line 1: initialization.
  for stage in decoupling.stages(learner, config):
    yield share(stage)

  for loop in range(1, config.loops + 1):
    # Line 4: f and g label the pool.
    yield pseudo_label.make(
      f"loop{loop}/pseudo_label",
      learner.predictor,
      images=task.unlabeled_images,
      transform=config.pseudo_label.transform,
      key=learner.key(f"loop{loop}/pseudo_label"),
      report=learner.report_pseudo_labels(loop),
    )
    # Line 5: f and g' learn from labels and pseudo labels, random sampling.
    yield share(
      fine_tune(
        loop,
        learner.report(f"{title} loop {loop} (g')", head="random"),
      )
    )
    # Line 6: g learns from the labels, class-balanced, f frozen.
    yield share(
      refit.make(
        f"loop{loop}/refit",
        fresh=False,
        key=learner.key(f"loop{loop}/refit"),
        report=learner.report(f"{title} loop {loop}", head="balanced"),
      )
    )


def _fine_tuning(learner: Learner, config: Any) -> Callable[..., Stage]:
  """Stage 2 of a loop, from 1: `(loop, report) -> stage`."""
  block = config.consistency
  recipe = recipes.of("consistency", block)
  algorithm = consistency.algorithm(
    learner.model,
    transform=learner.transform,
    weight=block.weight,
    memory_reset=block.memory_reset,
  )
  drawn = consistency.drawn(
    learner.samples, recipe.batch_size, data=block.data, sampler=block.sampler
  )
  parts = consistency.parts(block.schedule_over, config.loops)

  def make(loop: int, report: Any) -> Stage:
    name = f"loop{loop}/consistency"
    return step.make(
      *(name, algorithm, drawn, recipe),
      key=learner.key(name),
      report=report,
      part=(loop - 1) % parts,
      parts=parts,
    )

  return make


def _refit(learner: Learner, block: dict) -> classifier.Maker:
  return classifier.Maker(
    learner.predictor,
    learner.samples,
    recipes.of("refit", block),
    classifier.of("refit", block),
  )


def _apart(stage: Stage) -> Stage:
  """Keeps the two heads apart, as in the paper."""
  return stage


def _shared(stage: Stage) -> Stage:
  """Makes one head of two, as in the authors' code: the newest is both."""

  def finish(state, trained):
    new = stage.finish(state, trained)
    head = new.head if new.head is not state.head else new.balanced_head
    return new.replace(  # type: ignore[attr-defined]
      head=head, balanced_head=head
    )

  return dataclasses.replace(stage, finish=finish)


METHOD = registry.Method(
  "sslt",
  title=lambda config: titles.called("SSLT", config),
  paper="Liu et al., Algorithm 1",
  stages=stages,
  blocks=blocks.SUPERVISED
  | {
    SETTINGS: {},
    blocks.CLASSIFIER: {},
    blocks.PSEUDO_LABEL: {},
    CONSISTENCY: {},
    blocks.REFIT: {},
  },
  needs_unlabeled=True,
  rows={
    "sslt": (changes.sslt(),),
    # Liu et al., Table 3: sampling in Stage 2 + Stage 3; data of the stages.
    "sslt_r_r": (changes.sslt(refit__sampler="random"),),
    "sslt_c_r": (
      changes.sslt(
        consistency__sampler="class_balanced", refit__sampler="random"
      ),
    ),
    "sslt_c_c": (changes.sslt(consistency__sampler="class_balanced"),),
    "sslt_classifier_all": (changes.sslt(refit__data="all"),),
    "sslt_embedding_labeled": (
      changes.sslt(refit__data="all", consistency__data="labeled"),
    ),
  },
)
