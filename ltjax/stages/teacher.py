"""The teacher: a slow moving average of the student, which gets no gradient.

How its BatchNorm runs is a choice. With `batch` it normalises by the images it
is shown, as the code of BYOL does, and no running statistics are kept. With
`ema` it runs in evaluation mode, with an average of the student's running
statistics, so that what it says of an image depends on that image alone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ltjax import ema as averages
from ltjax.stages import encoder
from ltjax.stages.student_settings import Settings

PyTree = Any


def start(settings: Settings, params: PyTree, stats: PyTree) -> dict[str, Any]:
  """Returns the teacher's arrays: a copy of the student's.

  The code of BYOL draws the teacher anew. After some 1 / (1 - ema) steps little
  is left of its start.

  Args:
    settings: tell how its BatchNorm runs.
    params: of the student's encoder.
    stats: of the student's encoder.

  Returns:
    `teacher`, and with `teacher_batch_norm="ema"` also `teacher_stats`.
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
    params: of the student, after its step; those of no teacher are left out.
    stats: of the student, likewise.
    step: `[]` integer, steps done before this one.
    total_steps: of the stage, when a tau that rises is 1.

  Source: Lin et al. (2023), "Frequency-aware self-supervised long-tailed
    learning" (FASSL), Equation 4; Grill et al. (2020), Section 3.3, for the
    schedule.
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
