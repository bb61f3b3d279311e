"""What a classifier stage reads: features of frozen or of drifting statistics.

The features of a frozen `f` are computed only once: of `views` augmented views
of each image (an own crop and flip each) as rows `[views * N, D]`, view by
view; with `views=0` of the plain test transform, one row an image. If BatchNorm
is to update its running statistics, nothing can be cached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import models
from ltjax.data.host import host_images
from ltjax.training import inference, sampling
from ltjax.training.state import ModelState, TrainState

# `(train_state, index [B], arrays) -> (features [B, D], batch_stats)`.
Features = Callable[[TrainState, jax.Array, Any], tuple[jax.Array, Any]]


def cached(
  predictor: inference.Predictor,
  state: ModelState,
  images: jax.Array | host_images.HostImages,
  *,
  views: int,
  key: jax.Array,
) -> jax.Array:
  """Returns the features of all views of all images, view by view.

  Args:
    predictor: runs the network in evaluation mode.
    state: the network's parameters and statistics.
    images: uint8 `[N, H, W, C]`.
    views: augmented views per image; 0 for the plain image.
    key: view `v` is augmented with `fold_in(key, v)`.

  Returns:
    float32 `[max(views, 1) * N, D]`; row `v * N + i` is view `v` of image `i`.
  """
  if views == 0:
    return predictor.features(state, images)
  return jnp.concatenate(
    [
      predictor.features(state, images, key=jax.random.fold_in(key, view))
      for view in range(views)
    ]
  )


def rows(
  images: sampling.Stream,
  *,
  num_images: int,
  views: int,
  seed: int,
  stage: str,
) -> sampling.Stream:
  """Draws a view for each image drawn: a stream of rows of the cache.

  Args:
    images: a stream of indices below `num_images`.
    num_images, views: N, and views of each image in the cache; 0 counts as 1.
    seed, stage: the run's seed, and the stage's name.
  """

  def epoch_rows(epoch: int) -> np.ndarray:
    index = images(epoch)
    rng = sampling.generator(seed, stage + "/views", epoch)
    view = rng.integers(max(views, 1), size=index.shape, dtype=np.int32)
    return view * num_images + index

  return epoch_rows


def from_cache(state: TrainState, index: jax.Array, arrays: Any) -> Any:
  """Returns rows of the cache; the statistics stay as they are.

  Args:
    state: gives the statistics.
    index: int32 `[B]`, rows.
    arrays: holds `features`, as `cached` makes them.
  """
  return arrays["features"][index], state.batch_stats


def in_training_mode(
  model: models.Model, transform: Callable[[jax.Array, jax.Array], jax.Array]
) -> Features:
  """Returns what runs the network, its parameters frozen, in each step.

  Features are normalised by the statistics of the batch, and the running ones
  follow: on class-balanced batches they drift towards a balanced world.

  Returns:
    `(train_state, index [B], arrays) -> (features [B, D], batch_stats)`, where
    arrays holds `images` uint8 `[N, H, W, C]` and the `backbone`'s and any
    `head`'s parameters.

  Source: the code of Kang et al. (2020), which freezes parameters only.
  """

  def run(state: TrainState, index: jax.Array, arrays: Any) -> Any:
    key = jax.random.fold_in(state.key, state.step)
    images = transform(key, arrays["images"][index])
    params = {"backbone": arrays["backbone"], "head": arrays["head"]}
    features, _, batch_stats = model.apply(
      params, state.batch_stats, images, True
    )
    return features, batch_stats

  return run
