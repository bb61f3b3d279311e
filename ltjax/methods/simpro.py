"""SimPro: the pool's class distribution, estimated while learning from it.

With the distributions `pi` of all that is learned from and `rho` of the pool,

    q   = softmax(z_w + tau log rho),   counts if max q >= threshold,
    L_x = mean H(y, z_x + tau log pi) / R,
    L_u = mean_{counts} H(q, softmax(z_s + tau log pi)),

so that z itself is of no distribution, and is tested as it is. Labeled images
are seen weakly and strongly; R is how many passes over the labels a pass over
the pool takes. Every few steps both distributions move towards the labels and
the guesses of these steps, the guesses softly.

Source: Du et al. (2024), "SimPro", Algorithm 1; settings of the authors' code.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.losses import adjustment, classification
from ltjax.methods import blocks, registry, weak_strong
from ltjax.methods.learner import Learner
from ltjax.optim import ema
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings import fields
from ltjax.settings.fields import setting


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `simpro`; the defaults are those of CIFAR-10."""

  tau: float = setting(2.0, "strength of the distributions", least=0)
  threshold: float = setting(0.95, "of a guess", least=0, most=1)
  every: int = setting(500, "steps between two estimates", least=1)
  momentum: float = setting(
    0.9, "what an estimate keeps of the one before", least=0, below=1
  )
  # A class that no guess is sure of for long would never come back.
  smoothing: float = setting(
    1.0, "images added to each class of an estimate", least=0, author_code=0.0
  )
  leak: bool = setting(
    False, "divide by one image more, as published", author_code=True
  )


SIMPRO = registry.Block("simpro", Settings)


def share(counts: jax.Array, settings: Settings) -> jax.Array:
  """Returns the distribution of counts, fp32 `[C]`, of sum 1 but for the leak.

  Args:
    counts: of images or of soft guesses, `[C]`, 0 or more.
    settings: smoothing and leak.
  """
  counts = counts + settings.smoothing
  total = jnp.sum(counts) + (1.0 if settings.leak else 0.0)
  return counts / jnp.maximum(total, 1e-12)


def make(learner: Learner, config: Any) -> views.Plugin:
  """Returns the plug-in.

  Args:
    learner: the network and the task.
    config: uses the blocks `simpro` and, for R, `weak_strong`.
  """
  settings = fields.of(Settings, config.simpro)
  task, block = learner.task, config.weak_strong
  pool = len(task.images) - task.num_labeled
  passes = (pool // (block.batch_size * block.unlabeled_ratio)) / max(
    task.num_labeled // block.batch_size, 1
  )

  def init(state):
    del state
    labeled = jnp.asarray(task.split.labeled_counts, jnp.float32)
    zero = jnp.zeros(task.num_classes, jnp.float32)
    even = zero + 1.0 / task.num_classes
    return {
      "all": adjustment.prior(labeled),
      "pool": even,
      "labeled": zero,
      "guessed": zero,
    }

  def loss(seen: views.Seen):
    now = seen.carried
    log_all, log_pool = (
      settings.tau * jnp.log(now[name] + 1e-12) for name in ("all", "pool")
    )
    q = jax.nn.softmax(jax.lax.stop_gradient(seen.logits.weak) + log_pool[None])
    counts = (jnp.max(q, -1) >= settings.threshold).astype(jnp.float32)
    supervised = jnp.mean(
      jax.vmap(classification.cross_entropy, (0, None))(
        seen.logits.labeled + log_all[None, None], seen.labels
      )
    )
    consistency = views.agreement(
      seen.logits.strong + log_all[None, None], q, counts
    )
    labels = jnp.bincount(seen.labels, length=task.num_classes)
    labeled = now["labeled"] + labels.astype(jnp.float32)
    guessed = now["guessed"] + jnp.sum(counts[:, None] * q, 0)
    due = (seen.state.step + 1) % settings.every == 0
    decay = jnp.where(due, settings.momentum, 1.0)
    moved = ema.update(
      {"all": now["all"], "pool": now["pool"]},
      {
        "all": (labeled + guessed) / jnp.maximum(jnp.sum(labeled + guessed), 1),
        "pool": share(guessed, settings),
      },
      decay=decay,
    )
    left = jnp.where(due, 0.0, 1.0)
    metrics = views.measured(supervised, consistency, counts)
    found = moved | {"labeled": left * labeled, "guessed": left * guessed}
    return supervised / max(passes, 1e-6) + consistency, metrics, found

  return views.Plugin(loss, init=init, labeled_views=2)


METHOD = weak_strong.method(
  "simpro",
  title="SimPro",
  paper="Du et al. (2024)",
  make=make,
  blocks={SIMPRO: {}, blocks.SAMPLER: {}},
  rows={"simpro": weak_strong.row("simpro", strong_views=2)},
)
