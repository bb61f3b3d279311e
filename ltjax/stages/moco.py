"""Momentum contrast (MoCo): pre-training by recognising images, without labels.

A *query* network embeds one view of an image, a *key* network another view. The
query has to be nearer to its key than to the keys of earlier batches, kept in a
queue: many negatives, at the price of a matrix product. The key network is a
slow moving average of the query network and gets no gradient, so that keys of
different ages can be compared. Then only the query network's `f` is kept.

BatchNorm can betray the answer: where a query and its key are normalised by the
statistics of the same images, and the negatives by those of others, the
statistics tell the positive. MoCo shuffles the batch among the devices, each
with statistics of its own. Here statistics are those of the whole batch on all
devices, and a shuffle would change nothing. There are two ways instead:

* `ema`: the key network runs in evaluation mode, with the moving average of the
  query network's running statistics. A key depends on its image alone, so there
  is nothing to betray (Cai et al., 2021).
* `batch`: it normalises by its batch, as MoCo on a single device does.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax import ema as averages
from ltjax import fit, models
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.losses import contrastive
from ltjax.models import projections
from ltjax.stages import self_supervised
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy")
KEY_BATCH_NORMS = ("batch", "ema")


def make_step(
  model: models.Model,
  optimizer: optax.GradientTransformation,
  *,
  project: Callable[[Any, jax.Array], jax.Array],
  views: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  steps_per_epoch: int,
  ema: float = 0.999,
  temperature: float = 0.2,
  key_batch_norm: str = "batch",
) -> fit.Step:
  """Returns the pure step of momentum contrast.

  The key network moves first, then makes the keys; the keys enter the queue, in
  the place of the oldest, after the loss has been taken.

  Args:
    model: the network.
    optimizer: moves `{"backbone", "projection"}` of the query network.
    project: `(params, features [B, F]) -> [B, D]`.
    views: `(key, uint8 [B, H, W, C]) -> two float [B, S, S, C]`.
    steps_per_epoch: when the epoch's metrics start anew.
    ema: what the key network keeps of itself in a step, in [0, 1].
    temperature: of the loss, above 0.
    key_batch_norm: `batch` or `ema`, see above.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    `images` uint8 `[N, H, W, C]` and `head`, the classifier's parameters, which
    stay as they are. `train_state.extra` holds the key network's `params` and
    `batch_stats`, and `queue` float32 `[K, D]`, K a multiple of B.

  Source: He et al. (2020), "Momentum contrast for unsupervised visual
    representation learning", Algorithm 1.
  """

  def embed(params, batch_stats, images, head, train):
    network = {"backbone": params["backbone"], "head": head}
    features, _, batch_stats = model.apply(network, batch_stats, images, train)
    units = projections.unit(project(params["projection"], features))
    return units, batch_stats

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    key = jax.random.fold_in(state.key, state.step)
    first, second = views(key, arrays["images"][index])
    head, queue = arrays["head"], state.extra["queue"]
    follower, follower_stats = averages.update(
      (state.extra["params"], state.extra["batch_stats"]),
      (state.params, state.batch_stats),
      decay=jnp.float32(ema),
    )
    keys, _ = embed(
      follower, follower_stats, second, head, key_batch_norm == "batch"
    )

    def loss_fn(params):
      queries, batch_stats = embed(params, state.batch_stats, first, head, True)
      losses = contrastive.info_nce(
        queries, keys, queue, temperature=temperature
      )
      return jnp.mean(losses), (queries, batch_stats)

    (loss, (queries, batch_stats)), grads = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    logits = contrastive.info_nce_logits(queries, keys, queue)
    nearest = logits[:, 0] > jnp.max(logits[:, 1:], axis=-1)
    oldest = state.step % (len(queue) // len(index)) * len(index)
    return states.advance(
      state,
      {"loss": loss, "accuracy": jnp.mean(nearest)},
      steps_per_epoch=steps_per_epoch,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
      extra={
        "params": follower,
        "batch_stats": follower_stats,
        "queue": jax.lax.dynamic_update_slice(queue, keys, (oldest, 0)),
      },
    )

  return step


def make(
  name: str,
  model: models.Model,
  *,
  images: jax.Array,
  views: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  recipe: recipes.Recipe,
  dim: int = 128,
  queue: int = 4096,
  ema: float = 0.999,
  temperature: float = 0.2,
  key_batch_norm: str = "batch",
  seed: int,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> fit.Stage:
  """Returns the stage that trains `f` to tell images apart.

  It leaves the parameters and BatchNorm statistics of the query network's `f`
  behind. The heads of the model stay as they were; the projection, the key
  network and the queue are dropped.

  Args:
    name: the stage's name.
    model: the network.
    images: uint8 `[N, H, W, C]`.
    views: makes two random views of each image, see `ltjax.augment.views`.
    recipe: epochs, batch size and SGD settings.
    dim: D, numbers in which views are compared.
    queue: K, keys to compare with, a multiple of the batch size. It starts with
      random directions. Some K / N of the images meet a key of their own in it.
    ema: what the key network keeps of itself in a step, in [0, 1).
    temperature: of the loss, above 0.
    key_batch_norm: `batch` or `ema`, see above.
    seed: the run's seed, for the index stream.
    key: the stage's random key, for the projection, the queue and the views.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if a setting is out of its range, the images are not square, or
      the batch is larger than the set.

  Source: He et al. (2020); Chen et al. (2020), "Improved baselines with
    momentum contrastive learning" (MoCo v2); Cai et al. (2021), "Exponential
    moving average normalization for self-supervised and semi-supervised
    learning".
  """
  self_supervised.check_square("moco", model.image_shape)
  _check(recipe.batch_size, dim, queue, ema, temperature)
  if key_batch_norm not in KEY_BATCH_NORMS:
    raise ValueError(
      f"pretrain.key_batch_norm is {key_batch_norm!r}; choose one of"
      f" {', '.join(KEY_BATCH_NORMS)}."
    )
  projection = projections.mlp(
    model.feature_dim, hidden=model.feature_dim, dim=dim
  )
  projection_key, queue_key, step_key = jax.random.split(key, 3)

  def init(
    state: ModelState, optimizer: optax.GradientTransformation
  ) -> TrainState:
    params = {
      "backbone": state.backbone,
      "projection": projection.init(projection_key),
    }
    directions = jax.random.normal(queue_key, (queue, dim), jnp.float32)
    follower = {"params": params, "batch_stats": state.batch_stats}
    return states.create(
      params=params,
      batch_stats=state.batch_stats,
      opt_state=optimizer.init(params),
      memory=state.memory[:0],
      key=step_key,
      metrics=METRICS,
      extra=states.copy(follower) | {"queue": projections.unit(directions)},
    )

  return self_supervised.make(
    name,
    images=images,
    recipe=recipe,
    init=init,
    make_step=functools.partial(
      make_step,
      model,
      project=projection.apply,
      views=views,
      ema=ema,
      temperature=temperature,
      key_batch_norm=key_batch_norm,
    ),
    seed=seed,
    report=report,
  )


def _check(
  batch_size: int, dim: int, queue: int, ema: float, temperature: float
) -> None:
  if batch_size < 2:
    raise ValueError(
      f"pretrain.batch_size is {batch_size}; a contrastive loss with BatchNorm"
      " needs 2 or more."
    )
  if dim < 1:
    raise ValueError(f"pretrain.dim is {dim}; it must be 1 or more.")
  if queue < batch_size or queue % batch_size:
    below = max(queue // batch_size, 1) * batch_size
    raise ValueError(
      f"pretrain.queue is {queue}; it must be a multiple of"
      f" pretrain.batch_size, {batch_size}, such as {below} or"
      f" {below + batch_size}."
    )
  if not 0 <= ema < 1:
    raise ValueError(f"pretrain.ema is {ema}; it must be in [0, 1).")
  if not temperature > 0:
    raise ValueError(
      f"pretrain.temperature is {temperature}; it must be above 0, such as 0.2."
    )
