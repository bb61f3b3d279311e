"""Rotation prediction: pre-training that needs no labels.

Each image is turned by 0, 90, 180 or 270 degrees and the network has to tell by
how much, with a head of its own. To know which way is up it has to recognise
what is shown, and no class is more frequent than another in this task. Then the
head is dropped and the embedding kept.

Rotation says nothing where turned images look alike, such as textures seen from
above, and little where they are other images of the set, such as a 6 and a 9.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax import fit, models
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.losses import classification
from ltjax.models import heads
from ltjax.stages import self_supervised
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy")
ROTATIONS = ("one", "four")
TURNS = 4


def rotate(images: jax.Array, turns: jax.Array) -> jax.Array:
  """Turns each image counter-clockwise by a number of quarters.

  Args:
    images: `[B, S, S, C]`, any dtype.
    turns: int `[B]`, in [0, 4).

  Returns:
    As `images`: pixels move, none changes.
  """
  every = [jnp.rot90(images, k, axes=(1, 2)) for k in range(TURNS)]
  which = jnp.broadcast_to(turns[:, None, None, None], images.shape)
  return jax.lax.select_n(which.astype(jnp.int32), *every)


def draw_turns(key: jax.Array, batch_size: int) -> jax.Array:
  """Draws one rotation an image, each as often as the others.

  Args:
    key: a key.
    batch_size: `B`.

  Returns:
    int32 `[B]`: 0, 1, 2, 3, 0, 1, ... in random order. Where four does not
    divide `B` the first ones occur once more.
  """
  balanced = jnp.arange(batch_size, dtype=jnp.int32) % TURNS
  return jax.random.permutation(key, balanced)


def every_turn(images: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Turns each image in all four ways.

  Args:
    images: `[B, S, S, C]`.

  Returns:
    `[4 B, S, S, C]`, the four of an image side by side, and their turns, int32
    `[4 B]`.
  """
  every = [jnp.rot90(images, k, axes=(1, 2)) for k in range(TURNS)]
  turned = jnp.stack(every, axis=1).reshape(-1, *images.shape[1:])
  return turned, jnp.tile(jnp.arange(TURNS, dtype=jnp.int32), len(images))


def make_step(
  model: models.Model,
  optimizer: optax.GradientTransformation,
  *,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  steps_per_epoch: int,
  rotations: str = "one",
) -> fit.Step:
  """Returns the pure step that learns to tell rotations.

  Args:
    model: the network.
    optimizer: moves `{"backbone", "head"}`, the head with 4 outputs.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, S, S, C]`, applied before
      the rotation.
    steps_per_epoch: when the epoch's metrics start anew.
    rotations: `one` random rotation of each image, or all `four`.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    `images` uint8 `[N, H, W, C]` and `head`, the classifier's parameters, which
    stay as they are.
  """
  head_apply = heads.linear(model.feature_dim, TURNS).apply

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    key = jax.random.fold_in(state.key, state.step)
    transform_key, turns_key = jax.random.split(key)
    images = transform(transform_key, arrays["images"][index])
    if rotations == "four":
      images, turns = every_turn(images)
    else:
      turns = draw_turns(turns_key, len(index))
      images = rotate(images, turns)

    def loss_fn(params):
      network = {"backbone": params["backbone"], "head": arrays["head"]}
      features, _, batch_stats = model.apply(
        network, state.batch_stats, images, True
      )
      logits = head_apply(params["head"], features)
      losses = classification.cross_entropy(logits, turns)
      return jnp.mean(losses), (logits, batch_stats)

    (loss, (logits, batch_stats)), grads = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return states.advance(
      state,
      {"loss": loss, "accuracy": jnp.mean(jnp.argmax(logits, -1) == turns)},
      steps_per_epoch=steps_per_epoch,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
    )

  return step


def make(
  name: str,
  model: models.Model,
  *,
  images: jax.Array,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  recipe: recipes.Recipe,
  rotations: str = "one",
  seed: int,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> fit.Stage:
  """Returns the stage that trains `f` to tell rotations.

  It leaves the parameters and BatchNorm statistics of `f` behind. The heads of
  the model stay as they were.

  Args:
    name: the stage's name.
    model: the network.
    images: uint8 `[N, H, W, C]`.
    transform: the training transform; its images are turned.
    recipe: epochs, batch size and SGD settings.
    rotations: `one` random rotation of each image, as often each in a batch
      (the code of Yang & Xu), or all `four` (Gidaris et al.), four times the
      work.
    seed: the run's seed, for the index stream.
    key: the stage's random key, for the head, augmentation and rotations.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if `rotations` is unknown, the images are not square, or the
      batch is larger than the set.

  Source: Gidaris et al. (2018), "Unsupervised representation learning by
    predicting image rotations"; Yang & Xu (2020), Section 4.2.
  """
  if rotations not in ROTATIONS:
    raise ValueError(
      f"pretrain.rotations is {rotations!r}; choose one of"
      f" {', '.join(ROTATIONS)}."
    )
  self_supervised.check_square("rotation", model.image_shape)
  head_key, step_key = jax.random.split(key)

  def init(
    state: ModelState, optimizer: optax.GradientTransformation
  ) -> TrainState:
    head = heads.linear(model.feature_dim, TURNS).init(head_key)
    params = {"backbone": state.backbone, "head": head}
    return states.create(
      params=params,
      batch_stats=state.batch_stats,
      opt_state=optimizer.init(params),
      memory=state.memory[:0],
      key=step_key,
      metrics=METRICS,
    )

  return self_supervised.make(
    name,
    images=images,
    recipe=recipe,
    init=init,
    make_step=functools.partial(
      make_step, model, transform=transform, rotations=rotations
    ),
    seed=seed,
    report=report,
  )
