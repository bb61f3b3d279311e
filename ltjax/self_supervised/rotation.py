"""Rotation prediction: pre-training that needs no labels.

Each image is turned by 0, 90, 180 or 270 degrees and the network has to tell by
how much, with a head of its own, which is dropped then. No class is more
frequent than another in this task. Rotation says nothing where turned images
look alike, such as textures seen from above, and little where they are other
images of the set, such as a 6 and a 9.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import classification
from ltjax.models import heads
from ltjax.self_supervised import encoder, pretext
from ltjax.settings.fields import setting
from ltjax.training import step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

TURNS = 4


@dataclasses.dataclass(frozen=True)
class Settings:
  """What rotation prediction can be told: of the block `pretrain`.

  Source: Yang & Xu's code for `one`, as often each in a batch; Gidaris et al.
    (2018) for `four`, which is four times the work.
  """

  rotations: str = setting(
    "one",
    "of each image in a batch, or four",
    choices=("one", "four"),
    when=pretext.by("rotation"),
  )


def rotate(images: jax.Array, turns: jax.Array) -> jax.Array:
  """Turns each image `[B, S, S, C]` counter-clockwise by quarters.

  `turns` is int `[B]`, in [0, 4). Pixels move, none changes.
  """
  every = [jnp.rot90(images, k, axes=(1, 2)) for k in range(TURNS)]
  which = jnp.broadcast_to(turns[:, None, None, None], images.shape)
  return jax.lax.select_n(which.astype(jnp.int32), *every)


def draw_turns(key: jax.Array, batch_size: int) -> jax.Array:
  """Draws one rotation an image, int32 `[B]`, each as often as the others.

  0, 1, 2, 3, 0, 1, ... in random order: where four does not divide `B` the
  first ones occur once more.
  """
  balanced = jnp.arange(batch_size, dtype=jnp.int32) % TURNS
  return jax.random.permutation(key, balanced)


def every_turn(images: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Turns each image `[B, S, S, C]` in all four ways, which lie side by side.

  Returns `[4 B, S, S, C]` and their turns, int32 `[4 B]`.
  """
  every = [jnp.rot90(images, k, axes=(1, 2)) for k in range(TURNS)]
  turned = jnp.stack(every, axis=1).reshape(-1, *images.shape[1:])
  return turned, jnp.tile(jnp.arange(TURNS, dtype=jnp.int32), len(images))


def task(
  model: models.Model,
  *,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  rotations: str = "one",
  key: jax.Array,
) -> step.Algorithm:
  """Returns the pretext task of telling rotations.

  Its params are `{"backbone", "head"}`, the head with 4 outputs. The features
  that it shows are those of the turned images, with `four` of the plain ones.

  Args:
    model: the network.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, S, S, C]`, applied before
      the rotation.
    rotations: `one` random rotation of each image, or all `four`.
    key: draws the head.
  """
  head = heads.linear(model.feature_dim, TURNS)

  def init(state: ModelState) -> tuple[dict[str, Any], Any, Any]:
    params = {"backbone": state.backbone, "head": head.init(key)}
    return params, state.batch_stats, {}

  def loss(
    params: Any, state: TrainState, batch: step.Batch
  ) -> tuple[jax.Array, step.Outcome]:
    transform_key, turns_key = jax.random.split(batch.key)
    images = transform(transform_key, batch.images)
    if rotations == "four":
      images, turns = every_turn(images)
    else:
      turns = draw_turns(turns_key, len(batch.index))
      images = rotate(images, turns)
    network = {"backbone": params["backbone"], "head": batch.arrays["head"]}
    features, _, batch_stats = model.apply(
      network, state.batch_stats, images, True
    )
    logits = head.apply(params["head"], features)
    losses = classification.cross_entropy(logits, turns)
    metrics = {"accuracy": jnp.mean(jnp.argmax(logits, -1) == turns)}
    if rotations == "four":
      features = features[::TURNS]
    return jnp.mean(losses), step.Outcome(
      batch_stats, metrics, features=features
    )

  return step.Algorithm(
    init=init,
    loss=loss,
    keep=encoder.keep_backbone,
    metrics=("accuracy",),
  )


def make(
  name: str,
  model: models.Model,
  setup: pretext.Setup,
  *,
  settings: Settings,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
) -> Stage:
  """Returns the stage that trains `f` to tell rotations.

  It leaves `f` behind; the heads of the model stay as they were.

  Args:
    name, model, setup: the stage's name, the network, and the images.
    settings: of rotation prediction.
    transform: the training transform; its images are turned.

  Raises:
    ValueError: if the images are not square, or the batch is larger than the
      set.

  Source: Gidaris et al. (2018), "Unsupervised representation learning by
    predicting image rotations"; Yang & Xu (2020), Section 4.2.
  """
  encoder.check_square("rotation", model.image_shape)
  head_key, step_key = jax.random.split(setup.key)

  return pretext.make(
    name,
    task(
      model,
      transform=transform,
      rotations=settings.rotations,
      key=head_key,
    ),
    setup,
    feature_dim=model.feature_dim,
    key=step_key,
  )
