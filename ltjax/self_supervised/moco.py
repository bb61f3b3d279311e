"""Momentum contrast (MoCo): pre-training by recognising images, without labels.

A *query* network embeds one view of an image, a *key* network another view. The
query has to be nearer to its key than to the keys of earlier batches, kept in a
queue. The key network is a slow moving average of the query network and gets no
gradient, so that keys of different ages can be compared.

BatchNorm can betray the answer where a query and its key share statistics that
the negatives do not. MoCo shuffles the batch among devices; here statistics are
those of the whole batch on all devices, and there are two ways instead:

* `ema`: the key network runs in evaluation mode, with the moving average of the
  query network's running statistics. A key depends on its image alone.
* `batch`: it normalises by its batch, as MoCo on a single device does.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import contrastive
from ltjax.models import heads, projections
from ltjax.optim import ema as averages
from ltjax.self_supervised import encoder, pretext
from ltjax.settings.fields import setting
from ltjax.training import step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

_setting = functools.partial(setting, when=pretext.by("moco"))


@dataclasses.dataclass(frozen=True)
class Settings(pretext.Settings):
  """What MoCo can be told: of the block `pretrain`.

  Source: He et al. (2020), "Momentum contrast for unsupervised visual
    representation learning"; Chen et al. (2020), "Improved baselines with
    momentum contrastive learning" (MoCo v2); Cai et al. (2021), "Exponential
    moving average normalization for self-supervised and semi-supervised
    learning".
  """

  # It starts with random directions. Some K / N of the images meet a key of
  # their own in it.
  queue: int = _setting(4096, "earlier keys, the negatives", least=1)
  ema: float = _setting(
    0.999, "what the key network keeps of itself", least=0, below=1
  )
  key_batch_norm: str = _setting(
    "batch", "of the key network", choices=("batch", "ema")
  )


def task(
  model: models.Model,
  projection: heads.Head,
  *,
  views: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  settings: Settings,
  projection_key: jax.Array,
  queue_key: jax.Array,
) -> step.Algorithm:
  """Returns the pretext task of momentum contrast.

  The key network moves first, then makes the keys; the keys enter the queue, in
  the place of the oldest, after the loss has been taken. Params are
  `{"backbone", "projection"}` of the query network; extra holds `params` and
  `batch_stats` of the key network, and `queue` float32 `[K, D]`.

  Args:
    model, settings, views: as of `make`.
    projection: from features to embeddings.
    projection_key: draws the projection.
    queue_key: draws the first queue, random directions.

  Source: He et al. (2020), Algorithm 1.
  """

  queue, dim = settings.queue, settings.dim

  def embed(params, batch_stats, images, head, train):
    network = {"backbone": params["backbone"], "head": head}
    features, _, batch_stats = model.apply(network, batch_stats, images, train)
    projected = projection.apply(params["projection"], features)
    return projections.unit(projected), features, batch_stats

  def init(state: ModelState) -> tuple[dict[str, Any], Any, Any]:
    params = {
      "backbone": state.backbone,
      "projection": projection.init(projection_key),
    }
    directions = jax.random.normal(queue_key, (queue, dim), jnp.float32)
    extra = {
      "params": params,
      "batch_stats": state.batch_stats,
      "queue": projections.unit(directions),
    }
    return params, state.batch_stats, extra

  def refresh(state: TrainState, batch: step.Batch) -> Any:
    del batch
    held = state.extra
    params = {part: state.params[part] for part in held["params"]}
    follower, follower_stats = averages.update(
      (held["params"], held["batch_stats"]),
      (params, state.batch_stats),
      decay=jnp.float32(settings.ema),
    )
    return held | {"params": follower, "batch_stats": follower_stats}

  def loss(
    params: Any, state: TrainState, batch: step.Batch
  ) -> tuple[jax.Array, step.Outcome]:
    held, head = state.extra, batch.arrays["head"]
    first, second = views(batch.key, batch.images)
    keys, *_ = embed(
      held["params"],
      held["batch_stats"],
      second,
      head,
      settings.key_batch_norm == "batch",
    )
    queries, features, batch_stats = embed(
      params, state.batch_stats, first, head, True
    )
    losses = contrastive.info_nce(
      queries, keys, held["queue"], temperature=settings.temperature
    )
    logits = contrastive.info_nce_logits(queries, keys, held["queue"])
    nearest = logits[:, 0] > jnp.max(logits[:, 1:], axis=-1)
    metrics = {"accuracy": jnp.mean(nearest)}
    outcome = step.Outcome(batch_stats, metrics, found=keys, features=features)
    return jnp.mean(losses), outcome

  def follow(
    params: Any, state: TrainState, batch: step.Batch, outcome: step.Outcome
  ) -> Any:
    del params, batch
    keys, held = outcome.found, state.extra["queue"]
    oldest = state.step % (queue // len(keys)) * len(keys)
    return state.extra | {
      "queue": jax.lax.dynamic_update_slice(held, keys, (oldest, 0))
    }

  return step.Algorithm(
    init=init,
    loss=loss,
    keep=encoder.keep_backbone,
    refresh=refresh,
    follow=follow,
    metrics=("accuracy",),
  )


def make(
  name: str,
  model: models.Model,
  setup: pretext.Setup,
  *,
  settings: Settings,
  views: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
) -> Stage:
  """Returns the stage that trains `f` to tell images apart.

  It leaves the query network's `f` behind; the projection, the key network and
  the queue are dropped.

  Args:
    name, model, setup: the stage's name, the network, and the images.
    settings: of MoCo.
    views: makes two random views of each image, see `ltjax.augment.views`.

  Raises:
    ValueError: if the queue is no multiple of the batch, the images are not
      square, or the batch is larger than the set.
  """
  encoder.check_square("moco", model.image_shape)
  queue, batch_size = settings.queue, setup.recipe.batch_size
  if queue < batch_size or queue % batch_size:
    below = max(queue // batch_size, 1) * batch_size
    raise ValueError(
      f"pretrain.queue is {queue}; it must be a multiple of"
      f" pretrain.batch_size, {batch_size}, such as {below} or"
      f" {below + batch_size}."
    )
  projection = projections.mlp(
    model.feature_dim,
    hidden=settings.hidden or model.feature_dim,
    dim=settings.dim,
  )
  projection_key, queue_key, step_key = jax.random.split(setup.key, 3)

  return pretext.make(
    name,
    task(
      model,
      projection,
      views=views,
      settings=settings,
      projection_key=projection_key,
      queue_key=queue_key,
    ),
    setup,
    feature_dim=model.feature_dim,
    key=step_key,
  )
