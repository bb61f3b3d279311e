"""Pseudo-Label: label the pool once, then learn from everything.

Self-training in its plain form: a base model is trained on the labeled images,
labels all of the pool, and a final model learns from both. The base may be any
supervised model, `Pseudo-Label + L` with LDAM-DRW, or decoupled,
`Pseudo-Label + D`; the final model is trained in the same way, from scratch or
starting from the base.

Alternate sampling with one loop and no consistency is the decoupled one that
starts from the base, with its classifier refitted on the labeled images only.

Source: Yang & Xu, Section 2.2; Liu et al., Section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

from ltjax.methods import (
  blocks,
  changes,
  decoupling,
  registry,
  supervised,
  titles,
)
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.settings.fields import setting
from ltjax.stages import classifier, embedding, pseudo_label
from ltjax.training.stage import Stage

BASES = ("supervised", "decoupling")
STARTS = ("scratch", "base")


@dataclasses.dataclass(frozen=True)
class Settings:
  """How the final model learns from pseudo labels."""

  base: str = setting("supervised", "the model that labels", choices=BASES)
  start: str = setting("scratch", "of the final model", choices=STARTS)
  omega: float = setting(1.0, "weight of pseudo labels", least=0)
  reduction: str = setting(
    "examples",
    "a mean over the batch, or over labels and pseudo labels each",
    choices=embedding.REDUCTIONS,
  )


PSEUDO = registry.Block("pseudo", Settings, recipes.Recipe(epochs=200))


def title_of(config: Any) -> str:
  """Returns the name of the final model.

  With a decoupled base two ways of self-training are as usual, and both are
  told; otherwise only fine-tuning is.

  Args:
    config: a run's config.
  """
  tuned = ", fine-tuned"
  if config.pseudo.base != "decoupling":
    tuned = "" if config.pseudo.start == "scratch" else tuned
    return f"Pseudo-Label + {titles.supervised(config)}{tuned}"
  if config.pseudo.start == "scratch":
    tuned = ", from scratch"
  data = "D and U'" if config.refit.data == "all" else "D"
  last = f", g on {data}" if config.classifier.kind == "crt" else ""
  return f"Pseudo-Label + {titles.decoupled(config)}{tuned}{last}"


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stages of the base, one pass of labels, and the final model.

  Args:
    learner: the network and the task.
    config: uses the blocks `embedding`, `loss`, `sampler`, `pseudo_label` and
      `pseudo`; with the base `decoupling` also `classifier`, and `refit` for
      the second classifier where its kind is cRT.

  Raises:
    ValueError: if a block does not fit.
  """
  if config.pretrain.name != "none" and config.pseudo.start == "scratch":
    raise ValueError(
      f"pretrain.name is {config.pretrain.name!r}, but the final model starts"
      " from scratch, without it; set --config.pseudo.start=base, which goes on"
      " from the pre-trained base, or --config.pretrain.name=none."
    )
  task = learner.task
  decoupled = config.pseudo.base == "decoupling"
  fresh = config.pseudo.start == "scratch"

  # A model of the labeled images.
  base = decoupling if decoupled else supervised
  yield from base.stages(learner, config)

  # It labels the pool.
  yield pseudo_label.make(
    "pseudo_label",
    learner.predictor,
    images=task.unlabeled_images,
    transform=config.pseudo_label.transform,
    key=learner.key("pseudo_label"),
    report=learner.report_pseudo_labels(1),
  )

  # The final model learns from labels and pseudo labels.
  title = title_of(config)
  yield embedding.make(
    "pseudo/embedding",
    learner.model,
    images=task.images,
    labels=task.labels,
    transform=learner.transform,
    recipe=recipes.of("pseudo", config.pseudo),
    seed=learner.seed,
    key=learner.key("pseudo/embedding"),
    report=learner.report(
      f"{title} (g')" if decoupled else title,
      head="random" if decoupled else "balanced",
    ),
    minimize=learner.objective(config),
    sampler=config.sampler,
    data="all",
    omega=config.pseudo.omega,
    reduction=config.pseudo.reduction,
    fresh=fresh,
    final=not decoupled,
    field="pseudo",
  )
  if decoupled:
    yield _classifier(learner, config, title=title, fresh=fresh)


def _classifier(
  learner: Learner, config: Any, *, title: str, fresh: bool
) -> Stage:
  """The balanced head of the final model, of the same kind as the base's."""
  name = "pseudo/classifier"
  if config.classifier.kind != "crt":
    return decoupling.balanced_head(learner, config, name=name, title=title)
  maker = classifier.Maker(
    learner.predictor,
    learner.samples,
    recipes.of("refit", config.refit),
    classifier.of("refit", config.refit),
  )
  return maker.make(
    name,
    fresh=fresh,
    key=learner.key(name),
    report=learner.report(title, head="balanced"),
  )


_DECOUPLED = {"pseudo.base": ("decoupling",)}
_LDAM = (changes.method("supervised"), changes.ldam, changes.drw)
_SELF_TRAINED = changes.pseudo("supervised")
METHOD = registry.Method(
  "pseudo_label",
  title=title_of,
  paper="Yang & Xu (2020), Section 2.2; Liu et al., Section 4.3",
  stages=stages,
  blocks=blocks.SUPERVISED
  | {
    PSEUDO: {},
    blocks.PSEUDO_LABEL: {},
    blocks.CLASSIFIER: _DECOUPLED,
    blocks.REFIT: _DECOUPLED | {"classifier.kind": ("crt",)},
  },
  needs_unlabeled=True,
  rows={
    "pseudo_label_l": (*_LDAM, _SELF_TRAINED),
    "pseudo_label_d": (changes.classifier("crt"), changes.pseudo("decoupling")),
    "pseudo_label_d_finetuned": (
      changes.classifier("crt"),
      changes.pseudo("decoupling", start="base", data="labeled"),
    ),
    # Yang & Xu, Table 1.
    "ce_du": (_SELF_TRAINED,),
    "ldam_drw_du": (*_LDAM, _SELF_TRAINED),
  },
)
