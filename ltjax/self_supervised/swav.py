"""SwAV: pre-training by assigning views to prototypes, without labels.

K *prototypes* are directions in the space of embeddings. Each view is assigned
to them softly, and has to predict the *code* of the other view. So that not all
images get the same code, a batch has to spread over the prototypes, by
Sinkhorn's algorithm. A batch much smaller than K cannot: then embeddings of
earlier batches, in a queue, take part in the assignment, not in the loss. The
small views of the paper's multi-crop are left out.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import clustering
from ltjax.models import projections
from ltjax.self_supervised import encoder, pretext
from ltjax.settings.fields import setting
from ltjax.training import sampling, step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

_setting = functools.partial(setting, when=pretext.by("swav"))
_POWER = tuple(
  {**needs, "marginal": ("power",)} for needs in pretext.by("swav")
)


@dataclasses.dataclass(frozen=True)
class Settings(pretext.Settings):
  """What SwAV can be told: of the block `pretrain`.

  Source: Caron et al. (2020), "Unsupervised learning of visual features by
    contrasting cluster assignments"; Assran et al. (2023), "The hidden uniform
    cluster prior in self-supervised learning" (PMSN), for `power`.
  """

  # More than there are classes: 100 to 500 for CIFAR.
  prototypes: int = _setting(128, "K", least=2)
  # Where the loss stays at log K, a smaller one helps.
  epsilon: float = _setting(0.05, "of Sinkhorn's codes", above=0)
  sinkhorn_iterations: int = _setting(3, "of Sinkhorn's algorithm", least=1)
  marginal: str = _setting(
    "uniform", "power: a long tail of prototypes", choices=("uniform", "power")
  )
  marginal_exponent: float = setting(0.25, "of power", least=0, when=_POWER)
  # So that the embedding spreads first.
  freeze: float = _setting(
    0.01, "share of the steps in which prototypes do not move", least=0, below=1
  )
  code_queue: int = _setting(
    0, "earlier embeddings that codes take into account", least=0
  )
  queue_start: float = _setting(
    0.15,
    "share of the epochs before the queue is used",
    least=0,
    below=1,
    size=True,
  )

  def queue_from(self, *, batch_size: int, epochs: int, steps: int) -> int:
    """Returns the first step whose codes see the queue: started, and filled.

    No such step, or a queue that no batch divides, is a ValueError.

    Args:
      batch_size, epochs, steps: B, epochs of the stage, steps of an epoch.
    """
    if self.code_queue % batch_size:
      raise ValueError(
        f"pretrain.code_queue is {self.code_queue}; it must be a multiple of"
        f" pretrain.batch_size, {batch_size}, or 0 for no queue."
      )
    filled = self.code_queue // batch_size
    first = max(round(self.queue_start * epochs) * steps, filled)
    if self.code_queue and first >= epochs * steps:
      raise ValueError(
        f"pretrain.code_queue is {self.code_queue}, which is full after"
        f" {filled} steps, and pretrain.queue_start is {self.queue_start}; the"
        f" {epochs * steps} steps of the stage end before it is used. Lower"
        " either, or set code_queue to 0."
      )
    return first


def shares(marginal: str, num: int, exponent: float) -> jax.Array | None:
  """Returns the share of the codes that each prototype gets, fp32 `[K]`.

  `share_k = k^-exponent / sum_j j^-exponent`, k from 1; None for equal shares.

  Args:
    marginal: `uniform` or `power`.
    num: K.
    exponent: of the power law.

  Source: Assran et al. (2023), Section 4.
  """
  if marginal == "uniform":
    return None
  weights = jnp.arange(1, num + 1, dtype=jnp.float32) ** -exponent
  return weights / jnp.sum(weights)


def make(
  name: str,
  model: models.Model,
  setup: pretext.Setup,
  *,
  settings: Settings,
  views: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
) -> Stage:
  """Returns the stage that trains `f` to predict codes of other views.

  It leaves `f`, the projection and the prototypes `[K, D]`, of length 1. Its
  rows have the loss, log K where nothing can be told; `code_entropy`, of an
  image's code in nats, 0 where codes are hard; and `prototypes_used`, how many
  are the nearest to some view of a step.

  Args:
    name, model, setup: the stage's name, the network, and the images.
    settings: of SwAV.
    views: makes two random views of each image, see `ltjax.augment.views`.

  Raises:
    ValueError: if the queue is never used, the images are not square, or the
      batch is larger than the set.
  """
  encoder.check_square("swav", model.image_shape)
  recipe = setup.recipe
  steps = sampling.steps_per_epoch(
    len(setup.images), recipe.batch_size, "pretrain"
  )
  projection_key, prototype_key, step_key = jax.random.split(setup.key, 3)
  network = encoder.fresh(
    model,
    hidden=settings.hidden,
    dim=settings.dim,
    last_norm=False,
    key=projection_key,
  )
  frozen_steps = round(settings.freeze * recipe.epochs * steps)
  return pretext.make(
    name,
    task(
      network,
      settings,
      views=views,
      frozen_steps=frozen_steps,
      queue_from=settings.queue_from(
        batch_size=recipe.batch_size, epochs=recipe.epochs, steps=steps
      ),
      key=prototype_key,
    ),
    setup,
    feature_dim=model.feature_dim,
    key=step_key,
  )


def task(
  network: encoder.Encoder,
  settings: Settings,
  *,
  views: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  frozen_steps: int,
  queue_from: int,
  key: jax.Array,
) -> step.Algorithm:
  """Returns the pretext task of SwAV.

  Its params are those of the encoder and `prototypes [K, D]`; with a queue its
  extra is `{"queue": [2, Q, D]}`, of each view.

  Args:
    network: `f` and a projection.
    settings, views: as of `make`.
    frozen_steps: first steps, in which prototypes get no gradient.
    queue_from: the first step whose codes see the queue.
    key: draws the prototypes.
  """
  num, size = settings.prototypes, settings.code_queue
  marginal = shares(settings.marginal, num, settings.marginal_exponent)

  def assign(scores: jax.Array) -> jax.Array:
    """Codes of both views, `[2, B, K]`, each by itself."""
    return jnp.stack(
      [
        clustering.codes(
          of_view,
          epsilon=settings.epsilon,
          iterations=settings.sinkhorn_iterations,
          marginal=marginal,
        )
        for of_view in scores
      ]
    )

  def init(state: ModelState) -> tuple[dict[str, Any], Any, Any]:
    params, stats = network.init(state)
    directions = jax.random.normal(key, (num, network.dim), jnp.float32)
    params = params | {"prototypes": projections.unit(directions)}
    queue = {"queue": jnp.zeros((2, size, network.dim))} if size else {}
    return params, stats, queue

  def loss(
    params: Any, state: TrainState, batch: step.Batch
  ) -> tuple[jax.Array, step.Outcome]:
    num_images = len(batch.index)
    pair = jnp.concatenate(views(batch.key, batch.images))
    features, embeddings, stats = network.apply(
      params, state.batch_stats, pair, batch.arrays["head"], True
    )
    units = projections.unit(embeddings).reshape(2, num_images, -1)
    held = jax.lax.stop_gradient(params["prototypes"])
    prototypes = jnp.where(
      state.step < frozen_steps, held, params["prototypes"]
    )
    scores = _similarities(units, prototypes)
    constant = jax.lax.stop_gradient(scores)
    if size:
      earlier = state.extra["queue"]
      codes = jax.lax.cond(
        state.step >= queue_from,
        lambda: assign(
          jnp.concatenate([_similarities(earlier, held), constant], axis=1)
        )[:, -num_images:],
        lambda: assign(constant),
      )
    else:
      codes = assign(constant)
    losses = clustering.swapped_prediction(
      scores[0],
      scores[1],
      codes[0],
      codes[1],
      temperature=settings.temperature,
    )
    nearest = jnp.argmax(constant, axis=-1).reshape(-1)
    used = jnp.zeros(num).at[nearest].set(1.0)
    metrics = {
      "code_entropy": jnp.mean(jnp.sum(jax.scipy.special.entr(codes), -1)),
      "prototypes_used": jnp.sum(used),
    }
    outcome = step.Outcome(
      stats,
      metrics,
      found=jax.lax.stop_gradient(units),
      features=features[:num_images],
    )
    return jnp.mean(losses), outcome

  def constrain(params: Any, state: TrainState) -> Any:
    """Leaves prototypes of length 1, frozen ones as drawn in spite of decay."""
    prototypes = jnp.where(
      state.step < frozen_steps,
      state.params["prototypes"],
      projections.unit(params["prototypes"]),
    )
    return params | {"prototypes": prototypes}

  def follow(
    params: Any, state: TrainState, batch: step.Batch, outcome: step.Outcome
  ) -> Any:
    del params, batch
    if not size:
      return state.extra
    units, queue = outcome.found, state.extra["queue"]
    num_images = units.shape[1]
    oldest = state.step % (size // num_images) * num_images
    return {"queue": jax.lax.dynamic_update_slice(queue, units, (0, oldest, 0))}

  keep, shapes = encoder.ending(init, "prototypes")
  return step.Algorithm(
    init=init,
    loss=loss,
    keep=keep,
    constrain=constrain,
    follow=follow,
    metrics=("code_entropy", "prototypes_used"),
    shapes=shapes,
  )


def _similarities(units: jax.Array, prototypes: jax.Array) -> jax.Array:
  """Cosines `[2, B, K]` of both views with the prototypes."""
  highest = jax.lax.Precision.HIGHEST
  return jnp.matmul(units, prototypes.T, precision=highest)
