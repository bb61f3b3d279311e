"""The teacher: a slow moving average of the student, which gets no gradient.

With `batch` its BatchNorm normalises by the images it is shown, as the code of
BYOL does. With `ema` it runs in evaluation mode, with an average of the
student's running statistics, so that what it says depends on the image alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.losses import density_weights
from ltjax.optim import ema as averages
from ltjax.self_supervised import encoder
from ltjax.settings.fields import setting

PyTree = Any

SCORES = ("paper", "energy", "uniform")
_FASSL = {"pretrain.name": ("fassl",)}
_WEIGHTED = {**_FASSL, "score": ("paper", "energy")}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a student and its teacher can be told: the block `student`.

  Source: Lin et al. (2023), "Frequency-aware self-supervised long-tailed
    learning" (FASSL), Section 3.2.2; Grill et al. (2020), "Bootstrap your own
    latent" (BYOL).
  """

  hidden: int = setting(512, "of the student's predictor", least=1, size=True)
  # At 1 it is frozen; at 0 it is the student, and the embedding collapses.
  ema: float = setting(
    0.99, "what the teacher keeps of itself in a step", least=0, most=1
  )
  ema_schedule: str = setting(
    "constant", "cosine: up to 1 at the end", choices=("constant", "cosine")
  )
  teacher_batch_norm: str = setting(
    "batch",
    "its own batch, or in evaluation mode an ema of the student's statistics",
    choices=("batch", "ema"),
  )
  score: str = setting(
    "paper",
    "how common an image is, see `losses.density_weights`; uniform: all alike",
    choices=SCORES,
    when=_FASSL,
  )
  standardize: bool = setting(
    True,
    "scores in a batch, and clip them; False: weights exp(-s) over their mean",
    when=_WEIGHTED,
  )
  clip: float = setting(
    3.0,
    "standard deviations at which scores are cut off",
    above=0,
    when={**_WEIGHTED, "standardize": (True,)},
  )
  weight_temperature: float = setting(
    1.0, "the higher, the more equal the weights", above=0, when=_WEIGHTED
  )
  normalize_prototypes: bool = setting(
    True, "scores are of embeddings and prototypes of length 1", when=_WEIGHTED
  )
  score_from: str = setting(
    "teacher",
    "as it moves; frozen: the network of the first stage, in another pass",
    choices=("teacher", "frozen"),
    when=_WEIGHTED,
  )

  @property
  def weighted(self) -> bool:
    """Whether images count differently, so that prototypes are needed."""
    return self.score != "uniform"


def start(settings: Settings, params: PyTree, stats: PyTree) -> dict[str, Any]:
  """Returns the teacher's arrays: a copy of the student's.

  They are `teacher`, and with `teacher_batch_norm="ema"` also `teacher_stats`.
  The code of BYOL draws the teacher anew; little is left of its start after
  some `1 / (1 - ema)` steps.

  Args:
    settings: tell how its BatchNorm runs.
    params, stats: of the student's encoder.
  """
  if settings.teacher_batch_norm == "batch":
    return {"teacher": params}
  return {"teacher": params, "teacher_stats": stats}


def embed(
  settings: Settings,
  network: encoder.Encoder,
  held: dict[str, Any],
  stats: PyTree,
  images: jax.Array,
  head: PyTree,
) -> jax.Array:
  """Returns the teacher's embeddings of images, fp32 `[B, D]`.

  Args:
    settings: tell how its BatchNorm runs.
    network: `f` and a projection.
    held: what `start` or `follow` gave.
    stats: any statistics of the network, for `batch`, which does not use them.
    images: float `[B, H, W, C]`.
    head: any parameters of the classifier.
  """
  stats = held.get("teacher_stats", stats)
  train = settings.teacher_batch_norm == "batch"
  return network.apply(held["teacher"], stats, images, head, train)[1]


def follow(
  settings: Settings,
  held: dict[str, Any],
  params: PyTree,
  stats: PyTree,
  *,
  step: jax.Array,
  total_steps: int,
) -> dict[str, Any]:
  """Moves the teacher a step: `t <- tau t + (1 - tau) s`.

  Args:
    settings: tau and its schedule.
    held: what `start` or `follow` gave; other entries stay as they are.
    params, stats: of the student, after its step.
    step: `[]` integer, steps done before this one.
    total_steps: of the stage, when a tau that rises is 1.

  Source: Lin et al. (2023), Equation 4; Grill et al. (2020), Section 3.3.
  """
  decay = jnp.float32(settings.ema)
  if settings.ema_schedule == "cosine":
    decay = averages.cosine_decay(step, start=settings.ema, total=total_steps)
  moved = dict(held)
  for name, new in (("teacher", params), ("teacher_stats", stats)):
    if name in held:
      parts = {part: new[part] for part in held[name]}
      moved[name] = averages.update(held[name], parts, decay=decay)
  return moved


METRICS = ("effective_sample_size", "weight_correlation")


def of(
  settings: Settings, embeddings: jax.Array, prototypes: jax.Array
) -> jax.Array:
  """Returns the weight of each image of a batch, fp32 `[B]`, of mean 1.

  No gradient flows through it.

  Args:
    settings: what a score is, and how weights are made of scores.
    embeddings: `[B, D]`.
    prototypes: `[K, D]`.

  Source: Lin et al. (2023), Equation 3 and Section 4.2.
  """
  scores = density_weights.scores(
    embeddings,
    prototypes,
    score=settings.score,
    normalize=settings.normalize_prototypes,
  )
  return density_weights.weights(
    scores,
    clip=settings.clip,
    temperature=settings.weight_temperature,
    standardize=settings.standardize,
  )


def watch(
  weights: jax.Array, labels: jax.Array, counts: jax.Array
) -> dict[str, jax.Array]:
  """Returns what the log has on weights, a mean over several sets of them.

  Args:
    weights: `[V, B]`, as of each view.
    labels: int32 `[B]`, -1 where unknown.
    counts: float32 `[C]`, images of each class.

  Returns:
    Scalars: `effective_sample_size`, a share of the batch, 1 for equal weights;
    and `weight_correlation`, with 1 / count of the image's class among those
    with a label: above 0 where rare classes weigh more, 0 for equal weights.
  """
  rarity = 1.0 / jnp.maximum(counts[jnp.maximum(labels, 0)], 1.0)
  sizes = jax.vmap(density_weights.effective_sample_size)(weights)
  correlations = jax.vmap(density_weights.correlation, (0, None, None))(
    weights, rarity, labels >= 0
  )
  return {
    "effective_sample_size": jnp.mean(sizes) / len(labels),
    "weight_correlation": jnp.mean(correlations),
  }
