"""The task and the learner that a config describes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from ltjax import models
from ltjax.augment import ensemble
from ltjax.data import builder
from ltjax.data import task as tasks
from ltjax.data.sources import given as givens
from ltjax.methods import evaluators
from ltjax.methods.learner import Learner
from ltjax.training import inference

Config = Any


def build_task(
  config: Config,
  mesh: Mesh,
  data_dir: str | None,
  given: givens.Given | None = None,
) -> tasks.Task:
  """Returns the task that `config.data` describes.

  Args:
    config: the run's config.
    mesh: the devices.
    data_dir: where data sets live; None for the default.
    given: arrays at hand, which `config.data.source` names; None to load it.
  """
  settings: dict[str, Any] = dict(config.data)
  for name in ("labeled", "unlabeled", "validation", "probe", "columns"):
    settings[name] = dict(settings[name])
  for name in ("groups", "group_counts"):
    settings[name] = tuple(settings[name])
  return builder.build(**settings, mesh=mesh, data_dir=data_dir, given=given)


def build_learner(config: Config, task: tasks.Task, mesh: Mesh) -> Learner:
  """Returns the network that `config.model` describes, with its task.

  Args:
    config: the run's config.
    task: the data.
    mesh: the devices.

  Raises:
    ValueError: if `eval.views` mirrors images that must not be, or a choice is
      unknown.
  """
  model = models.create(
    **config.model, num_classes=task.num_classes, image_shape=task.image_shape
  )
  dtype = jnp.dtype(config.model.dtype)
  if model.normalizes:
    channels = task.image_shape[2]
    task = dataclasses.replace(
      task, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    dtype = jnp.dtype("float32")
  train_transform, test_transform = task.transforms(dtype)
  views = ensemble.make(
    config.eval.views,
    mean=task.mean,
    std=task.std,
    dtype=dtype,
    crop_size=task.crop_size,
    resized=not model.normalizes,
  )
  if views.name == "flip" and not task.flip:
    raise ValueError(
      "eval.views is 'flip', and these images are another thing mirrored"
      " (data.flip); set --config.eval.views to crops or plain, or"
      " --config.data.flip=on."
    )
  predictor = inference.Predictor(
    model,
    test_transform=test_transform,
    train_transform=train_transform,
    batch_size=config.eval.batch_size,
    mesh=mesh,
    views=views,
  )
  return Learner(
    model=model,
    task=task,
    predictor=predictor,
    transform=train_transform,
    seed=config.seed,
    mesh=mesh,
    dtype=dtype,
    evaluators=evaluators.of(config.eval, task.num_labeled),
  )
