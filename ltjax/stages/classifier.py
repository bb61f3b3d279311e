"""Classifier fitting on a frozen embedding: Stage 3 of SSLT, cRT and LWS.

The parameters of `f` are frozen; a head is fitted to its features by
class-balanced sampling. BatchNorm statistics are frozen too, so that features
are computed only once (see `features`), or are updated by the batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import class_probabilities, inference, sampling
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.data import host_images
from ltjax.losses import classification
from ltjax.stage import Stage, Step
from ltjax.stages import features as feature_sources
from ltjax.stages import rules
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy")
DATA = ("labeled", "all")
BATCH_NORM = ("frozen", "update")
# `power` is left out: its exponent is a setting of its own.
SAMPLERS = tuple(n for n in class_probabilities.NAMES if n != "power")


def make_step(
  rule: rules.Rule,
  features: feature_sources.Features,
  optimizer: optax.GradientTransformation,
  *,
  steps_per_epoch: int,
) -> Step:
  """Returns the pure step that minimizes cross-entropy over a classifier.

  Args:
    rule: what is trained, and the logits `[B, C]` it gives.
    features: `(train_state, index, arrays) -> (features [B, D], batch_stats)`.
    optimizer: moves the rule's parameters.
    steps_per_epoch: when the epoch's metrics start anew.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    what `features` reads, `labels` int32 `[R]` and the rule's `frozen`.

  Source: Liu et al., Equation 5.
  """

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    embedded, batch_stats = features(state, index, arrays)
    labels = arrays["labels"][index]

    def loss_fn(params):
      logits = rule.logits(params, arrays["frozen"], embedded)
      losses = classification.cross_entropy(logits, labels)
      return jnp.mean(losses), logits

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
    min_steps: steps that the stage takes at least, by more epochs than the
      recipe's where these have fewer; 0 for none.
    kind: `crt` or `lws`, see `rules`.
    views: augmented views cached per image; 0 for the plain image.
    batch_norm: `frozen`, or `update`: parameters are frozen, but BatchNorm is
      in training mode and its statistics move on. Nothing can be cached then:
      each draw is augmented anew, and `views` has to be 1.
    sampler: `class_balanced`, or another of `SAMPLERS` (`random` is an ablation
      of Table 3).
    data: the `labeled` images, or `all` with pseudo labels (an ablation of
      Table 3).
    seed: the run's seed, for the index streams.
    field: the config block, for errors.

  Raises:
    ValueError: for an unknown choice, negative `min_steps`, views that would
      not be cached, or a batch larger than the set.

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
    min_steps: int = 0,
    kind: str = "crt",
    views: int = 10,
    batch_norm: str = "frozen",
    sampler: str = "class_balanced",
    data: str = "labeled",
    seed: int,
    field: str = "classifier",
  ):
    for name, value, known in (
      ("sampler", sampler, SAMPLERS),
      ("data", data, DATA),
      ("batch_norm", batch_norm, BATCH_NORM),
    ):
      if value not in known:
        raise ValueError(
          f"{field}.{name} is {value!r}; choose one of {', '.join(known)}."
        )
    if views < 0:
      raise ValueError(f"{field}.views is {views}; it must be 0 or more.")
    if batch_norm == "update" and views != 1:
      raise ValueError(
        f"{field}.views is {views}, but with {field}.batch_norm=update nothing is"
        " cached: each draw is a new view of the image. Set"
        f" --config.{field}.views=1, or --config.{field}.batch_norm=frozen."
      )
    self._predictor = predictor
    self._num_samples = len(images) if data == "all" else len(labels)
    self._images = images[: self._num_samples]
    self._labels = labels
    self._num_classes = num_classes
    self._frozen = batch_norm == "frozen"
    self._views = views
    self._sampler = sampler
    self._seed = seed
    self._steps = sampling.steps_per_epoch(
      self._num_samples, recipe.batch_size, field
    )
    try:
      recipe = recipe.lasting(min_steps, self._steps)
    except ValueError as error:
      raise ValueError(f"{field}.{error}") from None
    self._recipe = recipe
    self._schedule = recipe.make_schedule(self._steps)
    self._optimizer = recipe.make_optimizer(self._schedule)
    self._rule = rules.make(kind, predictor.model, field=field)
    features = feature_sources.from_cache
    if not self._frozen:
      features = feature_sources.in_training_mode(
        predictor.model, predictor.transform
      )
    self._step = make_step(
      self._rule, features, self._optimizer, steps_per_epoch=self._steps
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
      arrays = {"labels": labels, "frozen": rule.frozen(state)}
      stream = sampling.make(
        {"name": self._sampler, "exponent": 1.0, "beta": 0.9999, "defer": 0.0},
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
        self._predictor, state, self._images, views=self._views, key=views_key
      )
      arrays["labels"] = jnp.tile(labels, max(self._views, 1))
      return arrays, feature_sources.rows(
        stream,
        num_images=self._num_samples,
        views=self._views,
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
