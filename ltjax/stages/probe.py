"""Probe: a linear classifier on a frozen embedding, to judge the embedding.

It is the stage `classifier` with each image once an epoch, and with the
classifier of the epoch that was best on validation images, which is part of the
step's state, so that a resumed probe ends as one left alone. Features are not
brought to length 1: their size is what learning rates such as 30 were chosen
for.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.host import host_images
from ltjax.evaluation import protocols
from ltjax.models import rescaling
from ltjax.stages import classifier
from ltjax.training import draw, inference
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

Images = jax.Array | host_images.HostImages
Report = Callable[[ModelState], list[dict[str, Any]]]


def make(
  name: str,
  predictor: inference.Predictor,
  *,
  protocol: protocols.Protocol,
  images: Images,
  labels: jax.Array,
  validation_features: Callable[[ModelState], jax.Array],
  validation_labels: np.ndarray,
  num_classes: int,
  seed: int,
  key: jax.Array,
  report: Report,
) -> Stage:
  """Returns the stage that fits a fresh linear classifier `g`.

  It begins as PyTorch's linear layer, see `ltjax.models.heads`.

  Args:
    name, predictor: the stage's name, and what runs the network.
    protocol: of a linear classifier.
    images, labels: what to learn from, uint8 `[P, H, W, C]` and int32 `[P]`.
    validation_features: `model_state -> float32 [V, D]`, of the images to
      choose on; not asked where V = 0: then the last epoch counts.
    validation_labels: `[V]` integers.
    num_classes: C.
    seed, key: of the index streams, and of the stage.
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
      f"The protocol {protocol.name} fits a linear classifier, but the"
      f" network's head is one of {', '.join(sorted(head))}; set"
      " --config.model.head=linear."
    )
  stage = classifier.Maker(
    predictor,
    draw.Samples(images, labels, num_classes, seed),
    protocol.recipe,
    classifier.Settings("probe", views=protocol.views, sampler="random"),
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
  if row["selection"] == "last":
    return dataclasses.replace(
      stage, report=lambda state: [row, *report(state)]
    )
  best = _Best(
    stage,
    predictor,
    features=validation_features,
    labels=validation_labels,
    every=protocol.select_every,
  )
  return dataclasses.replace(
    stage,
    init=best.init,
    prepare=best.prepare,
    step=best.step,
    finish=best.finish,
    report=lambda state: [row | best.chosen(), *report(state)],
  )


def selection(protocol: protocols.Protocol, num_validation: int) -> str:
  """Returns which epoch counts, `last` or `validation`."""
  return protocol.select if num_validation else "last"


class _Best:
  """The classifier that was best on validation images, instead of the last one.

  `stage` trains a head, which is the whole of its parameters. `every` is the
  epochs from one look to the next; the last is always seen. Of equally good
  ones the earliest counts.
  """

  def __init__(
    self,
    stage: Stage,
    predictor: inference.Predictor,
    *,
    features: Callable[[ModelState], jax.Array],
    labels: np.ndarray,
    every: int,
  ):
    self._stage = stage
    self._head_apply = predictor.model.head_apply
    self._features, self._labels = features, labels
    self._every = every
    self._end: Any = None

  def init(self, state: ModelState) -> TrainState:
    assert self._stage.init
    trained = self._stage.init(state)
    best = {
      "head": jax.tree.map(jnp.zeros_like, trained.params),
      "accuracy": jnp.full((), -1.0, jnp.float32),
      "epoch": jnp.zeros((), jnp.int32),
    }
    return trained.replace(extra=best)  # type: ignore[attr-defined]

  def prepare(self, state: ModelState):
    assert self._stage.prepare
    arrays, stream = self._stage.prepare(state)
    arrays["validation_features"] = self._features(state)
    arrays["validation_labels"] = jnp.asarray(self._labels, jnp.int32)
    return arrays, stream

  def step(
    self, state: TrainState, index: jax.Array, arrays: Any
  ) -> TrainState:
    assert self._stage.step
    state = self._stage.step(state, index, arrays)
    epoch = state.step // self._stage.steps_per_epoch
    ended = state.step % self._stage.steps_per_epoch == 0
    look_now = (epoch % self._every == 0) | (epoch == self._stage.epochs)

    def look(best):
      logits = self._head_apply(state.params, arrays["validation_features"])
      right = jnp.argmax(logits, -1) == arrays["validation_labels"]
      accuracy = jnp.mean(right.astype(jnp.float32))
      now = {"head": state.params, "accuracy": accuracy, "epoch": epoch}
      better = accuracy > best["accuracy"]
      return jax.tree.map(lambda a, b: jnp.where(better, a, b), now, best)

    extra = jax.lax.cond(ended & look_now, look, lambda best: best, state.extra)
    return state.replace(extra=extra)  # type: ignore[attr-defined]

  def finish(self, state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    self._end = trained.extra
    return state.replace(  # type: ignore[attr-defined]
      balanced_head=self._end["head"]
    )

  def chosen(self) -> dict[str, Any]:
    """Returns the epoch and its accuracy, once `finish` knows them.

    A run killed between `finish` and its report does both again, from the
    checkpoint that has the best classifier.
    """
    assert self._end is not None
    return {
      "epoch": int(self._end["epoch"]),
      "validation_accuracy": float(self._end["accuracy"]),
    }
