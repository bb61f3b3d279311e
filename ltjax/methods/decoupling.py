"""Decoupling (Kang et al., 2020): embedding first, balanced classifier second.

Also the initialization of SSLT. The second is one of four kinds: a head trained
anew (cRT), the nearest class mean (NCM), the first head with vectors of other
lengths, computed (tau-normalization) or learned (LWS).

Source: Kang et al., "Decoupling representation and classifier for long-tailed
recognition"; Liu et al., Section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ltjax.methods import blocks, changes, registry, titles
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.stages import classifier, embedding, fixed_heads, head_rules
from ltjax.stages import tau as taus
from ltjax.training.stage import Stage


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the two stages; `CE (g')` and `Decoupling` are evaluated.

  Args:
    learner: the network and the task.
    config: uses the blocks `embedding`, `loss`, `sampler` and `classifier`.
  """
  task, title = learner.task, titles.objective(config)

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
    report=learner.report(f"{title} (g')", head="random"),
    minimize=learner.objective(config),
    sampler=config.sampler,
  )

  # A balanced head g, on frozen f.
  yield balanced_head(learner, config)


def balanced_head(
  learner: Learner,
  config: Any,
  *,
  name: str = "classifier",
  title: str = "",
  fresh: bool = True,
) -> Stage:
  """Returns the stage that makes `g`, by `config.classifier.kind`.

  Args:
    learner: the network and the task.
    config: uses the block `classifier`.
    name: the stage's name.
    title: what to call the model in its rows; empty for the base's name.
    fresh: whether a head that is trained starts anew, and not from `g`.

  Raises:
    ValueError: if a setting does not fit.
  """
  task, block = learner.task, config.classifier
  title = title or titles.decoupled(config)

  report = learner.report(title, head="balanced")

  if block.kind in head_rules.NAMES:
    make = classifier.Maker(
      learner.predictor,
      learner.samples,
      recipes.of("classifier", block),
      classifier.of("classifier", block),
    )
    return make.make(name, fresh=fresh, key=learner.key(name), report=report)
  if block.batch_norm != "frozen":
    raise ValueError(
      f"classifier.batch_norm is {block.batch_norm!r}, but classifier.kind"
      f"={block.kind} takes no step that could update statistics; set it to"
      f" frozen, or the kind to {' or '.join(head_rules.NAMES)}."
    )
  if block.kind == "ncm":
    return fixed_heads.ncm(
      name,
      learner.predictor,
      images=task.images[: task.num_labeled],
      labels=task.labels,
      features=block.ncm_features,
      report=report,
    )
  if block.kind == "knn":
    return fixed_heads.knn(
      name,
      learner.predictor,
      images=task.images[: task.num_labeled],
      labels=task.labels,
      neighbors=block.neighbors,
      report=report,
    )
  chooser = taus.Chooser(
    learner.predictor,
    images=task.validation_images,
    labels=task.validation_labels,
    tau=block.tau,
    select=block.select_tau,
    field="classifier",
    switch="select_tau",
  )
  return fixed_heads.tau_norm(
    name, learner.predictor, chooser=chooser, report=report
  )


METHOD = registry.Method(
  "decoupling",
  title=titles.decoupled,
  paper="Kang et al. (2020)",
  stages=stages,
  blocks=blocks.SUPERVISED | {blocks.CLASSIFIER: {}},
  rows={
    "decoupling": (changes.classifier("crt"),),
    "ncm": (changes.classifier("ncm"),),
    "knn": (changes.classifier("knn"),),
    "tau_norm": (changes.classifier("tau_norm"),),
    "lws": (changes.classifier("lws"),),
  },
)
