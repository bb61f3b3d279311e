"""Probe: a linear classifier on a frozen embedding, to judge the embedding.

It is the stage `classifier` with each image once an epoch, and with what judges
need besides: the classifier of the epoch that was best on validation images.
The look at them is part of the training step, and the best classifier part of
its state, so that nothing waits for the host and a resumed probe ends as one
left alone.

Features are the network's own, not brought to length 1: their size is what
learning rates such as 30 were chosen for.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import fit, inference
from ltjax.data import host_images
from ltjax.evaluation import protocols
from ltjax.models import rescaling
from ltjax.stages import classifier
from ltjax.state import ModelState, TrainState

Images = jax.Array | host_images.HostImages
Report = Callable[[ModelState], list[dict[str, Any]]]


def make(
  name: str,
  predictor: inference.Predictor,
  *,
  protocol: protocols.Protocol,
  images: Images,
  labels: jax.Array,
  validation_images: Images,
  validation_labels: np.ndarray,
  num_classes: int,
  seed: int,
  key: jax.Array,
  report: Report,
) -> fit.Stage:
  """Returns the stage that fits a fresh linear classifier `g`.

  It begins as PyTorch's linear layer, see `ltjax.models.heads`.

  Args:
    name: the stage's name.
    predictor: runs the network in evaluation mode.
    protocol: of a linear classifier.
    images: uint8 `[P, H, W, C]`, what to learn from.
    labels: int32 `[P]`.
    validation_images: uint8 `[V, H, W, C]`; with V = 0 the last epoch counts.
    validation_labels: `[V]` integers.
    num_classes: C.
    seed: the run's seed, for the index streams.
    key: the stage's random key.
    report: rows to write when the stage is over, after one on the probe.

  Raises:
    ValueError: if the network's head is not linear, or a batch larger than the
      set.

  Source: `ltjax.evaluation.protocols`.
  """
  assert protocol.recipe is not None
  head = jax.eval_shape(predictor.model.head_init, jax.random.key(0))
  if not rescaling.is_linear(head):
    raise ValueError(
      f"The protocol {protocol.name} fits a linear classifier, but the network's"
      f" head is one of {', '.join(sorted(head))}; set --config.model.head="
      "linear."
    )
  stage = classifier.Maker(
    predictor,
    images=images,
    labels=labels,
    num_classes=num_classes,
    recipe=protocol.recipe,
    views=protocol.views,
    sampler="random",
    seed=seed,
    field="probe",
  ).make(name, fresh=True, key=key, report=report)
  row: dict[str, Any] = {
    "kind": "probe",
    "protocol": protocol.name,
    "images": len(labels),
    "batch_size": stage.batch_size,
    "learning_rate": protocol.recipe.learning_rate,
    "selection": selection(protocol, len(validation_labels)),
    "epoch": stage.epochs,
  }
  if row["selection"] == "validation":
    stage = _best(
      stage,
      predictor,
      images=validation_images,
      labels=validation_labels,
      every=protocol.select_every,
      row=row,
    )
  return dataclasses.replace(
    stage, report=lambda state: [dict(row), *report(state)]
  )


def selection(protocol: protocols.Protocol, num_validation: int) -> str:
  """Returns which epoch counts, `last` or `validation`.

  Args:
    protocol: what it would have.
    num_validation: images there are to choose on.
  """
  return protocol.select if num_validation else "last"


def _best(
  stage: fit.Stage,
  predictor: inference.Predictor,
  *,
  images: Images,
  labels: np.ndarray,
  every: int,
  row: dict[str, Any],
) -> fit.Stage:
  """Returns the stage that ends with the best classifier, not the last one.

  Args:
    stage: trains a head, which is the whole of its parameters.
    predictor: runs the network.
    images: uint8 `[V, H, W, C]`, to choose on.
    labels: `[V]` integers.
    every: epochs from one look to the next; the last epoch is always seen. Of
      equally good ones the earliest counts.
    row: told the epoch and its accuracy when the stage is over.
  """
  inner_init, inner_prepare, inner_step = stage.init, stage.prepare, stage.step
  assert inner_init and inner_prepare and inner_step

  def init(state: ModelState) -> TrainState:
    trained = inner_init(state)
    best = {
      "head": jax.tree.map(jnp.zeros_like, trained.params),
      "accuracy": jnp.full((), -1.0, jnp.float32),
      "epoch": jnp.zeros((), jnp.int32),
    }
    return trained.replace(extra=best)  # type: ignore[attr-defined]

  def prepare(state: ModelState):
    arrays, stream = inner_prepare(state)
    arrays["validation_features"] = predictor.features(state, images)
    arrays["validation_labels"] = jnp.asarray(labels, jnp.int32)
    return arrays, stream

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    state = inner_step(state, index, arrays)
    epoch = state.step // stage.steps_per_epoch
    ended = state.step % stage.steps_per_epoch == 0
    due = ended & ((epoch % every == 0) | (epoch == stage.epochs))

    def look(best):
      logits = predictor.model.head_apply(
        state.params, arrays["validation_features"]
      )
      right = jnp.argmax(logits, -1) == arrays["validation_labels"]
      accuracy = jnp.mean(right.astype(jnp.float32))
      now = {"head": state.params, "accuracy": accuracy, "epoch": epoch}
      better = accuracy > best["accuracy"]
      return jax.tree.map(lambda a, b: jnp.where(better, a, b), now, best)

    extra = jax.lax.cond(due, look, lambda best: best, state.extra)
    return state.replace(extra=extra)  # type: ignore[attr-defined]

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    best = trained.extra
    row["epoch"] = int(best["epoch"])
    row["validation_accuracy"] = float(best["accuracy"])
    return state.replace(  # type: ignore[attr-defined]
      balanced_head=best["head"]
    )

  return dataclasses.replace(
    stage, init=init, prepare=prepare, step=step, finish=finish
  )
