"""Image weights of a batch, and what the log says of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ltjax import density_weights
from ltjax.stages.student_settings import Settings

METRICS = ("effective_sample_size", "weight_correlation")


def of(
  settings: Settings, embeddings: jax.Array, prototypes: jax.Array
) -> jax.Array:
  """Returns the weight of each image of a batch, of mean 1.

  Args:
    settings: what a score is, and how weights are made of scores.
    embeddings: `[B, D]`.
    prototypes: `[K, D]`.

  Returns:
    fp32 `[B]`, without a gradient.

  Source: Lin et al. (2023), "Frequency-aware self-supervised long-tailed
    learning" (FASSL), Equation 3 and Section 4.2.
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
