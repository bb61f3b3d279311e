"""The losses and class weights that a config can name, a row each.

Names, checks, titles and the settings without effect are read off the table.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.losses import adjustment, classification, margins, sigmoid, weights


class Given(NamedTuple):
  """What a loss may read beside logits and labels.

  Attributes:
    settings, counts: the fields of `config.loss`; `[C]`, float, images a class.
    head_scale: of the cosine head.
  """

  settings: Any
  counts: jax.Array
  head_scale: float


@dataclasses.dataclass(frozen=True)
class Loss:
  """A row of `LOSSES`.

  Attributes:
    function: `(logits [B, C], labels int [B], Given) -> losses fp32 [B]`.
    title: what papers' tables call it.
    fields: the settings that it alone, or with others, reads.
    counts: what it takes from the class counts, for errors; empty for nothing.
    head: the only head that it fits; empty for any.
  """

  function: Callable[[jax.Array, jax.Array, Given], jax.Array]
  title: str
  fields: tuple[str, ...] = ()
  counts: str = ""
  head: str = ""


@dataclasses.dataclass(frozen=True)
class Weights:
  """A row of `WEIGHTS`.

  Attributes:
    function: `(counts [C], settings) -> fp32 [C]`, of sum C.
    title: what goes before the name of a loss.
    fields: the settings that it reads.
    counts: as of `Loss`.
  """

  function: Callable[[jax.Array, Any], jax.Array]
  title: str
  fields: tuple[str, ...] = ()
  counts: str = ""


def _margin_loss(function: Callable[..., jax.Array], title: str) -> Loss:
  def losses(logits: jax.Array, labels: jax.Array, given: Given) -> jax.Array:
    chosen = margins.from_counts(given.counts, largest=given.settings.margin)
    return function(logits, labels, margins=chosen, scale=given.head_scale)

  return Loss(losses, title, ("margin",), "a margin", head="cosine")


def _pairwise(logits: jax.Array, labels: jax.Array, given: Given) -> jax.Array:
  delta = np.array(given.settings.delta, np.float64)
  return adjustment.pairwise(
    logits,
    labels,
    delta=jnp.asarray(delta / delta.sum(), jnp.float32),
    prior=adjustment.prior(given.counts),
  )


LOSSES: dict[str, Loss] = {
  "cross_entropy": Loss(
    lambda x, y, given: classification.cross_entropy(x, y), "CE"
  ),
  "focal": Loss(
    lambda x, y, given: classification.focal(x, y, gamma=given.settings.gamma),
    "Focal",
    ("gamma",),
  ),
  "sigmoid": Loss(lambda x, y, given: sigmoid.cross_entropy(x, y), "Sigmoid"),
  "sigmoid_focal": Loss(
    lambda x, y, given: sigmoid.focal_cross_entropy(
      x, y, gamma=given.settings.gamma
    ),
    "Sigmoid focal",
    ("gamma",),
  ),
  "ldam": _margin_loss(margins.ldam, "LDAM"),
  "ldam_hinge": _margin_loss(margins.ldam_hinge, "LDAM-HG"),
  "logit_adjustment": Loss(
    lambda x, y, given: adjustment.logit_adjustment(
      x, y, prior=adjustment.prior(given.counts), tau=given.settings.tau
    ),
    "Logit adjustment",
    ("tau",),
    "a prior",
  ),
  "pairwise": Loss(_pairwise, "Pairwise", ("delta",), "a prior"),
  "vs": Loss(
    lambda x, y, given: adjustment.vs(
      x,
      y,
      counts=given.counts,
      gamma=given.settings.vs_gamma,
      tau=given.settings.tau,
    ),
    "VS",
    ("tau", "vs_gamma"),
    "a prior",
  ),
}

WEIGHTS: dict[str, Weights] = {
  "none": Weights(lambda counts, settings: jnp.ones_like(counts), ""),
  "effective_number": Weights(
    lambda counts, settings: weights.effective_number(
      counts, beta=settings.beta
    ),
    "CB",
    ("beta",),
    "a weight",
  ),
  "inverse": Weights(
    lambda counts, settings: weights.inverse(counts),
    "Inverse-weighted",
    (),
    "a weight",
  ),
  "explicit": Weights(
    lambda counts, settings: weights.normalize(
      jnp.asarray(settings.class_weights, jnp.float32)
    ),
    "Weighted",
    ("class_weights",),
  ),
}


def reading(field: str) -> tuple[str, ...]:
  """Returns the names of the losses that read a field of `config.loss`."""
  return tuple(name for name, row in LOSSES.items() if field in row.fields)
