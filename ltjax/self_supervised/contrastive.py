"""Contrastive pre-training: SimCLR, and what the long tail made of it.

The loss asks for each view of an image which of the 2B - 1 others belongs to
it. In a long tail that is a loss of the head: a batch has few tail images. Four
changes fight that, and can be combined:

* a temperature that swings (TS), between grouping and telling images apart;
* a loss that counts easy images less (focal);
* a second branch that is pruned, and so forgets the tail (SDCLR);
* stronger augmentation of what is remembered badly (boosted, BCL).

With labels, SupCon pulls all images of a class together.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import contrastive as losses
from ltjax.losses import density_weights, memorization
from ltjax.models import projections
from ltjax.optim import schedules
from ltjax.self_supervised import branches, encoder, pretext
from ltjax.training import step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is compared, and how strictly; the names are those of `pretrain`.

  Attributes:
    dim: D, of the embeddings.
    hidden: width of the projection's hidden layer; 0: as wide as the features.
    temperature: of the loss, above 0.
    temperature_schedule: `constant`; or `cosine`, with which the temperature
      starts at `temperature_high` and swings down to `temperature_low` and back
      once in `temperature_period` epochs (TS). A high one groups images, a low
      one tells each from all others. It is the same for an epoch.
    temperature_low: above 0, of `cosine`.
    temperature_high: at least `temperature_low`.
    temperature_period: epochs, above 0.
    focal_gamma: above 0, views that are found easily count less; 0: all alike.
    supervised: whether all images of a class are positives (SupCon) and not
      only the other view; images without a label have but that one.
    prune: the share of the weights that the second view's branch lacks
      (SDCLR), in [0, 1); None for one branch.
    boost_decay: what the memory of an image's loss keeps in a step, in [0, 1),
      where images are augmented by how badly they are remembered (BCL); None:
      all alike.

  Raises:
    ValueError: if a setting is out of its range; names it.

  Source: Chen et al. (2020), "A simple framework for contrastive learning of
    visual representations"; Kukleva et al. (2023), "Temperature schedules for
    self-supervised contrastive methods on long-tail data", Equation 5; Khosla
    et al. (2020), "Supervised contrastive learning"; Jiang et al. (2021),
    "Self-damaging contrastive learning"; Zhou et al. (2022), "Contrastive
    learning with boosted memorization".
  """

  dim: int = 128
  hidden: int = 0
  temperature: float = 0.2
  temperature_schedule: str = "constant"
  temperature_low: float = 0.1
  temperature_high: float = 1.0
  temperature_period: float = 400.0
  focal_gamma: float = 0.0
  supervised: bool = False
  prune: float | None = None
  boost_decay: float | None = None

  def __post_init__(self):
    if self.dim < 1:
      raise ValueError(f"pretrain.dim is {self.dim}; it must be 1 or more.")
    if self.hidden < 0:
      raise ValueError(
        f"pretrain.hidden is {self.hidden}; it must be 1 or more, or 0 for the"
        " width of the features."
      )
    if self.temperature_schedule not in SCHEDULES:
      raise ValueError(
        f"pretrain.temperature_schedule is {self.temperature_schedule!r};"
        f" choose one of {', '.join(SCHEDULES)}."
      )
    for field in ("temperature", "temperature_low", "temperature_period"):
      value = getattr(self, field)
      if not 0 < value < math.inf:
        raise ValueError(
          f"pretrain.{field} is {value}; it must be above 0 and finite."
        )
    if not self.temperature_low <= self.temperature_high < math.inf:
      raise ValueError(
        f"pretrain.temperature_high is {self.temperature_high}; it must be"
        " finite, and not below pretrain.temperature_low, which is"
        f" {self.temperature_low}."
      )
    if not 0 <= self.focal_gamma < math.inf:
      raise ValueError(
        f"pretrain.focal_gamma is {self.focal_gamma}; it must be 0 or more and"
        " finite, such as 2."
      )
    if self.supervised and self.focal_gamma:
      raise ValueError(
        f"pretrain.focal_gamma is {self.focal_gamma}, but the supervised"
        " contrastive loss has no focal form; set it to 0."
      )
    if self.prune is not None and not 0 <= self.prune < 1:
      raise ValueError(
        f"pretrain.prune is {self.prune}; it must be in [0, 1), such as 0.9."
      )
    if self.boost_decay is not None and not 0 <= self.boost_decay < 1:
      raise ValueError(
        f"pretrain.boost_decay is {self.boost_decay}; it must be in [0, 1),"
        " such as 0.97."
      )

  @property
  def name(self) -> str:
    """The choice of `pretrain.name` that this is."""
    if self.prune is not None:
      return "sdclr"
    return "supcon" if self.supervised else "simclr"

  def temperature_of(self, epoch: jax.Array) -> jax.Array:
    """Returns the temperature `[]` float32 of an epoch, `[]` from 0."""
    if self.temperature_schedule == "constant":
      return jnp.float32(self.temperature)
    return schedules.cosine_wave(
      epoch,
      low=self.temperature_low,
      high=self.temperature_high,
      period=self.temperature_period,
    )

  def losses(
    self,
    first: jax.Array,
    second: jax.Array,
    labels: jax.Array,
    *,
    temperature: jax.Array,
  ) -> jax.Array:
    """Returns the loss of each image, `[B]`, the mean over its two views.

    Args:
      first, second: `[B, D]`, of unit length.
      labels: int32 `[B]`, -1 where unknown; not read unless `supervised`.
      temperature: `[]`.
    """
    if self.supervised:
      return losses.sup_con(first, second, labels, temperature=temperature)
    if self.focal_gamma:
      return losses.focal_nt_xent(
        first, second, temperature=temperature, gamma=self.focal_gamma
      )
    return losses.nt_xent(first, second, temperature=temperature)


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
  changes; and, where images are boosted and labels known, the
  `strength_correlation` of strength with 1 / count of the class: above 0, the
  tail is augmented most.

  Args:
    name, model, setup: the stage's name, the network, and the images.
    views: `(key, uint8 [B, H, W, C]) -> two float [B, S, S, C]`; with
      `boost_decay` its third argument is the strength `[B]`, in [0, 1].
    **settings: those of `Settings`.

  Raises:
    ValueError: if a setting is out of its range, the images are not square, or
      the batch is larger than the set.
  """
  chosen = Settings(**settings)
  encoder.check_square(chosen.name, model.image_shape)
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
  settings: Settings,
  *,
  views: Callable[..., tuple[jax.Array, jax.Array]],
  num_images: int,
) -> step.Algorithm:
  """Returns the pretext task of telling images apart.

  Its params, statistics and extra are those of `branches`; where images are
  boosted, extra also holds `losses` and `strengths`, float32 `[N]`. Strengths
  change at the start of an epoch, and are 0 in the first.

  Args:
    network: `f` and a projection.
    settings, views: as of `make`.
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
