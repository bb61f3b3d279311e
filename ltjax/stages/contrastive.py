"""Contrastive pre-training: SimCLR, and what the long tail made of it.

Two random views of an image should be close to each other and far from those of
other images; the loss asks for each view which of the 2B - 1 others belongs to
it. In a long tail that is a loss of the head: a batch has few tail images, and
they are told apart last. Four changes fight that, and can be combined:

* a temperature that swings (TS), between grouping and telling images apart;
* a loss that counts easy images less (focal);
* a second branch that is pruned, and so forgets the tail (SDCLR);
* stronger augmentation of what is remembered badly (boosted, BCL).

With labels, SupCon pulls all images of a class together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import density_weights, memorization, models
from ltjax.models import projections
from ltjax.stage import Stage
from ltjax.stages import (
  branches,
  contrastive_settings,
  encoder,
  pretext,
  self_supervised,
)
from ltjax.state import ModelState, TrainState
from ltjax.training import step


def make(
  name: str,
  model: models.Model,
  setup: pretext.Setup,
  *,
  views: Callable[..., tuple[jax.Array, jax.Array]],
  **settings: Any,
) -> Stage:
  """Returns the stage that trains `f` to tell images apart.

  It leaves `f` and the projection, of the dense branch where there are two. Its
  rows have the loss, log(2B - 1) where nothing can be told; `accuracy`, how
  often a view's nearest is the other view of its image; `temperature` where it
  changes; and `strength_correlation` where images are boosted, of an image's
  strength with 1 / count of its class, where labels are known: above 0, the
  tail is augmented most.

  Args:
    name: the stage's name.
    model: the network.
    setup: the images, and how to train on them.
    views: `(key, uint8 [B, H, W, C]) -> two float [B, S, S, C]`; with
      `boost_decay` its third argument is the strength `[B]`, in [0, 1].
    **settings: those of `contrastive_settings.Settings`.

  Raises:
    ValueError: if a setting is out of its range, the images are not square, or
      the batch is larger than the set.
  """
  chosen = contrastive_settings.Settings(**settings)
  self_supervised.check_square(chosen.name, model.image_shape)
  projection_key, step_key = jax.random.split(setup.key)
  projection = projections.batch_norm_mlp(
    model.feature_dim,
    hidden=chosen.hidden or model.feature_dim,
    dim=chosen.dim,
    last_norm=True,
  )
  return pretext.make(
    name,
    task(
      encoder.make(model, projection, key=projection_key),
      chosen,
      views=views,
      num_images=len(setup.images),
    ),
    setup,
    feature_dim=model.feature_dim,
    key=step_key,
  )


def task(
  network: encoder.Encoder,
  settings: contrastive_settings.Settings,
  *,
  views: Callable[..., tuple[jax.Array, jax.Array]],
  num_images: int,
) -> step.Algorithm:
  """Returns the pretext task of telling images apart.

  Its params, statistics and extra are those of `branches`; where images are
  boosted, extra also holds `losses` and `strengths`, float32 `[N]`. Strengths
  change at the start of an epoch, and are 0 in the first, before any loss.

  Args:
    network: `f` and a projection.
    settings: the loss and the branches.
    views: see `make`.
    num_images: N.
  """
  boosted = settings.boost_decay is not None
  scheduled = settings.temperature_schedule != "constant"
  if settings.prune is None:
    both = branches.one(network)
  else:
    both = branches.dense_and_pruned(network, fraction=settings.prune)

  def init(state: ModelState) -> tuple[dict[str, Any], Any, Any]:
    params, stats, extra = both.init(state)
    if boosted:
      extra = extra | {
        "losses": memorization.start(num_images),
        "strengths": jnp.zeros(num_images),
      }
    return params, stats, extra

  def refresh(state: TrainState, batch: step.Batch) -> Any:
    extra = both.refresh(state, batch)
    if not boosted:
      return extra
    held = state.extra
    strengths = jax.lax.cond(
      batch.fresh,
      lambda: memorization.strengths(held["losses"]),
      lambda: held["strengths"],
    )
    return extra | {"losses": held["losses"], "strengths": strengths}

  def loss(
    params: Any, state: TrainState, batch: step.Batch
  ) -> tuple[jax.Array, step.Outcome]:
    extra, metrics = state.extra, {}
    if boosted:
      strength = extra["strengths"][batch.index]
      metrics["strength_correlation"] = density_weights.correlation(
        strength,
        1.0 / jnp.maximum(batch.arrays["counts"][batch.labels], 1.0),
        batch.labels >= 0,
      )
      pair = views(batch.key, batch.images, strength)
    else:
      pair = views(batch.key, batch.images)
    seen = both.apply(
      params, state.batch_stats, extra, pair, batch.arrays["head"]
    )
    first, second = projections.unit(seen.first), projections.unit(seen.second)
    metrics["accuracy"] = _accuracy(first, second)
    temperature = settings.temperature_of(batch.epoch)
    if scheduled:
      metrics["temperature"] = temperature
    losses = settings.losses(
      first, second, batch.labels, temperature=temperature
    )
    if settings.boost_decay is not None:
      memory = memorization.update(
        extra["losses"],
        losses,
        batch.index,
        decay=settings.boost_decay,
        first=batch.epoch == 0,
      )
      extra = extra | {"losses": memory}
    outcome = step.Outcome(
      seen.stats, metrics, found=extra, features=seen.features
    )
    return jnp.mean(losses), outcome

  def keep(state: ModelState, trained: TrainState) -> ModelState:
    params, stats = both.kept(trained.params, trained.batch_stats)
    return encoder.left(state, params, stats)

  def shapes(state: ModelState) -> ModelState:
    params, stats, _ = jax.eval_shape(init, state)
    return encoder.left(state, *both.kept(params, stats))

  return step.Algorithm(
    init=init,
    loss=loss,
    keep=keep,
    refresh=refresh,
    follow=lambda params, state, batch, outcome: outcome.found,
    metrics=(
      "accuracy",
      *(("temperature",) if scheduled else ()),
      *(("strength_correlation",) if boosted else ()),
    ),
    shapes=shapes,
  )


def _accuracy(first: jax.Array, second: jax.Array) -> jax.Array:
  """Returns how often a view's nearest is the other of its image, `[]`."""
  units = jax.lax.stop_gradient(jnp.concatenate([first, second]))
  size = len(units)
  cosines = jnp.where(jnp.eye(size, dtype=bool), -jnp.inf, units @ units.T)
  other = (jnp.arange(size) + size // 2) % size
  return jnp.mean(jnp.argmax(cosines, axis=-1) == other)
