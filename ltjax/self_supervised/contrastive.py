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
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import contrastive as losses
from ltjax.losses import density_weights, memorization
from ltjax.models import projections
from ltjax.optim import schedules
from ltjax.self_supervised import branches, encoder, pretext
from ltjax.settings.fields import setting
from ltjax.training import step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

_NAMES = ("simclr", "supcon", "sdclr")
_BOOSTED = pretext.by("simclr", "sdclr")
_SWINGS = tuple(
  {**needs, "temperature_schedule": ("cosine",)}
  for needs in pretext.by(*_NAMES)
)


@dataclasses.dataclass(frozen=True)
class Settings(pretext.Settings):
  """What is compared, and how strictly: of the block `pretrain`.

  Attributes:
    kind: the choice of `pretrain.name`. With `supcon` all images of a class are
      positives, and not only the other view; images without a label have but
      that one. With `sdclr` the second view has a branch of its own, pruned.

  Raises:
    ValueError: if the temperature is to swing up to less than it falls to.

  Source: Chen et al. (2020), "A simple framework for contrastive learning of
    visual representations"; Kukleva et al. (2023), "Temperature schedules for
    self-supervised contrastive methods on long-tail data", Equation 5; Khosla
    et al. (2020), "Supervised contrastive learning"; Jiang et al. (2021),
    "Self-damaging contrastive learning"; Zhou et al. (2022), "Contrastive
    learning with boosted memorization".
  """

  kind: str = "simclr"
  # TS: from the high temperature down to the low one and back. A high one
  # groups images, a low one tells each from all others.
  temperature_schedule: str = setting(
    "constant",
    "cosine: it swings (TS)",
    choices=("constant", "cosine"),
    when=pretext.by(*_NAMES),
  )
  temperature_low: float = setting(0.1, "of cosine", above=0, when=_SWINGS)
  temperature_high: float = setting(1.0, "of cosine", above=0, when=_SWINGS)
  temperature_period: float = setting(
    400.0, "of cosine, in epochs", above=0, when=_SWINGS
  )
  focal_gamma: float = setting(
    0.0, "of the focal contrastive loss; 0: plain", least=0, when=_BOOSTED
  )
  prune: float = setting(
    0.9,
    "share of the weights that the second branch lacks",
    least=0,
    below=1,
    when=pretext.by("sdclr"),
  )
  # Boosted contrastive learning: RandAugment by what is remembered badly.
  boost_ops: int = setting(
    0, "operations on each view; 0: not boosted", least=0, when=_BOOSTED
  )
  boost_decay: float = setting(
    0.97,
    "of the memory of losses",
    least=0,
    below=1,
    when=_BOOSTED,
    size=True,
  )

  def __post_init__(self):
    if self.temperature_low > self.temperature_high:
      raise ValueError(
        f"pretrain.temperature_high is {self.temperature_high}; it must not be"
        " below pretrain.temperature_low, which is"
        f" {self.temperature_low}."
      )

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
      labels: int32 `[B]`, -1 where unknown; only `supcon` reads them.
      temperature: `[]`.
    """
    if self.kind == "supcon":
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
  settings: Settings,
  views: Callable[..., tuple[jax.Array, jax.Array]],
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
    settings: what is compared.
    views: `(key, uint8 [B, H, W, C]) -> two float [B, S, S, C]`; with
      `boost_ops` its third argument is the strength `[B]`, in [0, 1].

  Raises:
    ValueError: if the images are not square, or the batch is larger than the
      set.
  """
  encoder.check_square(settings.kind, model.image_shape)
  projection_key, step_key = jax.random.split(setup.key)
  network = encoder.fresh(
    model,
    hidden=settings.hidden,
    dim=settings.dim,
    last_norm=True,
    key=projection_key,
  )
  return pretext.make(
    name,
    task(network, settings, views=views, num_images=len(setup.images)),
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
  boosted = settings.boost_ops > 0
  scheduled = settings.temperature_schedule != "constant"
  if settings.kind == "sdclr":
    both = branches.dense_and_pruned(network, fraction=settings.prune)
  else:
    both = branches.one(network)

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
    if boosted:
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
