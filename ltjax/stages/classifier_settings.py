"""Settings of a classifier stage, checked where a run begins."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from ltjax import class_probabilities

DATA = ("labeled", "all")
BATCH_NORM = ("frozen", "update")
# `power` is left out: its exponent is a setting of its own.
SAMPLERS = tuple(n for n in class_probabilities.NAMES if n != "power")
LOSSES = ("cross_entropy", "logit_adjustment")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a classifier stage can be told; names are those of the config's blocks.

  Attributes:
    field: the config block, for errors.
    kind: `crt` or `lws`, see `rules`.
    min_steps: steps that the stage takes at least, by more epochs than the
      recipe's where these have fewer; 0 for none.
    views: augmented views cached per image; 0 for the plain image.
    batch_norm: `frozen`, or `update`: parameters are frozen, but BatchNorm is
      in training mode and its statistics move on. Nothing can be cached then:
      each draw is augmented anew, and `views` has to be 1.
    sampler: `class_balanced`, or another of `SAMPLERS` (`random` is an ablation
      of Table 3).
    loss: `cross_entropy`; or `logit_adjustment` with tau 1, the balanced
      softmax, which does to randomly drawn images what re-sampling does.
    data: the `labeled` images, or `all` with pseudo labels (an ablation of
      Table 3).

  Source: Liu et al., Section 3.4, Stage 3; Kang et al. (2020); for the loss Ren
    et al. (2020), "Balanced meta-softmax".
  """

  field: str = "classifier"
  kind: str = "crt"
  min_steps: int = 0
  views: int = 10
  batch_norm: str = "frozen"
  sampler: str = "class_balanced"
  loss: str = "cross_entropy"
  data: str = "labeled"

  def __post_init__(self):
    for name, known in (
      ("sampler", SAMPLERS),
      ("loss", LOSSES),
      ("data", DATA),
      ("batch_norm", BATCH_NORM),
    ):
      value = getattr(self, name)
      if value not in known:
        raise ValueError(
          f"{self.field}.{name} is {value!r}; choose one of {', '.join(known)}."
        )
    for name in ("views", "min_steps"):
      value = getattr(self, name)
      if value < 0:
        raise ValueError(
          f"{self.field}.{name} is {value}; it must be 0 or more."
        )
    if self.batch_norm == "update" and self.views != 1:
      raise ValueError(
        f"{self.field}.views is {self.views}, but with {self.field}.batch_norm"
        "=update nothing is cached: each draw is a new view of the image. Set"
        f" --config.{self.field}.views=1, or --config.{self.field}.batch_norm="
        "frozen."
      )
    if self.loss == "logit_adjustment" and self.sampler != "random":
      raise ValueError(
        f"{self.field}.loss is 'logit_adjustment', which adjusts for the class"
        f" counts, but {self.field}.sampler is {self.sampler!r}, which has done"
        f" so already; set --config.{self.field}.sampler=random, or the loss to"
        " cross_entropy."
      )


def of(field: str, block: Mapping[str, Any]) -> Settings:
  """Returns the settings that a block of a config holds.

  Args:
    field: the block, `classifier` or `refit`.
    block: its fields; others than those of `Settings` are left alone.

  Raises:
    ValueError: if a setting is unknown or does not fit.
  """
  names = [entry.name for entry in dataclasses.fields(Settings)]
  return Settings(field, **{n: block[n] for n in names if n in block})
