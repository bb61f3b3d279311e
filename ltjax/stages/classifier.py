"""Class-balanced classifier fitting on frozen features: Stage 3 of SSLT.

`f` is frozen, parameters and BatchNorm statistics, so its features need to be
computed only once. The stage caches `views` augmented views of each image (an
own crop and flip each) as rows `[views * N, D]` and draws its batches from the
rows: a class with probability 1 / C, then one of its rows. With `views=0` the
cache holds the plain test-transform features, one row an image. Fitting is then
a linear problem and takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import fit, inference, sampling
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.losses import classification
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy")
SAMPLERS = ("class_balanced", "random")
DATA = ("labeled", "all")


def cached_features(
  predictor: inference.Predictor,
  state: ModelState,
  images: jax.Array,
  *,
  views: int,
  key: jax.Array,
) -> jax.Array:
  """Returns the features of all views of all images, view by view.

  Args:
    predictor: runs the network in evaluation mode.
    state: the network's parameters and statistics.
    images: uint8 `[N, H, W, C]`.
    views: augmented views per image; 0 for the plain image.
    key: view `v` is augmented with `fold_in(key, v)`.

  Returns:
    float32 `[max(views, 1) * N, D]`; row `v * N + i` is view `v` of image `i`.
  """
  if views == 0:
    return predictor.features(state, images)
  return jnp.concatenate(
    [
      predictor.features(state, images, key=jax.random.fold_in(key, view))
      for view in range(views)
    ]
  )


def make_step(
  head_apply: Callable[[Any, jax.Array], jax.Array],
  optimizer: optax.GradientTransformation,
  *,
  steps_per_epoch: int,
) -> fit.Step:
  """Returns the pure step that minimizes cross-entropy over a head.

  Args:
    head_apply: `(params, features [B, D]) -> logits [B, C]`.
    optimizer: moves the head's parameters.
    steps_per_epoch: when the epoch's metrics start anew.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    `features` float32 `[R, D]` and `labels` int32 `[R]`.

  Source: Liu et al., Equation 5.
  """

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    features = arrays["features"][index]
    labels = arrays["labels"][index]

    def loss_fn(params):
      logits = head_apply(params, features)
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
    views: augmented views cached per image; 0 for the plain image.
    sampler: `class_balanced`, or `random` (an ablation of Table 3).
    data: the `labeled` images, or `all` with pseudo labels (an ablation of
      Table 3).
    seed: the run's seed, for the index streams.
    field: the config block, for errors.

  Raises:
    ValueError: for an unknown choice, negative views, or a batch larger than
      the set.

  Source: Liu et al., Section 3.4, Stage 3; Kang et al. (2020), cRT.
  """

  def __init__(
    self,
    predictor: inference.Predictor,
    *,
    images: jax.Array,
    labels: jax.Array,
    num_classes: int,
    recipe: recipes.Recipe,
    views: int = 10,
    sampler: str = "class_balanced",
    data: str = "labeled",
    seed: int,
    field: str = "classifier",
  ):
    if sampler not in SAMPLERS:
      raise ValueError(
        f"{field}.sampler is {sampler!r}; choose one of {', '.join(SAMPLERS)}."
      )
    if data not in DATA:
      raise ValueError(
        f"{field}.data is {data!r}; choose one of {', '.join(DATA)}."
      )
    if views < 0:
      raise ValueError(f"{field}.views is {views}; it must be 0 or more.")
    self._predictor = predictor
    self._num_samples = len(images) if data == "all" else len(labels)
    self._images = images[: self._num_samples]
    self._labels = labels
    self._num_classes = num_classes
    self._recipe = recipe
    self._views = views
    self._sampler = sampler
    self._seed = seed
    self._steps = sampling.steps_per_epoch(
      self._num_samples, recipe.batch_size, field
    )
    self._schedule = recipe.make_schedule(self._steps)
    self._optimizer = recipe.make_optimizer(self._schedule)
    self._step = make_step(
      predictor.model.head_apply,
      self._optimizer,
      steps_per_epoch=self._steps,
    )

  def make(
    self,
    name: str,
    *,
    fresh: bool,
    key: jax.Array,
    report: Callable[[ModelState], list[dict[str, Any]]],
  ) -> fit.Stage:
    """Returns a stage that fits `g`.

    Args:
      name: the stage's name, such as `loop1/refit`.
      fresh: start from a new head; otherwise go on from `g`.
      key: the stage's random key, for the new head and the views.
      report: rows to write when the stage is over.
    """
    head_key, views_key, step_key = jax.random.split(key, 3)

    def init(state: ModelState) -> TrainState:
      params = state.balanced_head
      if fresh:
        params = self._predictor.model.head_init(head_key)
      return states.create(
        params=params,
        batch_stats={},
        opt_state=self._optimizer.init(params),
        memory=state.memory[:0],
        key=step_key,
        metrics=METRICS,
      )

    def prepare(state: ModelState):
      features = cached_features(
        self._predictor,
        state,
        self._images,
        views=self._views,
        key=views_key,
      )
      labels = jnp.concatenate([self._labels, state.pseudo_labels])
      labels = labels[: self._num_samples]
      arrays = {
        "features": features,
        "labels": jnp.tile(labels, max(self._views, 1)),
      }
      return arrays, self._stream(name, np.asarray(labels))

    def finish(state: ModelState, trained: TrainState | None) -> ModelState:
      assert trained is not None
      return state.replace(  # type: ignore[attr-defined]
        balanced_head=trained.params
      )

    return fit.Stage(
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
    )

  def _stream(self, name: str, labels: np.ndarray) -> sampling.Stream:
    """Draws images, then a view of each."""
    if self._sampler == "random":
      images = sampling.random(
        self._num_samples,
        self._recipe.batch_size,
        seed=self._seed,
        stage=name,
      )
    else:
      images = sampling.class_balanced(
        labels,
        self._recipe.batch_size,
        num_classes=self._num_classes,
        seed=self._seed,
        stage=name,
      )

    def rows(epoch: int) -> np.ndarray:
      index = images(epoch)
      rng = sampling.generator(self._seed, name + "/views", epoch)
      view = rng.integers(max(self._views, 1), size=index.shape, dtype=np.int32)
      return view * self._num_samples + index

    return rows
