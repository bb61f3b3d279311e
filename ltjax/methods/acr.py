"""ACR: two heads, and labels of the pool corrected as far as it is skewed.

The standard head `g'` sees labels as they are, the balanced one `g` by logits
that are adjusted, `z + tau log pi`. On the pool both learn from the standard
head's guesses: `g'` from `argmax z'_w - tau' log pi`, `g` from
`argmax z'_w - tau log pi`, where these or the head's own prediction are sure.
With K_a the mean symmetric divergence of the guesses' class distribution from
the labels' (a = 0), the uniform and the reversed one,
`tau' = tau softmax(K)_0`: the less the pool is like the labels, the larger.

Source: Wei & Gan (2023), "Towards realistic long-tailed semi-supervised
learning: consistency is all you need", Section 3; settings of the authors'
code, which notes that a class is there where the paper counts its images.
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
from ltjax.training import state as states


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `acr`."""

  tau: float = setting(2.0, "strength of the adjustment", least=0)
  threshold: float = setting(0.95, "of a guess", least=0, most=1)
  begin: float = setting(
    0.01, "share of the steps before the pool is compared", least=0, below=1
  )
  momentum: float = setting(
    0.9, "of the pool's class distribution", least=0, below=1
  )
  counting: str = setting(
    "images",
    "of a batch: images of a class, or whether there are any",
    choices=("images", "presence"),
    author_code="presence",
  )


ACR = registry.Block("acr", Settings)


def divergence(p: jax.Array, q: jax.Array) -> jax.Array:
  """Returns `(KL(p | q) + KL(q | p)) / 2`, fp32 `[...]`, of `[..., C]`."""
  return jnp.sum((p - q) * (jnp.log(p + 1e-12) - jnp.log(q + 1e-12)), -1) / 2


def make(learner: Learner, config: Any) -> views.Plugin:
  """Returns the plug-in.

  Args:
    learner: the network and the task.
    config: uses the block `acr`.
  """
  settings = fields.of(Settings, config.acr)
  task, apply = learner.task, learner.model.head_apply
  counts = jnp.asarray(task.split.labeled_counts, jnp.float32)
  pi = adjustment.prior(counts)
  even = jnp.full_like(pi, 1.0 / len(pi))
  anchors = jnp.stack([pi, even, jnp.sort(pi)[_reversed_places(pi)]])
  log_pi = jnp.log(pi)

  def init(state):
    del state
    return {
      "pool": states.copy(even),
      "distances": jnp.zeros(3),
      "strength": jnp.full((), settings.tau, jnp.float32),
    }

  def loss(seen: views.Seen):
    now, balanced = seen.carried, seen.params["balanced_head"]
    own = apply(balanced, seen.features.weak)
    plain, own = jax.lax.stop_gradient((seen.logits.weak, own))
    mild = plain - now["strength"] * log_pi[None]
    full = plain - settings.tau * log_pi[None]

    def sure(*logits):
      top = [jnp.max(jax.nn.softmax(z), -1) for z in logits]
      return (jnp.maximum(*top) >= settings.threshold).astype(jnp.float32)

    first, second = sure(mild, plain), sure(own, full)
    labeled = seen.logits.labeled[0]
    of_own = apply(balanced, seen.features.labeled[0])
    supervised = jnp.mean(
      classification.cross_entropy(labeled, seen.labels)
      + classification.cross_entropy(
        of_own + settings.tau * log_pi[None], seen.labels
      )
    )
    strong = apply(balanced, seen.features.strong)
    consistency = views.agreement(
      seen.logits.strong, views.hard(mild), first
    ) + views.agreement(strong, views.hard(full), second)
    metrics = views.measured(supervised, consistency, first)
    carried = compared(seen.batch, now, second[:, None] * views.hard(full))
    return supervised + consistency, metrics, carried

  def compared(batch, now, guesses):
    """Compares the pool with the anchors, and once an epoch draws the sum."""
    found = jnp.sum(guesses, 0)
    if settings.counting == "presence":
      found = (found > 0).astype(jnp.float32)
    total = jnp.sum(found)
    moves = (batch.progress >= settings.begin) & (total > 0)
    pool = ema.update(
      now["pool"],
      found / jnp.maximum(total, 1.0),
      decay=jnp.where(moves, settings.momentum, 1.0),
    )
    before = jnp.where(batch.fresh, 0.0, now["distances"])
    distances = before + jnp.where(moves, divergence(anchors, pool[None]), 0.0)
    known = batch.fresh & jnp.any(now["distances"] > 0)
    mean = now["distances"] / jnp.maximum(batch.steps / batch.epochs, 1.0)
    strength = settings.tau * jax.nn.softmax(mean)[0]
    return {
      "pool": pool,
      "distances": distances,
      "strength": jnp.where(known, strength, now["strength"]),
    }

  return views.Plugin(loss, init=init, **weak_strong.balanced(learner))


def _reversed_places(pi: jax.Array) -> jax.Array:
  """Returns `[C]`: where in ascending order a class is, by falling size."""
  return jnp.argsort(jnp.argsort(-pi))


METHOD = weak_strong.method(
  "acr",
  title="ACR",
  paper="Wei & Gan (2023)",
  make=make,
  blocks={ACR: {}, blocks.SAMPLER: {}},
  rows={"acr": weak_strong.row("acr", strong_views=2)},
)
