"""The passes that are timed: pseudo labels, features, a classifier refit."""

from __future__ import annotations

from typing import Any

import jax

from benchmarks import flops as flop_counts
from benchmarks import loops
from benchmarks.subject import Subject
from ltjax.optim import recipe as recipes
from ltjax.stages import classifier, features, pseudo_label
from ltjax.training import draw
from ltjax.training import state as states

EPOCHS = 10
VIEWS = 10


def pseudo_labels(subject: Subject) -> loops.Loop:
  """Stage 1 of SSLT, over the whole set.

  Args:
    subject: what to run.
  """
  predictor = subject.predictor()
  return loops.Loop(
    "pseudo-label pass",
    subject.count,
    lambda: pseudo_label.assign(predictor, subject.state, subject.images),
    flop_counts.forward(subject.model),
  )


def refit_features(subject: Subject) -> loops.Loop:
  """The cache of augmented views that a refit reads; a view is an image.

  Args:
    subject: what to run.
  """
  predictor = subject.predictor()
  return loops.Loop(
    "refit, features",
    VIEWS * subject.count,
    lambda: features.cached(
      predictor,
      subject.state,
      subject.images,
      views=VIEWS,
      key=jax.random.key(4),
    ),
    flop_counts.forward(subject.model),
  )


def refit(subject: Subject) -> loops.Loop:
  """Stage 3 of SSLT, all of it, on features that are there; a draw is an image.

  Args:
    subject: what to run.
  """
  maker = classifier.Maker(
    subject.predictor(),
    draw.Samples(subject.images, subject.labels, subject.model.num_classes, 0),
    recipes.Recipe(epochs=EPOCHS, batch_size=subject.batch_size),
    classifier.Settings(views=VIEWS),
  )
  stage = maker.make(
    "refit", fresh=False, key=jax.random.key(5), report=lambda state: []
  )
  assert stage.init is not None and stage.prepare is not None
  init, prepared = stage.init, stage.prepare(subject.state)
  program = loops.compile_stage(
    stage, init(subject.state), prepared[0], subject
  )

  def run() -> Any:
    state = states.copy(init(subject.state))
    *_, last = loops.epochs(stage, state, prepared, subject)
    return last

  return loops.Loop("refit, fit", stage.images, run, 0, program)
