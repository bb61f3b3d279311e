"""CDMAD: what a network says of an image of nothing is its bias.

    q   = softmax(z_w - z(I)), after the first share of the steps,
    L   = mean H(y, z_x) + mean H(q, softmax(z_s)),   tested by z - z(I),

where I is an image without content. Targets are soft, and all of them count
unless a threshold is set. As `z(I)` holds the bias of the last layer, whatever
that is leaves predictions as they are.

Source: Lee & Kim (2024), "CDMAD: class-distribution-mismatch-aware debiasing
for class-imbalanced semi-supervised learning", Equations 3 to 6.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.losses import classification
from ltjax.methods import blocks, registry, weak_strong
from ltjax.methods.learner import Learner
from ltjax.models import rescaling
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings import fields
from ltjax.settings.fields import setting

# What the image is: of a brightness, or ones after normalisation.
IMAGES = {"white": 1.0, "grey": 0.5, "black": 0.0, "ones": None}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `cdmad`."""

  threshold: float = setting(0.0, "of a guess", least=0, most=1)
  begin: float = setting(
    0.2, "share of the steps before guesses are corrected", least=0, most=1
  )
  image: str = setting(
    "white",
    "without content; ones are after normalisation",
    choices=tuple(IMAGES),
    author_code="ones",
  )
  # The published code also moves the running statistics by the image's.
  statistics: str = setting(
    "running",
    "of BatchNorm, for the image in training: running, or its own",
    choices=("running", "own"),
    author_code="own",
  )


CDMAD = registry.Block("cdmad", Settings)


def make(learner: Learner, config: Any) -> views.Plugin:
  """Returns the plug-in.

  Args:
    learner: the network and the task.
    config: uses the block `cdmad`.
  """
  settings = fields.of(Settings, config.cdmad)
  model, task = learner.model, learner.task
  value = np.ones(len(task.mean), np.float32)
  if settings.image != "ones":
    brightness = IMAGES[settings.image]
    value = (brightness - np.asarray(task.mean)) / np.asarray(task.std)
  nothing = np.broadcast_to(value, (1, *model.image_shape))

  def bias(params, batch_stats, own: bool = False) -> jax.Array:
    """Returns `z(I)`, `[C]`; by the image's own statistics, or the running."""
    image = jnp.asarray(nothing, learner.dtype)
    return model.apply(params, batch_stats, image, own)[1][0]

  def loss(seen: views.Seen):
    own = settings.statistics == "own"
    known = {name: seen.params[name] for name in ("backbone", "head")}
    corrected = jnp.where(
      seen.batch.progress >= settings.begin,
      bias(known, seen.state.batch_stats, own),
      0.0,
    )
    weak = seen.logits.weak - corrected[None]
    q = jax.lax.stop_gradient(jax.nn.softmax(weak))
    counts = (jnp.max(q, -1) >= settings.threshold).astype(jnp.float32)
    supervised = jnp.mean(
      classification.cross_entropy(seen.logits.labeled[0], seen.labels)
    )
    consistency = views.agreement(seen.logits.strong, q, counts)
    metrics = views.measured(supervised, consistency, counts)
    return supervised + consistency, metrics, seen.carried

  def test(params, batch_stats, carried):
    del carried
    return rescaling.shift(params["head"], -bias(params, batch_stats))

  return views.Plugin(loss, test=test)


METHOD = weak_strong.method(
  "cdmad",
  title="CDMAD",
  paper="Lee & Kim (2024)",
  make=make,
  blocks={CDMAD: {}, blocks.SAMPLER: {}},
  rows={"cdmad": weak_strong.row("cdmad", strong_views=2)},
)
