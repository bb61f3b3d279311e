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
from typing import Any

from ltjax.config import titles
from ltjax.methods import decoupling, supervised
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.stages import classifier, embedding, pseudo_label
from ltjax.training.stage import Stage

BASES = ("supervised", "decoupling")
STARTS = ("scratch", "base")


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stages of the base, one pass of labels, and the final model.

  Args:
    learner: the network and the task.
    config: uses the blocks `embedding`, `loss`, `sampler`, `pseudo_label` and
      `pseudo`; with the base `decoupling` also `classifier`, and `refit` for the
      second classifier where its kind is cRT.

  Raises:
    ValueError: if the base or the start is unknown, or a block does not fit.
  """
  for name, value, known in (
    ("base", config.pseudo.base, BASES),
    ("start", config.pseudo.start, STARTS),
  ):
    if value not in known:
      raise ValueError(
        f"pseudo.{name} is {value!r}; choose one of {', '.join(known)}."
      )
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
    report=lambda state: learner.evaluate_pseudo_labels(state, loop=1),
  )

  # The final model learns from labels and pseudo labels.
  title = titles.final(config)
  yield embedding.make(
    "pseudo/embedding",
    learner.model,
    images=task.images,
    labels=task.labels,
    transform=learner.transform,
    recipe=recipes.of("pseudo", config.pseudo),
    seed=learner.seed,
    key=learner.key("pseudo/embedding"),
    report=lambda state: learner.evaluate(
      state,
      model=f"{title} (g')" if decoupled else title,
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
    report=lambda state: learner.evaluate(state, model=title, head="balanced"),
  )
