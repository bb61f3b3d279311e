"""What a frozen embedding `f` is worth: held-out features, other classifiers.

Two questions to the model of a finished run, without training `f` again:

- Do the features of held-out images lie where those of the labeled images do?
  Of a class with `n` labeled images of mean `m` and unbiased variance `s^2`
  (summed over features), a new image of the same distribution has the expected
  squared distance `s^2 (1 + 1/n)` from `m`. The root of found over expected is
  1 where `f` generalises, and large where it has memorised.
- Which classifier suits it: `views` augmented views or the plain image, how
  many steps, class-balanced sampling or random sampling with the balanced
  softmax (the loss told of the prior), or `g'` corrected after the fact. The
  classifier of 10 views, class-balanced, is drawn and begun as the stage
  `classifier` of the run is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax.evaluation import metrics
from ltjax.losses import adjustment
from ltjax.methods import build, posthoc
from ltjax.methods.learner import Learner
from ltjax.models import rescaling
from ltjax.optim import recipe as recipes
from ltjax.runs import finished
from ltjax.stages import features as feature_sources
from ltjax.stages import tau
from ltjax.training import sampling
from ltjax.training.state import ModelState

# Least steps of a classifier; 0 is its 10 epochs, 960 what those are in the
# paper: 12,406 images in batches of 128.
LEAST = (0, 240, 480, 960, 1920)
VIEWS = (0, 10)
SAMPLERS = {"class_balanced": "resampling", "random": "balanced softmax"}
_EPOCHS, _STAGE = 10, "classifier"
_DRAWS = 20  # of the control


def examine(
  folder: Path, data_dir: str | None, *, classifiers: bool = True
) -> dict[str, Any]:
  """Returns what the two questions have for answers, JSON values.

  Args:
    folder: of a finished run.
    data_dir: where data sets live; None for the default.
    classifiers: whether the second is asked.

  Returns:
    `features`, as `distances` gives them for every part, and `classifiers`,
    rows with `accuracy` and that of the groups on every held-out part.
  """
  run = finished.reopen(folder, data_dir)
  learner = build.build_learner(run.config, run.task, run.mesh)
  state = run.state()
  task, predictor = run.task, learner.predictor
  parts = {
    "labeled": (task.images[: task.num_labeled], np.asarray(task.labels)),
    "pool": (task.unlabeled_images, task.truth),
    "validation": (task.validation_images, task.validation_labels),
    "test": (task.test_images, task.test_labels),
  }
  found = {
    name: (predictor.features(state, images), labels)
    for name, (images, labels) in parts.items()
    if len(labels)
  }
  heads = {"g": state.balanced_head, "g'": state.head}
  result: dict[str, Any] = {"features": distances(found, heads, learner)}
  if classifiers:
    result["classifiers"] = list(
      _classifiers(learner, state, run.config, found)
    )
  return result


def distances(
  parts: Mapping[str, tuple[jax.Array, np.ndarray]],
  heads: Mapping[str, Any],
  learner: Learner,
) -> dict[str, Any]:
  """Returns how far held-out images are from what was learned, by group.

  Args:
    parts: features `[N, D]` and labels `[N]` by name, `labeled` and `test`
      among them.
    heads: whose accuracy is told.
    learner: gives the groups and runs the heads.

  Returns:
    By part: the accuracy of each head and, but of the labeled images, `ratio`.
    `control` has the ratio where test images, as many of each class, take the
    place of the labeled ones: what few images alone make of it.
  """
  groups = learner.task.groups
  arrays = {
    name: (np.asarray(features, np.float64), np.asarray(labels))
    for name, (features, labels) in parts.items()
  }
  result: dict[str, Any] = {}
  for name, (features, labels) in parts.items():
    result[name] = {
      head: _scores(learner, params, features, labels)
      for head, params in heads.items()
    }
    if name != "labeled":
      result[name]["ratio"] = ratio(
        arrays["labeled"], arrays[name], groups=groups
      )
  counts = np.bincount(arrays["labeled"][1], minlength=learner.task.num_classes)
  features, labels = arrays["test"]
  drawn = []
  for draw in range(_DRAWS):
    rng = np.random.default_rng(draw)
    order = rng.permutation(len(labels))
    rank = np.zeros(len(labels), int)  # among the images of the class
    for c in range(len(counts)):
      mine = order[labels[order] == c]
      rank[mine] = np.arange(len(mine))
    known = rank < counts[labels]
    drawn.append(
      ratio(
        (features[known], labels[known]),
        (features[~known], labels[~known]),
        groups=groups,
      )
    )
  result["control"] = {
    "ratio": {
      group: float(np.mean(values)) if None not in values else None
      for group in drawn[0]
      for values in [[d[group] for d in drawn]]
    }
  }
  return result


def ratio(
  known: tuple[np.ndarray, np.ndarray],
  held_out: tuple[np.ndarray, np.ndarray],
  *,
  groups: Mapping[str, Sequence[int]],
) -> dict[str, float | None]:
  """Returns the root of found over expected squared distances, by group.

  Args:
    known: features `[N, D]` and labels of the images that give the means.
    held_out: those of the others.
    groups: classes by group.

  Returns:
    By group, and `overall`; both distances are summed over the classes, and
    None where none has two images known and one held out.
  """
  found, expected = {}, {}
  for c in np.unique(known[1]):
    mine = known[0][known[1] == c]
    others = held_out[0][held_out[1] == c]
    if len(mine) < 2 or not len(others):
      continue
    mean = mine.mean(axis=0)
    found[c] = np.mean(np.sum((others - mean) ** 2, axis=1))
    variance = np.sum(mine.var(axis=0, ddof=1))
    expected[c] = variance * (1 + 1 / len(mine))

  def root(classes):
    classes = [c for c in classes if c in found]
    if not classes:
      return None
    total = sum(expected[c] for c in classes)
    return float(np.sqrt(sum(found[c] for c in classes) / total))

  return {name: root(ids) for name, ids in {"overall": found, **groups}.items()}


def fit(
  learner: Learner,
  features: jax.Array,
  *,
  recipe: recipes.Recipe,
  sampler: str = "class_balanced",
) -> Any:
  """Returns a classifier of the labeled images.

  It begins and draws as the stage `classifier` of the learner's runs.

  Args:
    learner: gives the labels and the head.
    features: `[views * N, D]`, as `ltjax.stages.features.cached` makes them.
    recipe: epochs, batch size and the rest.
    sampler: a name in `SAMPLERS`; with `random` the loss is told of the prior.
  """
  task, apply = learner.task, learner.model.head_apply
  labels, num = np.asarray(task.labels), task.num_labeled
  views = len(features) // num
  told = jnp.ones(task.num_classes)
  if sampler == "random":
    told = jnp.asarray(task.split.labeled_counts, jnp.float32)
  draws = sampling.make(
    {"name": sampler, "exponent": 1.0, "beta": 0.9999, "defer": 0.0},
    labels,
    recipe.batch_size,
    num_classes=task.num_classes,
    epochs=recipe.epochs,
    seed=learner.seed,
    stage=_STAGE,
  )
  stream = feature_sources.rows(
    draws, num_images=num, views=views, seed=learner.seed, stage=_STAGE
  )
  index = np.concatenate([stream(epoch) for epoch in range(recipe.epochs)])
  optimizer = recipe.make_optimizer(
    recipe.make_schedule(len(index) // recipe.epochs)
  )
  tiled = jnp.tile(task.labels, views)

  def step(carry, rows):
    head, opt_state = carry

    def loss_fn(head):
      losses = adjustment.logit_adjustment(
        apply(head, features[rows]), tiled[rows], prior=told
      )
      return jnp.mean(losses)

    updates, opt_state = optimizer.update(
      jax.grad(loss_fn)(head), opt_state, head
    )
    return (optax.apply_updates(head, updates), opt_state), None

  head = learner.model.head_init(_keys(learner)[0])
  (head, _), _ = jax.lax.scan(step, (head, optimizer.init(head)), index)
  return head


def _classifiers(
  learner: Learner, state: ModelState, config: Any, parts: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
  """Yields rows: a classifier, and its accuracies on held-out parts."""
  task, block = learner.task, config.classifier
  steps = sampling.steps_per_epoch(task.num_labeled, block.batch_size, _STAGE)
  held_out = {n: p for n, p in parts.items() if n in ("validation", "test")}

  def row(head, **what):
    scores = {n: _scores(learner, head, *p) for n, p in held_out.items()}
    return {**what, **scores}

  for views in VIEWS:
    features = feature_sources.cached(
      learner.predictor,
      state,
      task.images[: task.num_labeled],
      views=views,
      key=_keys(learner)[1],
    )
    for sampler, rule in SAMPLERS.items():
      for least in LEAST:
        epochs = max(_EPOCHS, math.ceil(least / steps))
        recipe = recipes.of(_STAGE, {**dict(block), "epochs": epochs})
        head = fit(learner, features, recipe=recipe, sampler=sampler)
        yield row(head, rule=rule, views=views, least=least)
  prior = posthoc.shares(task.split.labeled_counts, what="the prior")
  for strength in tau.GRID:
    shifted = rescaling.shift(
      state.head, jnp.asarray(-strength * np.log(prior), jnp.float32)
    )
    yield row(shifted, rule="g' after the fact", tau=strength)


def _keys(learner: Learner) -> jax.Array:
  """The keys of the stage's new head and of its views."""
  return jax.random.split(learner.key(_STAGE), 3)


def _scores(
  learner: Learner, head: Any, features: jax.Array, labels: np.ndarray
) -> dict[str, float | None]:
  """Accuracy overall and by group."""
  probabilities = np.asarray(learner.predictor.classify(head, features))
  found = metrics.classification(
    probabilities, labels, groups=learner.task.groups
  )
  return {
    "overall": found["accuracy"],
    **{g: found[f"accuracy/{g}"] for g in learner.task.groups},
  }
