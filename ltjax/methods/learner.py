"""A learner: the network, the task and the seed that a method works with."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any
import zlib

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from ltjax import models
from ltjax.data import task as tasks
from ltjax.devices import sharding
from ltjax.evaluation import metrics
from ltjax.losses import objective as objectives
from ltjax.training import draw, inference
from ltjax.training.state import ModelState

Rows = list[dict[str, Any]]
# `(learner, model state, model=, head=) -> rows`.
Evaluator = Callable[..., Rows]


@dataclasses.dataclass(frozen=True)
class Learner:
  """What every method needs.

  Attributes:
    model: the network.
    task: the data.
    predictor: runs the network in evaluation mode.
    transform: the training transform, `(key, uint8 images) -> images`.
    seed: the run's seed.
    mesh: the devices.
    dtype: of transformed images.
    evaluators: what looks at a model when a stage is over, in this order; the
      last gives the run's result.
  """

  model: models.Model
  task: tasks.Task
  predictor: inference.Predictor
  transform: Callable[[jax.Array, jax.Array], jax.Array]
  seed: int
  mesh: Mesh
  dtype: Any = jnp.float32
  evaluators: tuple[Evaluator, ...] = ()

  def strong(self, policy: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the strong training transform of a policy of `transforms`."""
    return self.task.strong(self.dtype, policy)

  def key(self, name: str) -> jax.Array:
    """Returns the random key that belongs to (seed, name)."""
    return jax.random.fold_in(
      jax.random.key(self.seed), zlib.crc32(name.encode())
    )

  @property
  def samples(self) -> draw.Samples:
    """The images to learn from."""
    task = self.task
    return draw.Samples(task.images, task.labels, task.num_classes, self.seed)

  def init(self) -> ModelState:
    """Returns the state before the first stage."""
    params, batch_stats = self.model.init(self.key("init"))
    num = len(self.task.images)
    state = ModelState(
      backbone=params["backbone"],
      batch_stats=batch_stats,
      head=params["head"],
      balanced_head=self.model.head_init(self.key("balanced_head")),
      pseudo_labels=jnp.full(
        (num - self.task.num_labeled,), -1, dtype=jnp.int32
      ),
      memory=jnp.zeros(
        (sharding.padded(num, self.mesh), self.task.num_classes), jnp.float32
      ),
    )
    return sharding.place(state, self.mesh)

  def objective(self, config: Any) -> objectives.Objective:
    """Returns the loss that `config.loss` describes.

    Args:
      config: the run's config; its block `model` tells the head.

    Raises:
      ValueError: if a setting does not fit the head or the class counts.
    """
    made = objectives.make(
      config.loss,
      head=config.model.head,
      head_scale=config.model.head_scale,
      num_classes=self.task.num_classes,
      class_names=self.task.class_names,
    )
    made.check_counts(
      np.asarray(self.task.split.labeled_counts),
      class_names=self.task.class_names,
    )
    return made

  def report(self, model: str, *, head: str) -> Callable[[ModelState], Rows]:
    """Returns what a stage writes down when it is over: what evaluators find.

    Args:
      model: what to call it, such as `SSLT loop 1`.
      head: `random` for g', `balanced` for g.
    """
    chosen = self.evaluators or (Learner.evaluate,)
    return lambda state: [
      row
      for evaluate in chosen
      for row in evaluate(self, state, model=model, head=head)
    ]

  def evaluate(self, state: ModelState, *, model: str, head: str) -> Rows:
    """Returns rows of test (and validation) metrics, of classes and groups.

    By all the predictor's views.

    Args:
      state: what to evaluate.
      model: what to call it, such as `SSLT loop 1`.
      head: `random` for g', `balanced` for g.
    """
    params = state.head if head == "random" else state.balanced_head
    return self.measure(
      lambda images: self.predictor.ensembled(state, images, head=params),
      model=model,
      head=head,
    )

  def measure(
    self, predict: Callable[[Any], Any], *, model: str, head: str
  ) -> Rows:
    """Returns rows of test (and validation) metrics of any classifier.

    Args:
      predict: `images uint8 [B, H, W, C] -> probabilities [B, C]`.
      model: what to call it.
      head: `random` or `balanced`, which of the two it counts as.
    """
    parts = [("test", self.task.test_images, self.task.test_labels)]
    if len(self.task.validation_labels):
      parts.append(
        (
          "validation",
          self.task.validation_images,
          self.task.validation_labels,
        )
      )
    rows = []
    for split, images, labels in parts:
      probabilities = np.asarray(predict(images))
      row = {"kind": "eval", "model": model, "head": head, "split": split}
      row |= metrics.classification(
        probabilities, labels, groups=self.task.groups
      )
      rows.append(row)
    return rows

  def report_pseudo_labels(self, loop: int) -> Callable[[ModelState], Rows]:
    """Returns what a stage writes down of the labels that it gave.

    Args:
      loop: the loop that assigns them, from 1.
    """
    return lambda state: self.evaluate_pseudo_labels(state, loop=loop)

  def evaluate_pseudo_labels(self, state: ModelState, *, loop: int) -> Rows:
    """Returns a row on the pseudo labels given, where the truth is known.

    Args:
      state: holds the pseudo labels.
      loop: the loop that assigned them, from 1.

    Source: Liu et al., Table 4.
    """
    labels = np.asarray(state.pseudo_labels)
    kept = labels >= 0
    row = metrics.pseudo_labels(
      labels[kept],
      self.task.truth[kept],
      num_classes=self.task.num_classes,
      groups=self.task.groups,
    )
    share = {} if kept.all() else {"kept": float(kept.mean())}
    return [{"kind": "pseudo", "loop": loop, **share, **row}] if row else []
