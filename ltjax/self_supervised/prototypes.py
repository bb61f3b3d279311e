"""Frequency-aware prototypes: the first stage of FASSL, without labels.

Images are compared by their similarities to K learned prototypes, `h = P z`:
SimCLR with one more linear layer, whose rows are the prototypes. Most of them
come to lie where classes are frequent, so that how similar an image is to them
tells how common its like is.

The loss sees P only through cosines of `P z`, which are the same for P, for -P,
for any rotation O P and for 3 P. The sum of an image's similarities, which the
paper's second stage reads, is not. See `ltjax.losses.density_weights` for a
measure that is.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import models
from ltjax.losses import contrastive
from ltjax.models import heads, projections
from ltjax.self_supervised import encoder, pretext
from ltjax.settings.fields import setting
from ltjax.training import step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

Views = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the first stage of FASSL can be told: of the block `prototypes`.

  Source: Lin et al. (2023), "Frequency-aware self-supervised long-tailed
    learning" (FASSL), Section 4.2.
  """

  # It has nothing to do with the number of classes.
  count: int = setting(128, "K", least=1, size=True)
  temperature: float = setting(0.2, "of the contrastive loss", above=0)
  # As PyTorch's linear layer, which is the paper's; or the directions of a view
  # of each, as the network sees it (in evaluation mode) before it is trained.
  init: str = setting(
    "random", "or of K training images", choices=("random", "features")
  )


def similarities(embeddings: jax.Array, prototypes: jax.Array) -> jax.Array:
  """Inner products of embeddings with all prototypes: `h = P z`, fp32 `[B, K]`.

  `embeddings` are z, `[B, D]`, `prototypes` P, `[K, D]`.

  Source: Lin et al. (2023), "Frequency-aware self-supervised long-tailed
    learning" (FASSL), Equation 1.
  """
  return jnp.matmul(
    embeddings.astype(jnp.float32),
    prototypes.astype(jnp.float32).T,
    precision=jax.lax.Precision.HIGHEST,
  )


def task(
  network: encoder.Encoder,
  draw: Callable[[Any, Any, ModelState], jax.Array],
  *,
  views: Views,
  temperature: float,
) -> step.Algorithm:
  """Returns the pretext task of the first stage of FASSL.

  Its params are those of the encoder and `prototypes [K, D]`.

  Args:
    network: `f` and a projection.
    draw: `(params, stats, model_state) -> prototypes [K, D]`, the first ones.
    views, temperature: as of `make`.

  Source: Lin et al. (2023), Equations 1 and 2. Their sum over "j" is taken as
    that of SimCLR: all other views of the batch, the positive among them.
  """

  def init(state: ModelState) -> tuple[dict[str, Any], Any, Any]:
    params, stats = network.init(state)
    return params | {"prototypes": draw(params, stats, state)}, stats, {}

  def loss(
    params: Any, state: TrainState, batch: step.Batch
  ) -> tuple[jax.Array, step.Outcome]:
    num = len(batch.index)
    features, embeddings, stats = network.apply(
      params,
      state.batch_stats,
      jnp.concatenate(views(batch.key, batch.images)),
      batch.arrays["head"],
      True,
    )
    units = projections.unit(similarities(embeddings, params["prototypes"]))
    losses = contrastive.nt_xent(
      units[:num], units[num:], temperature=temperature
    )
    return jnp.mean(losses), step.Outcome(stats, {}, features=features[:num])

  keep, shapes = encoder.ending(init, "prototypes")
  return step.Algorithm(init=init, loss=loss, keep=keep, shapes=shapes)


def make(
  name: str,
  model: models.Model,
  setup: pretext.Setup,
  *,
  settings: Settings,
  views: Views,
  dim: int = 128,
  hidden: int = 0,
) -> Stage:
  """Returns the stage that learns prototypes, and `f` with them.

  It goes on with the projection that the stage before left (SDCLR's in the
  paper), or a fresh one. It leaves `f`, projection and prototypes `[K, D]`.

  Args:
    name, model, setup: the stage's name, the network, and the images.
    settings: of the prototypes.
    views: makes two random views of each image, see `ltjax.augment.views`.
    dim: D, of the embeddings.
    hidden: width of the projection's hidden layer; 0: as wide as the features.

  Raises:
    ValueError: if the images are not square, the batch is larger than the set,
      or there are fewer images than prototypes to be made of them.

  Source: Lin et al. (2023), Section 3.2.1 and Algorithm 1.
  """
  count, num_images = settings.count, len(setup.images)
  from_images = settings.init == "features"
  if from_images and count > num_images:
    raise ValueError(
      f"{name}.count is {count} and {name}.init is 'features', but there are"
      f" only {num_images} images to make prototypes of; lower the count, or"
      f" set --config.{name}.init=random."
    )
  encoder.check_square("fassl", model.image_shape)
  projection_key, prototype_key, step_key = jax.random.split(setup.key, 3)
  encode = encoder.heir(model, hidden=hidden, dim=dim, key=projection_key)
  if from_images:
    choice_key, view_key = jax.random.split(prototype_key)
    chosen = jax.random.choice(choice_key, num_images, (count,), replace=False)
    # Read here, so that `init` below can be traced.
    few = np.asarray(setup.images[np.asarray(chosen)])

    @jax.jit
    def draw(params: Any, stats: Any, state: ModelState) -> jax.Array:
      view, _ = views(view_key, jnp.asarray(few))
      _, embeddings, _ = encode.apply(params, stats, view, state.head, False)
      return projections.unit(embeddings)
  else:

    def draw(params: Any, stats: Any, state: ModelState) -> jax.Array:
      del params, stats, state
      return heads.linear(dim, count).init(prototype_key)["kernel"].T

  return pretext.make(
    name,
    task(encode, draw, views=views, temperature=settings.temperature),
    setup,
    feature_dim=model.feature_dim,
    key=step_key,
  )
