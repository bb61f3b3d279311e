"""Self-supervised pre-training (SSP): begin a method from an embedding that saw
no labels.

In a long tail the labels themselves are biased, and an embedding learned from
them inherits it. Yang & Xu train it first without labels, on the same images,
and start any supervised method from there. So this is not a method, but a stage
before one.

Source: Yang & Xu (2020), "Rethinking the value of labels for improving
class-imbalanced learning", Section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
import difflib
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import fit
from ltjax import recipe as recipes
from ltjax.augment import views
from ltjax.methods.learner import Learner
from ltjax.stages import moco, rotation

NAMES = ("none", "rotation", "moco")
DATA = ("labeled", "all")


def stages(learner: Learner, config: Any) -> Iterator[fit.Stage]:
  """Yields the pre-training stage `pretrain`, or nothing.

  It changes the embedding; the heads stay fresh. What is learned is in the
  rows of its epochs: the loss, and how often the rotation or the other view of
  the image was found.

  Args:
    learner: the network and the task.
    config: uses the block `pretrain`, and `model.dtype`.

  Raises:
    ValueError: if a setting of the block does not fit.

  Source: Yang & Xu (2020), Section 4.2: on the labeled images only.
  """
  block = config.pretrain
  if block.name not in NAMES:
    close = difflib.get_close_matches(block.name, NAMES, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
      f"pretrain.name is {block.name!r}; choose one of {', '.join(NAMES)}."
      + hint
    )
  if block.data not in DATA:
    raise ValueError(
      f"pretrain.data is {block.data!r}; choose one of {', '.join(DATA)}."
    )
  if block.name == "none":
    return
  task = learner.task
  if block.data == "all" and not len(task.unlabeled_images):
    raise ValueError(
      "pretrain.data is 'all', but there are no unlabeled images; raise"
      " data.unlabeled.factor, name a pool in data.unlabeled.source, or set"
      " --config.pretrain.data=labeled."
    )
  images = (
    task.images if block.data == "all" else task.images[: len(task.labels)]
  )
  common = {
    "images": images,
    "recipe": recipes.of("pretrain", block),
    "seed": learner.seed,
    "key": learner.key("pretrain"),
    "report": _nothing,
  }
  if block.name == "rotation":
    yield rotation.make(
      "pretrain",
      learner.model,
      transform=learner.transform,
      rotations=block.rotations,
      **common,
    )
    return
  if block.batch_size <= len(images) < block.queue:
    raise ValueError(
      f"pretrain.queue is {block.queue}, but there are only {len(images)} images:"
      " older keys of an image would be its own negatives. Set"
      " --config.pretrain.queue to a tenth of them or so."
    )
  yield moco.make(
    "pretrain",
    learner.model,
    views=two_views(learner, dtype=jnp.dtype(config.model.dtype)),
    dim=block.dim,
    queue=block.queue,
    ema=block.ema,
    temperature=block.temperature,
    key_batch_norm=block.key_batch_norm,
    **common,
  )


def two_views(learner: Learner, *, dtype: Any = jnp.float32):
  """Returns the contrastive views of a learner's task.

  Args:
    learner: its model gives the size of a view, its task whether to mirror, and
      the normalisation.
    dtype: of the views.

  Returns:
    `(key, uint8 [B, H, W, C]) -> two [B, S, S, C] of dtype`.
  """
  view = functools.partial(
    views.contrastive,
    size=learner.model.image_shape[0],
    mean=learner.task.mean,
    std=learner.task.std,
    flip=learner.task.flip,
    dtype=dtype,
  )

  def pair(key: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    return views.two(key, images, view)

  return pair


def _nothing(state: Any) -> list[dict[str, Any]]:
  """The embedding is not a classifier yet: there is nothing to evaluate."""
  del state
  return []
