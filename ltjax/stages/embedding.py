"""Supervised training of the whole network, `f` and `g'` together.

With cross-entropy and random sampling this is the first half of the decoupling
of Kang et al.: the head `g'` favours the head classes; the embedding does not
suffer from that. With another objective or sampler it is that method: LDAM-DRW
is the objective LDAM with deferred weights. With `data="all"` it learns from
labels and pseudo labels together, the second half of self-training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import (
  class_probabilities,
  loss_settings,
  models,
  objective,
  sampling,
)
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.stage import Stage, Step
from ltjax.stages import omega as omegas
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy")
DATA = ("labeled", "all")
_RANDOM = {"name": "random", "exponent": 1.0, "beta": 0.9999, "defer": 0.0}


def make_step(
  model: models.Model,
  optimizer: optax.GradientTransformation,
  *,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  steps_per_epoch: int,
  epochs: int = 1,
  minimize: objective.Objective | None = None,
  terms: Callable[[jax.Array], omegas.Terms] = lambda index: ((1.0, None),),
) -> Step:
  """Returns the pure step that minimizes an objective over `f` and `g'`.

  Args:
    model: the network.
    optimizer: moves `{"backbone", "head"}`.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    steps_per_epoch: when the epoch's metrics start anew.
    epochs: epochs of the stage, by which the objective defers its weights.
    minimize: the objective; None for plain cross-entropy.
    terms: of the loss, by labels and pseudo labels; see `omega.make`.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    `images` uint8 `[N, H, W, C]`, `labels` int32 `[N]`, and `counts` float32
    `[K]` of the K classes.
  """

  minimize = minimize or _cross_entropy(model)

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    key = jax.random.fold_in(state.key, state.step)
    images = transform(key, arrays["images"][index])
    labels = arrays["labels"][index]

    def loss_fn(params):
      _, logits, batch_stats = model.apply(
        params, state.batch_stats, images, True
      )
      losses = [
        factor
        * minimize(
          logits,
          labels,
          counts=arrays["counts"],
          epoch=state.step // steps_per_epoch,
          epochs=epochs,
          example_weights=weights,
        )
        for factor, weights in terms(index)
      ]
      return sum(losses), (logits, batch_stats)

    (loss, (logits, batch_stats)), grads = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state.params)
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


def make(
  name: str,
  model: models.Model,
  *,
  images: jax.Array,
  labels: jax.Array,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  recipe: recipes.Recipe,
  seed: int,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
  minimize: objective.Objective | None = None,
  sampler: Mapping[str, Any] = _RANDOM,
  data: str = "labeled",
  omega: float = 1.0,
  reduction: str = "examples",
  fresh: bool = False,
  final: bool = False,
  field: str = "embedding",
) -> Stage:
  """Returns the stage that trains `f` and `g'`.

  Args:
    name: the stage's name.
    model: the network.
    images: uint8 `[N', H, W, C]`, the labeled images first.
    labels: int32 `[N]`, of the labeled images.
    transform: the training transform.
    recipe: epochs, batch size and SGD settings.
    seed: the run's seed, for the index stream.
    key: the stage's random key, for the augmentation.
    report: rows to write when the stage is over.
    minimize: the objective; None for plain cross-entropy.
    sampler: the config's block `sampler`.
    data: the `labeled` images, or `all` with pseudo labels.
    omega: weight of the pseudo labels; that of the labels is 1.
    reduction: whether omega weighs `examples` or `parts`, see `omega`.
    fresh: start from a new network; otherwise go on from the state's.
    final: whether the method ends with this head, so that it is the one to
      test: `finish` then copies it to the balanced head.
    field: the config block, for errors.

  Raises:
    ValueError: if the batch is larger than the set, or a choice does not fit.

  Source: Liu et al., Section 3.3; Kang et al. (2020); with `data="all"`, Yang &
    Xu, Section 2.2.
  """
  if data not in DATA:
    raise ValueError(
      f"{field}.data is {data!r}; choose one of {', '.join(DATA)}."
    )
  class_probabilities.check(sampler)
  minimize = minimize or _cross_entropy(model)
  num_samples = len(images) if data == "all" else len(labels)
  terms = omegas.make(
    omega=omega, reduction=reduction, num_labeled=len(labels), field=field
  )
  steps = sampling.steps_per_epoch(num_samples, recipe.batch_size, field)
  schedule = recipe.make_schedule(steps)
  optimizer = recipe.make_optimizer(schedule)
  step_key, init_key = (key, key) if not fresh else jax.random.split(key)

  def init(state: ModelState) -> TrainState:
    params = {"backbone": state.backbone, "head": state.head}
    batch_stats = state.batch_stats
    if fresh:
      params, batch_stats = model.init(init_key)
    return states.create(
      params=params,
      batch_stats=batch_stats,
      opt_state=optimizer.init(params),
      memory=state.memory[:0],
      key=step_key,
      metrics=METRICS,
    )

  def prepare(state: ModelState):
    known = labels
    if data == "all":
      known = jnp.concatenate([labels, state.pseudo_labels])
    counted = known if minimize.settings.counts == "all" else labels
    arrays = {
      "images": images,
      "labels": known,
      "counts": jnp.bincount(counted, length=model.num_classes).astype(
        jnp.float32
      ),
    }
    stream = sampling.make(
      sampler,
      np.asarray(known),
      recipe.batch_size,
      num_classes=model.num_classes,
      epochs=recipe.epochs,
      seed=seed,
      stage=name,
    )
    return arrays, stream

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is not None
    head = trained.params["head"]
    return state.replace(  # type: ignore[attr-defined]
      backbone=trained.params["backbone"],
      head=head,
      batch_stats=trained.batch_stats,
      balanced_head=states.copy(head) if final else state.balanced_head,
    )

  return Stage(
    name=name,
    epochs=recipe.epochs,
    steps_per_epoch=steps,
    batch_size=recipe.batch_size,
    block=field,
    init=init,
    prepare=prepare,
    step=make_step(
      model,
      optimizer,
      transform=transform,
      steps_per_epoch=steps,
      epochs=recipe.epochs,
      minimize=minimize,
      terms=terms,
    ),
    finish=finish,
    report=report,
    schedule=schedule,
  )


def _cross_entropy(model: models.Model) -> objective.Objective:
  return objective.make(
    loss_settings.Settings(),
    head="linear",
    head_scale=1.0,
    num_classes=model.num_classes,
  )
