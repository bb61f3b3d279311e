"""Semi-supervised fine-tuning with temporal consistency: Stage 2 of SSLT.

`f` and `g'` are trained on labeled and pseudo-labeled images together. The loss
asks for the (pseudo) label, and for agreement with what `g'` said of the same
image the last time it was drawn, one epoch ago:

    L = mean over the batch of  CE(g'(f(x)), y) + weight * KL(p_prev || p).

`p_prev` is a row of the memory `[N + M, C]` on the device: read by index, then
overwritten with the prediction just made (in training mode, of the augmented
image, as the authors do). A row of zeros marks an image not drawn yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import classification, consistency
from ltjax.training import draw, step
from ltjax.training.state import ModelState, TrainState

MEMORY_RESETS = ("keep", "uniform")
SAMPLERS = ("random", "class_balanced")
DATA = ("all", "labeled")
SCHEDULE_OVER = ("loop", "run")


def algorithm(
  model: models.Model,
  *,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  weight: float = 1.0,
  memory_reset: str = "keep",
) -> step.Algorithm:
  """Returns cross-entropy with temporal consistency, over `f` and `g'`.

  Args:
    model: the network.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    weight: lambda of the paper, 0 or more; 0: cross-entropy.
    memory_reset: `keep` the memory of earlier stages, or start from `uniform`
      rows 1 / C (the authors' code; it adds a pull towards uniform predictions
      in the first epoch of each loop).

  Source: Liu et al., Equations 2 to 4.
  """

  def memory(state: ModelState) -> jax.Array:
    if memory_reset == "uniform":
      return jnp.full_like(state.memory, 1.0 / model.num_classes)
    return state.memory

  def loss(params: Any, state: TrainState, batch: step.Batch):
    images = transform(batch.key, batch.images)
    previous = state.memory[batch.index]
    _, logits, batch_stats = model.apply(
      params, state.batch_stats, images, True
    )
    entropy = jnp.mean(classification.cross_entropy(logits, batch.labels))
    drift = jnp.mean(consistency.kl_divergence(previous, logits))
    metrics = {
      "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch.labels),
      "cross_entropy": entropy,
      "consistency": drift,
    }
    probabilities = jax.lax.stop_gradient(jax.nn.softmax(logits))
    return entropy + weight * drift, step.Outcome(
      batch_stats, metrics, memory=probabilities
    )

  def keep(state: ModelState, trained: TrainState) -> ModelState:
    kept = step.keep_network(state, trained)
    return kept.replace(memory=trained.memory)  # type: ignore[attr-defined]

  return step.Algorithm(
    loss,
    ("accuracy", "cross_entropy", "consistency"),
    memory=memory,
    keep=keep,
    layer_decay=model.layer_decay,
  )


def drawn(
  samples: draw.Samples,
  batch_size: int,
  *,
  data: str = "all",
  sampler: str = "random",
) -> step.Data:
  """Returns what Stage 2 draws.

  Args:
    samples, batch_size: the images, and B, at most as many (else ValueError).
    data: `all` images, or only the `labeled` ones (an ablation of Table 3).
    sampler: `random`, or `class_balanced` over labels and pseudo labels (an
      ablation of Table 3).

  Source: Liu et al., Section 3.4, Stage 2.
  """
  make = draw.everything if data == "all" else draw.labeled
  return make(
    samples,
    batch_size,
    field="consistency",
    sampler={**draw.RANDOM, "name": sampler},
  )


def parts(schedule_over: str, loops: int) -> int:
  """Returns over how many loops the learning rate follows one schedule.

  Each `loop` has its own, or the `run` of all has one.
  """
  return loops if schedule_over == "run" else 1
