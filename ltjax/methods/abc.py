"""ABC: an auxiliary balanced classifier on FixMatch's features.

A second head learns from labels and from its own sure guesses, of which a
random part counts: of class k with `n_k` labeled images `n_min / n_k` of the
labels, and of the guesses a part that falls from all to that over the stage,

    L = L_FixMatch + mean m(y) H(y, g(x)) + mean m(argmax q) H(q, g(s)).

It is the one that is tested. Guesses are soft.

Source: Lee et al. (2021), "ABC: auxiliary balanced classifier for
class-imbalanced semi-supervised learning", Equations 3 to 6.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.losses import classification
from ltjax.methods import (
  fixmatch,
  registry,
  weak_strong,
)
from ltjax.methods.learner import Learner
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings import fields
from ltjax.settings.fields import setting


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `abc`."""

  threshold: float = setting(0.95, "of its own guesses", least=0, most=1)


ABC = registry.Block("abc", Settings)


def make(learner: Learner, config: Any) -> views.Plugin:
  """Returns the plug-in.

  Args:
    learner: the network and the task.
    config: uses the blocks `abc`, `fixmatch` and `loss`.
  """
  settings = fields.of(Settings, config.abc)
  base, apply = fixmatch.make(learner, config), learner.model.head_apply

  def loss(seen: views.Seen):
    total, metrics, carried = base.loss(seen)
    head = seen.params["balanced_head"]
    k_labeled, k_guessed = jax.random.split(seen.key)
    counts = jnp.maximum(seen.counts, 1.0)
    kept = jnp.min(counts) / counts
    chosen = jax.random.bernoulli(k_labeled, kept[seen.labels])
    labeled = apply(head, seen.features.labeled[0])
    supervised = jnp.mean(
      chosen.astype(jnp.float32)
      * classification.cross_entropy(labeled, seen.labels)
    )
    weak = apply(head, seen.features.weak)
    q = jax.lax.stop_gradient(jax.nn.softmax(weak))
    part = 1.0 - seen.batch.progress * (1.0 - kept[jnp.argmax(q, -1)])
    sure = jnp.max(q, -1) >= settings.threshold
    of_guesses = jax.random.bernoulli(k_guessed, part) & sure
    strong = apply(head, seen.features.strong)
    consistency = views.agreement(strong, q, of_guesses.astype(jnp.float32))
    metrics = metrics | {"balanced": supervised + consistency}
    return total + supervised + consistency, metrics, carried

  return dataclasses.replace(
    base,
    loss=loss,
    metrics=(*base.metrics, "balanced"),
    **weak_strong.balanced(learner),
  )


METHOD = fixmatch.extended(
  "abc", "ABC", ABC, make, paper="Lee et al. (2021)", strong_views=2
)
