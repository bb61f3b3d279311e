"""Pretext tasks by name: the stage that `config.pretrain` describes.

All see the same images through the same views and may have the same online
probe, so that they can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from ltjax.methods import views
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.self_supervised import (
  contrastive,
  moco,
  pretext,
  rotation,
  student_teacher,
  swav,
  teacher,
)
from ltjax.settings import fields
from ltjax.stages import embedding
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState

DATA = ("labeled", "all")
Report = Callable[[ModelState], list[dict[str, Any]]]


def nothing(state: ModelState) -> list[dict[str, Any]]:
  """An embedding is not a classifier yet: there is nothing to evaluate."""
  del state
  return []


def setup_of(
  learner: Learner, config: Any, *, name: str, report: Report = nothing
) -> pretext.Setup:
  """Returns what all stages of pre-training are given.

  Args:
    learner: the network and the task.
    config: the block `name` has the recipe, the block `pretrain` the images.
    name: of the stage and its block.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if the images do not exist or a setting does not fit.
  """
  block, task = config.pretrain, learner.task
  images, labels = task.images[: task.num_labeled], task.labels
  if block.data == "all":
    num = len(task.unlabeled_images)
    if not num:
      raise ValueError(
        "pretrain.data is 'all', but there are no unlabeled images; raise"
        " data.unlabeled.factor, name a pool in data.unlabeled.source, or set"
        " --config.pretrain.data=labeled."
      )
    images = task.images
    labels = jnp.concatenate([labels, jnp.full(num, -1, labels.dtype)])
  return pretext.Setup(
    images=images,
    labels=labels,
    counts=jnp.bincount(task.labels, length=task.num_classes).astype(
      jnp.float32
    ),
    recipe=recipes.of(name, config[name]),
    seed=learner.seed,
    key=learner.key(name),
    report=report,
    online_probe=block.online_probe,
    layer_decay=learner.model.layer_decay,
  )


def _rotation(learner: Learner, config: Any, setup: pretext.Setup):
  return rotation.make(
    "pretrain",
    learner.model,
    setup,
    settings=fields.of(rotation.Settings, config.pretrain),
    transform=learner.transform,
  )


def _moco(learner: Learner, config: Any, setup: pretext.Setup):
  block, images = config.pretrain, setup.images
  if block.batch_size <= len(images) < block.queue:
    raise ValueError(
      f"pretrain.queue is {block.queue}, but there are only {len(images)}"
      " images: older keys of an image would be its own negatives. Set"
      " --config.pretrain.queue to a tenth of them or so."
    )
  return moco.make(
    "pretrain",
    learner.model,
    setup,
    settings=fields.of(moco.Settings, config.pretrain),
    views=views.two(learner, config),
  )


def _contrastive(learner: Learner, config: Any, setup: pretext.Setup):
  settings = fields.of(contrastive.Settings, config.pretrain)
  return contrastive.make(
    "pretrain",
    learner.model,
    setup,
    settings=dataclasses.replace(settings, kind=_chosen(config)),
    views=views.two(learner, config, boosted=settings.boost_ops > 0),
  )


def _byol(learner: Learner, config: Any, setup: pretext.Setup):
  block = config.pretrain
  settings = fields.of(teacher.Settings, config.student)
  return student_teacher.make(
    "pretrain",
    learner.model,
    setup,
    views=views.two(learner, config),
    inherit=False,
    dim=block.dim,
    hidden=block.hidden,
    settings=dataclasses.replace(settings, score="uniform"),
  )


def _swav(learner: Learner, config: Any, setup: pretext.Setup):
  return swav.make(
    "pretrain",
    learner.model,
    setup,
    settings=fields.of(swav.Settings, config.pretrain),
    views=views.two(learner, config),
  )


def _supervised(learner: Learner, config: Any, setup: pretext.Setup):
  """The whole network on labels, with `config.loss` and `config.sampler`."""
  if config.pretrain.data != "labeled":
    raise ValueError(
      f"pretrain.data is {config.pretrain.data!r}, but pretrain.name="
      "'supervised' needs labels; set --config.pretrain.data=labeled."
    )
  return embedding.make(
    "pretrain",
    learner.model,
    transform=learner.transform,
    minimize=learner.objective(config),
    sampler=config.sampler,
    field="pretrain",
    images=setup.images,
    labels=setup.labels,
    recipe=setup.recipe,
    seed=setup.seed,
    key=setup.key,
    report=setup.report,
  )


class Task(NamedTuple):
  """A pretext task: what tables call it, and what makes its stage."""

  title: str
  make: Callable[[Learner, Any, pretext.Setup], Stage]


TASKS = {
  "rotation": Task("SSP", _rotation),
  "moco": Task("MoCo", _moco),
  "simclr": Task("SimCLR", _contrastive),
  "supcon": Task("SupCon", _contrastive),
  "sdclr": Task("SDCLR", _contrastive),
  "byol": Task("BYOL", _byol),
  "swav": Task("SwAV", _swav),
  "supervised": Task("Supervised", _supervised),
}
NAMES = tuple(TASKS)


def make(learner: Learner, config: Any) -> Stage:
  """Returns the stage `pretrain` of a single pretext task.

  Args:
    learner: the network and the task.
    config: its block `pretrain` names the task; with FASSL it is the one that
      FASSL starts from, `prototypes.start`.

  Raises:
    ValueError: if a setting of the block does not fit.
  """
  return TASKS[_chosen(config)].make(
    learner, config, setup_of(learner, config, name="pretrain")
  )


def _chosen(config: Any) -> str:
  name = config.pretrain.name
  return config.prototypes.start if name == "fassl" else name
