"""Losses over growing classes and prototypes, with their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import loss_settings, objective, sinkhorn
from ltjax.benchmarks import growth
from ltjax.losses import contrastive
from ltjax.stages import prototypes as prototype_stage

BATCH = 128
MOST_CLASSES = 10_000
MOST_PROTOTYPES = 16_384


def classes(largest: int) -> Iterator[growth.Case]:
  """Yields every loss and its gradient over growing classes.

  Args:
    largest: at most so many classes.
  """
  sizes = growth.sizes(10, min(largest, MOST_CLASSES))
  for name in loss_settings.NAMES:
    yield growth.Case(
      f"loss {name}", "classes", sizes, lambda c, name=name: _loss(name, c)
    )


def prototypes(largest: int) -> Iterator[growth.Case]:
  """Yields the losses of FASSL and SwAV over growing prototypes.

  Args:
    largest: at most so many prototypes.
  """
  sizes = growth.sizes(64, min(largest, MOST_PROTOTYPES))
  yield growth.Case("FASSL's prototypes", "prototypes", sizes, _prototypes)
  yield growth.Case("SwAV's codes", "prototypes", sizes, _codes)


def _loss(name: str, num_classes: int) -> growth.Work:
  settings = loss_settings.Settings(name=name)
  if name == "pairwise":
    settings = loss_settings.Settings(name=name, delta=(1.0,) * num_classes)
  head = "cosine" if name.startswith("ldam") else "linear"
  minimize = objective.make(
    settings, head=head, head_scale=16.0, num_classes=num_classes
  )
  logits = jnp.zeros((BATCH, num_classes), jnp.float32)
  labels = jnp.arange(BATCH) % num_classes
  counts = 1.0 + jnp.arange(num_classes, dtype=jnp.float32)

  def loss(logits, labels, counts):
    return minimize(
      logits, labels, counts=counts, epoch=jnp.zeros((), jnp.int32), epochs=1
    )

  return growth.on_device(jax.value_and_grad(loss), logits, labels, counts)


def _prototypes(count: int) -> growth.Work:
  rng = np.random.default_rng(0)
  embeddings = jnp.asarray(rng.normal(size=(2 * BATCH, 128)), jnp.float32)
  rows = jnp.asarray(rng.normal(size=(count, 128)), jnp.float32)

  def loss(rows, embeddings):
    found = prototype_stage.similarities(embeddings, rows)
    units = found / jnp.linalg.norm(found, axis=-1, keepdims=True)
    losses = contrastive.nt_xent(units[:BATCH], units[BATCH:], temperature=0.2)
    return jnp.mean(losses)

  return growth.on_device(jax.value_and_grad(loss), rows, embeddings)


def _codes(count: int) -> growth.Work:
  scores = np.random.default_rng(0).normal(size=(2 * BATCH, count))
  return growth.on_device(sinkhorn.codes, jnp.asarray(scores, jnp.float32))
