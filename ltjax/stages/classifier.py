"""Classifier fitting on a frozen embedding: Stage 3 of SSLT, cRT and LWS.

The parameters of `f` are frozen; a head is fitted to its features by
class-balanced sampling, or by a loss that adjusts for the class counts.
BatchNorm statistics are frozen too, so that features are computed only once
(see `features`), or are updated by the batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import inference, objective, sampling
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.data import host_images
from ltjax.stage import Stage, Step
from ltjax.stages import classifier_settings, rules
from ltjax.stages import features as feature_sources
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy")


def make_step(
  rule: rules.Rule,
  features: feature_sources.Features,
  optimizer: optax.GradientTransformation,
  minimize: objective.Objective,
  *,
  steps_per_epoch: int,
) -> Step:
  """Returns the pure step that minimizes a loss over a classifier.

  Args:
    rule: what is trained, and the logits `[B, C]` it gives.
    features: `(train_state, index, arrays) -> (features [B, D], batch_stats)`.
    optimizer: moves the rule's parameters.
    minimize: the loss.
    steps_per_epoch: when the epoch's metrics start anew.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    what `features` reads, `labels` int32 `[R]`, `counts` float32 `[C]` of the
    classes, and the rule's `frozen`.

  Source: Liu et al., Equation 5.
  """

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    embedded, batch_stats = features(state, index, arrays)
    labels = arrays["labels"][index]

    def loss_fn(params):
      logits = rule.logits(params, arrays["frozen"], embedded)
      counts = arrays["counts"]
      return minimize(logits, labels, counts=counts, epoch=0, epochs=1), logits

    (loss, logits), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      state.params
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return states.advance(
      state,
      {"loss": loss, "accuracy": jnp.mean(jnp.argmax(logits, -1) == labels)},
      steps_per_epoch=steps_per_epoch,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
    )

  return step


class Maker:
  """Makes classifier stages around one compiled step.

  Args:
    predictor: runs the network; its model gives the head.
    images: uint8 `[N + M, H, W, C]`, the labeled images first.
    labels: int32 `[N]`, of the labeled images.
    num_classes: `C`.
    recipe: epochs, batch size and SGD settings. An epoch is as many draws as
      there are images, whatever the number of views.
    settings: loss, sampler and the like.
    seed: the run's seed, for the index streams.

  Raises:
    ValueError: if the rule does not fit the head, or a batch is larger than the
      set.

  Source: Liu et al., Section 3.4, Stage 3; Kang et al. (2020).
  """

  def __init__(
    self,
    predictor: inference.Predictor,
    *,
    images: jax.Array | host_images.HostImages,
    labels: jax.Array,
    num_classes: int,
    recipe: recipes.Recipe,
    settings: classifier_settings.Settings,
    seed: int,
  ):
    self._predictor = predictor
    sampled = images if settings.data == "all" else labels
    self._num_samples = len(sampled)
    self._images = images[: self._num_samples]
    self._labels = labels
    self._num_classes = num_classes
    self._frozen = settings.batch_norm == "frozen"
    self._settings = settings
    self._seed = seed
    self._steps = sampling.steps_per_epoch(
      self._num_samples, recipe.batch_size, settings.field
    )
    recipe = recipe.lasting(settings.min_steps, self._steps)
    self._recipe = recipe
    self._schedule = recipe.make_schedule(self._steps)
    self._optimizer = recipe.make_optimizer(self._schedule)
    self._rule = rules.make(
      settings.kind, predictor.model, field=settings.field
    )
    minimize = objective.make(
      {"name": settings.loss},
      head="linear",
      head_scale=1.0,
      num_classes=num_classes,
    )
    features = feature_sources.from_cache
    if not self._frozen:
      features = feature_sources.in_training_mode(
        predictor.model, predictor.transform
      )
    self._step = make_step(
      self._rule,
      features,
      self._optimizer,
      minimize,
      steps_per_epoch=self._steps,
    )

  def make(
    self,
    name: str,
    *,
    fresh: bool,
    key: jax.Array,
    report: Callable[[ModelState], list[dict[str, Any]]],
  ) -> Stage:
    """Returns a stage that fits `g`.

    Args:
      name: the stage's name, such as `loop1/refit`.
      fresh: start from a new head; otherwise go on from `g`.
      key: the stage's random key, for the new head and the views.
      report: rows to write when the stage is over.
    """
    head_key, views_key, step_key = jax.random.split(key, 3)
    rule, head_init = self._rule, self._predictor.model.head_init

    def init(state: ModelState) -> TrainState:
      params = rule.init(state, head_key, fresh)
      return states.create(
        params=params,
        batch_stats={} if self._frozen else state.batch_stats,
        opt_state=self._optimizer.init(params),
        memory=state.memory[:0],
        key=step_key,
        metrics=METRICS,
      )

    def prepare(state: ModelState):
      labels = jnp.concatenate([self._labels, state.pseudo_labels])
      labels = labels[: self._num_samples]
      counts = jnp.bincount(labels, length=self._num_classes)
      arrays = {
        "labels": labels,
        "counts": counts.astype(jnp.float32),
        "frozen": rule.frozen(state),
      }
      stream = sampling.make(
        {
          "name": self._settings.sampler,
          "exponent": 1.0,
          "beta": 0.9999,
          "defer": 0.0,
        },
        np.asarray(labels),
        self._recipe.batch_size,
        num_classes=self._num_classes,
        epochs=self._recipe.epochs,
        seed=self._seed,
        stage=name,
      )
      if not self._frozen:
        arrays["images"] = self._images
        arrays |= {"backbone": state.backbone, "head": state.head}
        return arrays, stream
      arrays["features"] = feature_sources.cached(
        self._predictor,
        state,
        self._images,
        views=self._settings.views,
        key=views_key,
      )
      arrays["labels"] = jnp.tile(labels, max(self._settings.views, 1))
      return arrays, feature_sources.rows(
        stream,
        num_images=self._num_samples,
        views=self._settings.views,
        seed=self._seed,
        stage=name,
      )

    def finish(state: ModelState, trained: TrainState | None) -> ModelState:
      assert trained is not None
      stats = state.batch_stats if self._frozen else trained.batch_stats
      head = rule.head(trained.params, rule.frozen(state))
      return state.replace(  # type: ignore[attr-defined]
        balanced_head=head, batch_stats=stats
      )

    def shapes(state: ModelState) -> ModelState:
      if not fresh:
        return state
      return state.replace(  # type: ignore[attr-defined]
        balanced_head=jax.eval_shape(head_init, head_key)
      )

    return Stage(
      name=name,
      epochs=self._recipe.epochs,
      steps_per_epoch=self._steps,
      batch_size=self._recipe.batch_size,
      init=init,
      prepare=prepare,
      step=self._step,
      finish=finish,
      report=report,
      schedule=self._schedule,
      shapes=shapes,
    )
