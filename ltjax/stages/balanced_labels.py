"""Pseudo labels in the numbers that the pool's own tail lets expect.

A class-balanced classifier knows the tail and calls too many images by its
names; corrected by the labeled set's tail it calls too few. Here it labels as
in a balanced world, the shares of the classes in the pool are estimated from
its probabilities (EM), and of each class as many images are kept as that, the
most certain first. The others stay without label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.training import inference
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState


def estimate_prior(
  probabilities: jax.Array | np.ndarray,
  *,
  seen: jax.Array | np.ndarray | float = 0.0,
  iterations: int = 100,
) -> jax.Array:
  """Returns the shares of the classes in a set of unlabeled images, `[C]`.

  The maximum of the likelihood, by EM from even shares; with `seen` that of the
  posterior. Without it a class of few images in thousands is soon left none.

  Args:
    probabilities: `[M, C]`, of a classifier for a world of even shares.
    seen: `[C]`, images of each class that are counted as if they were of the
      set, such as the labeled ones; 0 for none.
    iterations: of EM.

  Source: Saerens, Latinne & Decaestecker (2002), "Adjusting the outputs of a
    classifier to new a priori probabilities", Section 2.2.

  Example:
    >>> estimate_prior(jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])).round(2)
    Array([0.83, 0.17], dtype=float32)
  """
  given = jnp.asarray(probabilities, jnp.float32)
  even = jnp.full(given.shape[1], 1 / given.shape[1], jnp.float32)
  known = jnp.broadcast_to(jnp.asarray(seen, jnp.float32), even.shape)

  def step(_: int, prior: jax.Array) -> jax.Array:
    joint = given * prior[None]
    counts = jnp.sum(joint / jnp.sum(joint, 1, keepdims=True), 0) + known
    return counts / jnp.sum(counts)

  return jax.lax.fori_loop(0, iterations, step, even)


def select(
  probabilities: np.ndarray, prior: np.ndarray, *, keep: float
) -> np.ndarray:
  """Returns labels int32 `[M]` of the most certain images, else -1.

  Of each class `keep * prior * M` images are kept, and one at least, if the
  class is the most probable of so many.

  Args:
    probabilities: `[M, C]`.
    prior: `[C]`, shares of the classes.
    keep: how many of the expected images.

  Example:
    >>> p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    >>> select(p, np.array([0.5, 0.5]), keep=0.7).tolist()
    [0, -1, 1]
  """
  best = probabilities.argmax(1)
  found = np.full(len(best), -1, np.int32)
  for label, share in enumerate(prior):
    own = np.flatnonzero(best == label)
    order = np.argsort(-probabilities[own, label], kind="stable")
    count = max(int(keep * share * len(best)), 1)
    found[own[order[:count]]] = label
  return found


def make(
  name: str,
  predictor: inference.Predictor,
  *,
  images: jax.Array,
  counts: np.ndarray,
  offset: np.ndarray,
  keep: float,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> Stage:
  """Returns the stage that labels the most certain images of each class.

  Args:
    name: the stage's name.
    predictor: runs the network.
    images: of the pool; where there are several views, of one image after
      another, their probabilities are averaged.
    counts: `[C]`, labeled images of each class, which count where the pool's
      shares are estimated.
    offset: `[C]`, makes the logits of `g` those of a balanced world.
    keep: as of `select`.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if there are no unlabeled images.
  """
  if len(images) == 0:
    raise ValueError(
      "There are no unlabeled images to label. Raise data.unlabeled.factor,"
      " name a pool in data.unlabeled.source, or choose --config.method=linear,"
      " which needs none."
    )

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None
    total = np.zeros((), np.float32)
    for view in range(images.shape[1]):
      x = predictor.features(state, images[:, view : view + 1])
      logits = predictor.model.head_apply(state.balanced_head, x)
      total = total + np.asarray(jax.nn.softmax(logits + offset[None]))
    found = total / images.shape[1]
    prior = np.asarray(estimate_prior(found, seen=counts))
    labels = select(found, prior, keep=keep)
    return state.replace(  # type: ignore[attr-defined]
      pseudo_labels=jax.device_put(labels, state.pseudo_labels.sharding)
    )

  return Stage(name=name, finish=finish, report=report)
