"""Semi-supervised fine-tuning with temporal consistency: Stage 2 of SSLT.

`f` and `g'` are trained on labeled images and pseudo-labeled ones together. The
loss asks for the (pseudo) label, and for agreement with what `g'` said of the
same image the last time it was drawn, one epoch ago:

    L = mean over the batch of  CE(g'(f(x)), y) + weight * KL(p_prev || p).

`p_prev` is a row of the memory `[N + M, C]` on the device: read by index, then
overwritten with the prediction just made (in training mode, of the augmented
image, as the authors do). A row of zeros marks an image not drawn yet and adds
nothing to the loss.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import models, optimizers, sampling
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.losses import classification, consistency
from ltjax.stage import Stage, Step
from ltjax.state import ModelState, TrainState

METRICS = ("loss", "accuracy", "cross_entropy", "consistency")
MEMORY_RESETS = ("keep", "uniform")
SAMPLERS = ("random", "class_balanced")
DATA = ("all", "labeled")
SCHEDULE_OVER = ("loop", "run")


def make_step(
  model: models.Model,
  optimizer: optax.GradientTransformation,
  *,
  transform: Callable[[jax.Array, jax.Array], jax.Array],
  steps_per_epoch: int,
  weight: float = 1.0,
) -> Step:
  """Returns the pure step of the semi-supervised loss.

  Args:
    model: the network.
    optimizer: moves `{"backbone", "head"}`.
    transform: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    steps_per_epoch: when the epoch's metrics start anew.
    weight: lambda of the paper; 0 gives plain cross-entropy.

  Returns:
    `(train_state, index [B] int32, arrays) -> train_state`, where arrays holds
    `images` uint8 `[N + M, H, W, C]` and `labels` int32 `[N + M]`.

  Source: Liu et al., Equations 2 to 4.
  """

  def step(state: TrainState, index: jax.Array, arrays: Any) -> TrainState:
    key = jax.random.fold_in(state.key, state.step)
    images = transform(key, arrays["images"][index])
    labels = arrays["labels"][index]
    previous = state.memory[index]

    def loss_fn(params):
      _, logits, batch_stats = model.apply(
        params, state.batch_stats, images, True
      )
      entropy = jnp.mean(classification.cross_entropy(logits, labels))
      drift = jnp.mean(consistency.kl_divergence(previous, logits))
      loss = entropy + weight * drift
      return loss, (logits, batch_stats, entropy, drift)

    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    logits, batch_stats, entropy, drift = aux
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    return states.advance(
      state,
      {
        "loss": loss,
        "accuracy": jnp.mean(jnp.argmax(logits, -1) == labels),
        "cross_entropy": entropy,
        "consistency": drift,
      },
      steps_per_epoch=steps_per_epoch,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt_state=opt_state,
      memory=state.memory.at[index].set(jax.nn.softmax(logits)),
    )

  return step


class Maker:
  """Makes the consistency stage of each loop around one compiled step.

  Args:
    model: the network.
    images: uint8 `[N + M, H, W, C]`, the labeled images first.
    labels: int32 `[N]`, of the labeled images.
    num_classes: `C`.
    transform: the training transform.
    recipe: epochs, batch size and SGD settings of one loop.
    weight: lambda.
    memory_reset: `keep` the memory from loop to loop, or start each loop from
      `uniform` rows 1 / C (the authors' code; it adds a pull towards uniform
      predictions in the first epoch of each loop).
    sampler: `random`, or `class_balanced` over labels and pseudo labels (an
      ablation of Table 3).
    data: `all` images, or only the `labeled` ones (an ablation of Table 3).
    schedule_over: the learning rate follows the schedule in each `loop` anew,
      or once over the `run` of all loops, warm-up included. Momentum starts
      from 0 in each loop.
    loops: how many there are.
    seed: the run's seed, for the index streams.

  Raises:
    ValueError: for an unknown choice, a negative weight, or a batch larger than
      the set.

  Source: Liu et al., Section 3.4, Stage 2.
  """

  def __init__(
    self,
    model: models.Model,
    *,
    images: jax.Array,
    labels: jax.Array,
    num_classes: int,
    transform: Callable[[jax.Array, jax.Array], jax.Array],
    recipe: recipes.Recipe,
    weight: float = 1.0,
    memory_reset: str = "keep",
    sampler: str = "random",
    data: str = "all",
    schedule_over: str = "loop",
    loops: int = 1,
    seed: int,
  ):
    for field, value, known in (
      ("memory_reset", memory_reset, MEMORY_RESETS),
      ("sampler", sampler, SAMPLERS),
      ("data", data, DATA),
      ("schedule_over", schedule_over, SCHEDULE_OVER),
    ):
      if value not in known:
        raise ValueError(
          f"consistency.{field} is {value!r}; choose one of {', '.join(known)}."
        )
    if not (weight >= 0 and np.isfinite(weight)):
      raise ValueError(
        f"consistency.weight is {weight}; it must be 0 or more and finite."
      )
    self._images = images
    self._labels = labels
    self._num_classes = num_classes
    self._num_samples = len(images) if data == "all" else len(labels)
    self._recipe = recipe
    self._memory_reset = memory_reset
    self._sampler = sampler
    self._seed = seed
    self._steps = sampling.steps_per_epoch(
      self._num_samples, recipe.batch_size, "consistency"
    )
    # Steps from the start of a loop's schedule to that of the next.
    self._stride = 0
    if schedule_over == "run":
      self._stride = recipe.epochs * self._steps
      recipe = dataclasses.replace(recipe, epochs=loops * recipe.epochs)
    self._schedule = recipe.make_schedule(self._steps)
    self._optimizer = recipe.make_optimizer(self._schedule)
    self._step = make_step(
      model,
      self._optimizer,
      transform=transform,
      steps_per_epoch=self._steps,
      weight=weight,
    )

  def make(
    self,
    name: str,
    *,
    loop: int = 1,
    key: jax.Array,
    report: Callable[[ModelState], list[dict[str, Any]]],
  ) -> Stage:
    """Returns the stage of one loop.

    Args:
      name: the stage's name, such as `loop1/consistency`.
      loop: its number, from 1.
      key: the stage's random key, for the augmentation.
      report: rows to write when the stage is over.
    """
    start = (loop - 1) * self._stride

    def init(state: ModelState) -> TrainState:
      params = {"backbone": state.backbone, "head": state.head}
      memory = state.memory
      if self._memory_reset == "uniform":
        memory = jnp.full_like(memory, 1.0 / self._num_classes)
      return states.create(
        params=params,
        batch_stats=state.batch_stats,
        opt_state=optimizers.at_step(self._optimizer.init(params), start),
        memory=memory,
        key=key,
        metrics=METRICS,
      )

    def prepare(state: ModelState):
      labels = jnp.concatenate([self._labels, state.pseudo_labels])
      arrays = {"images": self._images, "labels": labels}
      if self._sampler == "random":
        stream = sampling.random(
          self._num_samples,
          self._recipe.batch_size,
          seed=self._seed,
          stage=name,
        )
      else:
        stream = sampling.class_balanced(
          np.asarray(labels)[: self._num_samples],
          self._recipe.batch_size,
          num_classes=self._num_classes,
          seed=self._seed,
          stage=name,
        )
      return arrays, stream

    def finish(state: ModelState, trained: TrainState | None) -> ModelState:
      assert trained is not None
      return state.replace(  # type: ignore[attr-defined]
        backbone=trained.params["backbone"],
        head=trained.params["head"],
        batch_stats=trained.batch_stats,
        memory=trained.memory,
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
      schedule=lambda step: self._schedule(step + start),
    )
