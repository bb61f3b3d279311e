"""Pretext tasks: what a network is asked about images whose class is not known.

A pretext task is an `Algorithm` that hands out features. Around it stand the
watch for a *collapse*, an embedding that maps all images to one point, and an
optional online probe.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax

from ltjax.evaluation import monitors
from ltjax.optim import recipe as recipes
from ltjax.self_supervised import online_probe as online_probes
from ltjax.settings import fields
from ltjax.settings.fields import setting
from ltjax.training import draw, step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

# Choices of `pretrain.name` that ask about two random views of an image.
OF_VIEWS = ("moco", "simclr", "supcon", "sdclr", "byol", "swav", "fassl")


def by(*names: str) -> fields.Readers:
  """Returns what needs one of the tasks, or FASSL that starts from it.

  Args:
    *names: choices of `pretrain.name`.
  """
  return {"name": names}, {"name": ("fassl",), "prototypes.start": names}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The projection, and the loss on it, of tasks that compare embeddings."""

  dim: int = setting(
    128, "of the embeddings", least=1, size=True, when={"name": OF_VIEWS}
  )
  hidden: int = setting(
    0,
    "width of the projection's hidden layer; 0: as the features",
    least=0,
    size=True,
    when={"name": OF_VIEWS},
  )
  temperature: float = setting(
    0.2,
    "of the loss",
    above=0,
    when=by("moco", "swav", "simclr", "supcon", "sdclr"),
  )


@dataclasses.dataclass(frozen=True)
class Setup:
  """What all stages of pre-training are given, whatever their task is.

  Attributes:
    images: uint8 `[N, H, W, C]`; each is drawn once an epoch.
    labels: int32 `[N]`, -1 where unknown; for SupCon, the online probe and the
      log.
    counts: float32 `[C]`, images of each class; for the log.
    recipe: epochs, batch size and optimizer.
    seed: the run's seed, for the index stream.
    key: the stage's random key, for all that it draws.
    report: rows to write when the stage is over.
    online_probe: whether a linear classifier is trained along, for the log, by
      the optimizer of the stage.
    layer_decay: as of `step.Algorithm`.
  """

  images: jax.Array
  labels: jax.Array
  counts: jax.Array
  recipe: recipes.Recipe
  seed: int
  key: jax.Array
  report: Callable[[ModelState], list[dict[str, Any]]]
  online_probe: bool = False
  layer_decay: float = 1.0


def watched(task: step.Algorithm) -> step.Algorithm:
  """Returns a task that logs the spread and the rank of its features."""

  def loss(params: Any, state: TrainState, batch: step.Batch):
    value, outcome = task.loss(params, state, batch)
    features = jax.lax.stop_gradient(outcome.features)
    metrics = outcome.metrics | {
      "feature_std": monitors.feature_std(features),
      "effective_rank": monitors.effective_rank(features),
    }
    return value, outcome._replace(metrics=metrics)

  metrics = (*task.metrics, "feature_std", "effective_rank")
  return dataclasses.replace(task, loss=loss, metrics=metrics)


def probed(
  task: step.Algorithm, *, feature_dim: int, num_classes: int
) -> step.Algorithm:
  """Returns a task beside which a linear classifier learns from its features.

  Args:
    task: its outcome has features.
    feature_dim, num_classes: F and C.
  """

  def init(state: ModelState):
    params, batch_stats, extra = task.init(state)
    linear = online_probes.init(feature_dim, num_classes)
    return params | {"online_probe": linear}, batch_stats, extra

  def loss(params: Any, state: TrainState, batch: step.Batch):
    value, outcome = task.loss(params, state, batch)
    probe_loss, accuracy = online_probes.loss(
      params["online_probe"], outcome.features, batch.labels
    )
    metrics = outcome.metrics | {"loss": value, "online_accuracy": accuracy}
    return value + probe_loss, outcome._replace(metrics=metrics)

  metrics = (*task.metrics, "online_accuracy")
  return dataclasses.replace(task, init=init, loss=loss, metrics=metrics)


def make(
  name: str,
  task: step.Algorithm,
  setup: Setup,
  *,
  feature_dim: int,
  key: jax.Array,
) -> Stage:
  """Returns the stage that trains a network on a pretext task.

  Args:
    name: the stage's name, which is also that of its config block.
    task: its batches also have the arrays `counts [C]` and `head`, the
      parameters of `g'`, without which a network cannot be run.
    setup: the images, and how to train on them.
    feature_dim: F, of the network.
    key: the random key of its steps.

  Raises:
    ValueError: if the batch is larger than the set, or has a single image.
  """
  recipe, num_classes = setup.recipe, len(setup.counts)
  if recipe.batch_size < 2:
    raise ValueError(
      f"{name}.batch_size is {recipe.batch_size}; self-supervised learning with"
      " BatchNorm compares the images of a batch and needs 2 or more."
    )
  task = dataclasses.replace(watched(task), layer_decay=setup.layer_decay)
  if setup.online_probe:
    task = probed(task, feature_dim=feature_dim, num_classes=num_classes)
  data = draw.labeled(
    draw.Samples(setup.images, setup.labels, num_classes, setup.seed),
    recipe.batch_size,
    field=name,
    also=lambda state: {"counts": setup.counts, "head": state.head},
  )
  return step.make(name, task, data, recipe, key=key, report=setup.report)
