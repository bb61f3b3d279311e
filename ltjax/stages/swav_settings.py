"""Settings of SwAV, checked where a run begins.

How codes spread over the prototypes is an assumption. "uniform" gives every
prototype an equal share, which in a long tail splits the head classes among many
prototypes and forces some images of the head to those of the tail. "power" makes
the shares a power law, `k^-exponent`, as PMSN does: what is frequent may have a
frequent prototype.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

MARGINALS = ("uniform", "power")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What SwAV can be told; names and defaults are those of `config.pretrain`.

  Attributes:
    prototypes: K, 2 or more. More than there are classes: 100 to 500 for CIFAR.
    temperature: of the prediction, above 0.
    epsilon: softness of the codes, above 0. Where the loss stays at log K, a
      smaller one helps.
    iterations: of Sinkhorn's algorithm, 1 or more.
    marginal: shares of the prototypes, `uniform` or `power`.
    marginal_exponent: of `power`, 0 or more; 0 is uniform.
    freeze: share of the steps, in [0, 1), in which the prototypes stay as they
      were drawn, so that the embedding spreads first.
    code_queue: Q, earlier embeddings of each view that take part in the codes,
      a multiple of the batch size; 0 for none.
    queue_start: share of the epochs, in [0, 1), before the queue takes part.

  Source: Caron et al. (2020), "Unsupervised learning of visual features by
    contrasting cluster assignments"; Assran et al. (2023), "The hidden uniform
    cluster prior in self-supervised learning" (PMSN), for `power`.
  """

  prototypes: int = 128
  temperature: float = 0.1
  epsilon: float = 0.05
  iterations: int = 3
  marginal: str = "uniform"
  marginal_exponent: float = 0.25
  freeze: float = 0.01
  code_queue: int = 0
  queue_start: float = 0.15

  def __post_init__(self):
    if self.prototypes < 2:
      raise ValueError(
        f"pretrain.prototypes is {self.prototypes}; it must be 2 or more: with"
        " one prototype all images have the same code."
      )
    for name in ("temperature", "epsilon"):
      value = getattr(self, name)
      if not 0 < value < float("inf"):
        raise ValueError(
          f"pretrain.{name} is {value}; it must be above 0, such as 0.1."
        )
    if self.iterations < 1:
      raise ValueError(
        f"pretrain.sinkhorn_iterations is {self.iterations}; it must be 1 or"
        " more, such as 3."
      )
    if self.marginal not in MARGINALS:
      raise ValueError(
        f"pretrain.marginal is {self.marginal!r}; choose one of"
        f" {', '.join(MARGINALS)}."
      )
    if not 0 <= self.marginal_exponent < float("inf"):
      raise ValueError(
        f"pretrain.marginal_exponent is {self.marginal_exponent}; it must be 0"
        " or more, such as 0.25."
      )
    for name in ("freeze", "queue_start"):
      value = getattr(self, name)
      if not 0 <= value < 1:
        raise ValueError(
          f"pretrain.{name} is {value}; it is a share of the stage and must be"
          " in [0, 1)."
        )

  def queue_from(self, *, batch_size: int, epochs: int, steps: int) -> int:
    """Returns the first step whose codes see the queue: started, and filled.

    Args:
      batch_size: B.
      epochs: of the stage.
      steps: in an epoch.

    Raises:
      ValueError: if the queue is no multiple of the batch, or there is no such
        step.
    """
    if self.code_queue < 0 or self.code_queue % batch_size:
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
  """Returns the share of the codes that each prototype gets.

  `share_k = k^-exponent / sum_j j^-exponent`, k from 1.

  Args:
    marginal: `uniform` or `power`.
    num: K.
    exponent: of the power law.

  Returns:
    fp32 `[K]`, falling, of sum 1; None where all are equal.

  Source: Assran et al. (2023), Section 4.
  """
  if marginal == "uniform":
    return None
  weights = jnp.arange(1, num + 1, dtype=jnp.float32) ** -exponent
  return weights / jnp.sum(weights)
