"""Supervised training of the whole network, `f` and `g'` together.

With cross-entropy and random sampling this is the first half of the decoupling
of Kang et al. With another objective or sampler it is that method: LDAM-DRW is
the objective LDAM with deferred weights. With `data="all"` it learns from
labels and pseudo labels together, the second half of self-training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import objective
from ltjax.losses import settings as loss_settings
from ltjax.optim import recipe as recipes
from ltjax.training import draw, step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

REDUCTIONS = ("examples", "parts")

# Of a batch, by its index [B]: factors, and example weights [B] of a loss each.
Terms = tuple[tuple[float, jax.Array | None], ...]


def pseudo_label_terms(
  *, omega: float, reduction: str, num_labeled: int
) -> Callable[[jax.Array], Terms]:
  """Returns what makes the terms of a batch's loss: `L(D_L) + omega L(D_U)`.

  Yang & Xu do not say over what L is a mean:

  *   `examples`: over the batch, in which a pseudo-labeled example counts omega
      times. At omega 1 it is the authors' code, which concatenates both sets;
      with five pseudo labels to a label, labels have a sixth of the gradient.
  *   `parts`: each L over its own part of the batch, as the formula reads.
      Labels have the share `1 / (1 + omega)` of the gradient. The loss is the
      sum of `1 + omega` means, and a step as much longer: at omega 1 half the
      learning rate has the length of `examples`.

  Args:
    omega: weight of the pseudo labels, 0 or more.
    reduction: `examples` or `parts`.
    num_labeled: how many images are labeled; they come first.

  Returns:
    `index int32 [B] -> ((factor, weights fp32 [B] or None), ...)`; the loss is
    the sum of `factor * objective(..., example_weights=weights)`. A part
    without an example in the batch adds nothing.

  Source: Yang & Xu (2020), Section 2.2.
  """

  def of_part(part: jax.Array) -> jax.Array:
    # The objective's mean divides by B, and this undoes it.
    part = part.astype(jnp.float32)
    return part * (len(part) / jnp.maximum(jnp.sum(part), 1.0))

  def terms(index: jax.Array) -> Terms:
    labeled = index < num_labeled
    if reduction == "parts":
      return (1.0, of_part(labeled)), (omega, of_part(~labeled))
    if omega == 1.0:
      return ((1.0, None),)
    return ((1.0, jnp.where(labeled, 1.0, omega)),)

  return terms


DATA = ("labeled", "all")


def algorithm(
  model: models.Model,
  *,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  minimize: objective.Objective,
  terms: Callable[[jax.Array], Terms] = lambda index: ((1.0, None),),
) -> step.Algorithm:
  """Returns an objective over `f` and `g'`.

  Args:
    model, transform, minimize: as of `make`.
    terms: of the loss, by labels and pseudo labels; see `pseudo_label_terms`.
  """

  def loss(params: Any, state: TrainState, batch: step.Batch):
    images = transform(batch.key, batch.images)
    _, logits, batch_stats = model.apply(
      params, state.batch_stats, images, True
    )
    losses = [
      factor
      * minimize(
        logits,
        batch.labels,
        counts=batch.arrays["counts"],
        epoch=batch.epoch,
        epochs=batch.epochs,
        example_weights=weights,
      )
      for factor, weights in terms(batch.index)
    ]
    accuracy = jnp.mean(jnp.argmax(logits, -1) == batch.labels)
    return jnp.asarray(sum(losses)), step.Outcome(
      batch_stats, {"accuracy": accuracy}
    )

  return step.Algorithm(loss, ("accuracy",), layer_decay=model.layer_decay)


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
  sampler: Mapping[str, Any] = draw.RANDOM,
  data: str = "labeled",
  omega: float = 1.0,
  reduction: str = "examples",
  fresh: bool = False,
  final: bool = False,
  field: str = "embedding",
) -> Stage:
  """Returns the stage that trains `f` and `g'`.

  Args:
    name, model: the stage's name, and the network.
    images: uint8 `[N', H, W, C]`, the labeled images first.
    labels: int32 `[N]`, of the labeled images.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    recipe: epochs, batch size and SGD settings.
    seed, key: of the index stream, and of the augmentation.
    report: rows to write when the stage is over.
    minimize: the objective; None for plain cross-entropy.
    sampler: the config's block `sampler`.
    data: the `labeled` images, or `all` with pseudo labels.
    omega, reduction: as of `pseudo_label_terms`.
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
  minimize = minimize or _cross_entropy(model)
  samples = draw.Samples(images, labels, model.num_classes, seed)
  choices = {"field": field, "sampler": sampler}
  if data == "all":
    counts = minimize.settings.counts
    drawn = draw.everything(
      samples, recipe.batch_size, counts=counts, **choices
    )
  else:
    drawn = draw.labeled(samples, recipe.batch_size, **choices)
  terms = pseudo_label_terms(
    omega=omega, reduction=reduction, num_labeled=len(labels)
  )
  train = algorithm(model, transform=transform, minimize=minimize, terms=terms)
  if fresh:
    key, init_key = jax.random.split(key)
    train = dataclasses.replace(
      train, init=lambda state: (*model.init(init_key), {})
    )
  if final:
    train = dataclasses.replace(train, keep=step.keep_final)
  return step.make(
    name, train, drawn, recipe, key=key, report=report, block=field
  )


def _cross_entropy(model: models.Model) -> objective.Objective:
  return objective.make(
    loss_settings.Settings(),
    head="linear",
    head_scale=1.0,
    num_classes=model.num_classes,
  )
