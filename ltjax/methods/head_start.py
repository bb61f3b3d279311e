"""What a cosine head starts from: class means, or features of class names.

A head that starts where the classes are needs few steps to do well, and a rare
class the fewest images. Class means are of the labeled images, by the network
as it is before the first step; features of class names come from a file, such
as those that CLIP's text tower gives of "a photo of a CLASS.".

Source: Shi et al. (2024), "Long-tail learning with foundation model: heavy
fine-tuning hurts" (LIFT), Section 5.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import require
from ltjax.devices import sharding
from ltjax.methods import registry
from ltjax.methods.learner import Learner
from ltjax.models import heads, pretrained
from ltjax.models.backbones import vit_weights
from ltjax.settings.fields import setting
from ltjax.training.state import ModelState


@dataclasses.dataclass(frozen=True)
class Settings:
  """What training starts from."""

  head: str = setting(
    "random", "or class_means, or a .npy of the features of class names"
  )


START = registry.Block(
  "start",
  Settings,
  when={
    "model.name": tuple(pretrained.ARCHITECTURES),
    "model.head": ("cosine",),
  },
)


def begin(learner: Learner, state: ModelState, config: Any) -> ModelState:
  """Returns the state before the first stage, its heads begun.

  Args:
    learner: the network and the task.
    state: of `learner.init`.
    config: `start.head` says how: `random`, `class_means` or a `.npy` of
      the features of class names `[C, P]`, in the order of the classes; where P
      is not D they lie behind CLIP's projection.

  Raises:
    ValueError: if the file does not fit, or a class has no labeled image.
  """
  start = config.start.head
  if start == "random":
    return state
  kernel = (
    _means(learner, state)
    if start == "class_means"
    else _text(pathlib.Path(start), learner, config)
  )
  kernel = kernel / np.linalg.norm(kernel, axis=0, keepdims=True)
  head = sharding.replicate({"kernel": np.float32(kernel)}, learner.mesh)
  return state.replace(  # type: ignore[attr-defined]
    head=head, balanced_head=jax.tree.map(jnp.copy, head)
  )


def _means(learner: Learner, state: ModelState) -> np.ndarray:
  task = learner.task
  counts = np.bincount(np.asarray(task.labels), minlength=task.num_classes)
  require.at_least(
    "Labeled images of each class, of which start.head=class_means needs"
    " one: the least",
    int(counts.min()),
    1,
  )
  features = learner.predictor.features(state, task.images[: task.num_labeled])
  found = heads.ncm(
    features, task.labels, num_classes=task.num_classes, kind="cosine"
  )
  return np.asarray(found["centroids"]).T


def _text(path: pathlib.Path, learner: Learner, config: Any) -> np.ndarray:
  try:
    text = np.load(path, allow_pickle=False)
  except (OSError, ValueError) as error:
    raise ValueError(
      f"start.head is {str(path)!r}, which is no .npy file of features"
      f" ({error}); it is random, class_means or such a file."
    ) from None
  model = learner.model
  if text.ndim != 2 or len(text) != model.num_classes:
    raise ValueError(
      f"{path} has the shape {text.shape}; it must have a row for each of the"
      f" {model.num_classes} classes."
    )
  if text.shape[1] == model.feature_dim:
    return text.T
  file = pretrained.find(model.name, config.model.weights)
  projection = vit_weights.projection(pretrained.read(file))
  if projection.shape != (model.feature_dim, text.shape[1]):
    raise ValueError(
      f"{path} has features of {text.shape[1]} numbers; {model.name} has"
      f" {model.feature_dim}, and its projection is {projection.shape}."
    )
  return projection @ text.T
