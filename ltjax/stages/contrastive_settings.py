"""Settings of contrastive pre-training: loss, temperature and branches."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from ltjax import ramps
from ltjax.losses import contrastive as losses

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
    return ramps.cosine_wave(
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
      first: `[B, D]`, of unit length.
      second: `[B, D]`, of unit length.
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
