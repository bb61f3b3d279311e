"""DASO: guesses of the classifier blended with those of class prototypes.

The mean feature of each class, of a queue that holds as many for each, gives a
guess that is less biased than the classifier's,
`q_sem = softmax(cos(f, c) / T)`. With `m` the guesses' class distribution,

    q = (1 - v_k) q_lin + v_k q_sem,   k = argmax q_lin,
    v_k = m_k^(1 / T_d) / max_j m_j^(1 / T_d),

so that common guesses lean on prototypes; and views agree in them,
`L = L_FixMatch(q) + weight mean H(q_sem of w, q_sem of s)`.

Source: Oh et al. (2022), "DASO: distribution-aware semantics-oriented
pseudo-label for imbalanced semi-supervised learning", Equations 3 to 7.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.methods import (
  fixmatch,
  registry,
)
from ltjax.methods.learner import Learner
from ltjax.models import projections
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings import fields
from ltjax.settings.fields import setting


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `daso`."""

  begin: float = setting(
    0.02, "share of the steps before guesses are blended", least=0, most=1
  )
  temperature: float = setting(0.05, "T of the prototypes", above=0)
  blend: float = setting(1.5, "T_d, of the guesses' distribution", above=0)
  queue: int = setting(256, "features of each class", least=1)
  weight: float = setting(1.0, "of the agreement of prototypes", least=0)
  momentum: float = setting(
    0.999, "of the guesses' distribution", least=0, below=1
  )


DASO = registry.Block("daso", Settings)


def enqueue(queue: dict, features: jax.Array, labels: jax.Array) -> dict:
  """Puts features into the queues of their classes, the oldest out.

  Args:
    queue: `features [C, Q, D]` and `count [C]` int32, features put so far.
    features: `[B, D]`.
    labels: int32 `[B]`.
  """
  size, classes = queue["features"].shape[1], queue["count"].shape[0]
  same = labels[:, None] == labels[None, :]
  earlier = jnp.sum(jnp.tril(same, -1), 1)
  slots = (queue["count"][labels] + earlier) % size
  return {
    "features": queue["features"].at[labels, slots].set(features),
    "count": queue["count"] + jnp.bincount(labels, length=classes),
  }


def prototypes(queue: dict) -> jax.Array:
  """Returns the mean of each queue, `[C, D]`; zeros where it is empty."""
  size = queue["features"].shape[1]
  filled = jnp.minimum(queue["count"], size)
  total = jnp.sum(queue["features"], 1)  # what is not filled is zero
  return total / jnp.maximum(filled, 1)[:, None].astype(jnp.float32)


def make(learner: Learner, config: Any) -> views.Plugin:
  """Returns the plug-in.

  Args:
    learner: the network and the task.
    config: uses the blocks `daso`, `fixmatch` and `loss`.
  """
  settings = fields.of(Settings, config.daso)
  model, classes = learner.model, learner.task.num_classes

  def similar(features, carried):
    """Returns log q_sem, `[..., C]`."""
    units = projections.unit(prototypes(carried["queue"]))
    cosines = projections.unit(features) @ units.T
    return jax.nn.log_softmax(cosines / settings.temperature)

  def begun(seen):
    return seen.batch.progress >= settings.begin

  def guess(seen: views.Seen, carried, logits):
    linear = jax.nn.softmax(logits)
    semantic = jnp.exp(similar(seen.features.weak, carried))
    power = carried["share"] ** (1.0 / settings.blend)
    v = (power / jnp.max(power))[jnp.argmax(linear, -1)][:, None]
    mixed = jnp.where(begun(seen), (1 - v) * linear + v * semantic, linear)
    shown = jnp.mean(views.hard(mixed), 0)
    share = carried["share"] * settings.momentum
    average = seen.state.extra
    features, _, _ = model.apply(
      {n: average["average"][n] for n in ("backbone", "head")},
      average["batch_stats"],
      seen.images.labeled[0],
      False,
    )
    return jnp.log(mixed + 1e-12), {
      "share": share + (1.0 - settings.momentum) * shown,
      "queue": enqueue(carried["queue"], features, seen.labels),
    }

  def init(state):
    del state
    shape = (classes, settings.queue, model.feature_dim)
    return {
      "share": jnp.full(classes, 1.0 / classes, jnp.float32),
      "queue": {
        "features": jnp.zeros(shape, jnp.float32),
        "count": jnp.zeros(classes, jnp.int32),
      },
    }

  base = fixmatch.make(learner, config, fixmatch.Refinement(guess, init))

  def loss(seen: views.Seen):
    total, metrics, carried = base.loss(seen)
    before = seen.carried["refinement"]
    target = jax.lax.stop_gradient(jnp.exp(similar(seen.features.weak, before)))
    log_q = similar(seen.features.strong, before)
    agreement = jnp.mean(-jnp.sum(target[None] * log_q, -1))
    agreement = jnp.where(begun(seen), agreement, 0.0)
    metrics = metrics | {"prototypes": agreement}
    return total + settings.weight * agreement, metrics, carried

  return dataclasses.replace(
    base, loss=loss, metrics=(*base.metrics, "prototypes")
  )


METHOD = fixmatch.extended("daso", "DASO", DASO, make, paper="Oh et al. (2022)")
