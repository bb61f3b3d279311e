"""The best linear classifier of frozen features: convex, so solved to its end.

The whole labeled set in each evaluation, L-BFGS, and an L2 penalty that is
chosen by itself, on validation images or by cross-validation. It is judged by
the mean over classes of the likelihood, which a rare class weighs in as any
other, and which tells more than the accuracy of a handful of images.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax.training import inference, sampling
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

GRID = tuple(10.0**n for n in np.arange(-5, 0.5, 0.5))
# `(logits [N, C], labels [N], counts [C], weights [N]) -> []`.
Loss = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def fit(
  features: jax.Array,
  labels: jax.Array,
  weights: jax.Array,
  *,
  l2: jax.Array | float,
  head: Any,
  apply: Callable[[Any, jax.Array], jax.Array],
  loss: Loss,
  steps: int,
) -> Any:
  """Returns the head that minimizes `loss + l2 / 2 |kernel|^2`.

  Args:
    features: fp32 `[N, D]`.
    labels: int32 `[N]`.
    weights: fp32 `[N]`, 0 for examples that are left out.
    l2: the penalty; traced, so that several can be solved by `vmap`.
    head: parameters to begin from, `kernel [D, C]` among them.
    apply: `(head, features) -> logits`.
    loss: of all examples, and of the class counts of those with weights.
    steps: iterations at most.
  """
  num_classes = head["kernel"].shape[1]
  counts = weights @ jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)

  def objective(params: Any) -> jax.Array:
    value = loss(apply(params, features), labels, counts, weights)
    return value + l2 / 2 * jnp.sum(jnp.square(params["kernel"]))

  solver = optax.lbfgs(memory_size=20)
  value_and_grad = optax.value_and_grad_from_state(objective)

  def moves(carry: Any) -> jax.Array:
    step, _, state = carry
    grad = optax.tree.norm(optax.tree.get(state, "grad"))
    return (step == 0) | ((step < steps) & (grad > 1e-6))

  def move(carry: Any) -> Any:
    step, params, state = carry
    value, grad = value_and_grad(params, state=state)
    updates, state = solver.update(
      grad, state, params, value=value, grad=grad, value_fn=objective
    )
    return step + 1, optax.apply_updates(params, updates), state

  carry = (jnp.int32(0), head, solver.init(head))
  return jax.lax.while_loop(moves, move, carry)[1]


def folds(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
  """Returns the fold of each image, int32 `[N]`, each class spread evenly.

  A class of one image is in no fold (-1): it is always trained on.

  Args:
    labels: `[N]`.
    count: of folds.
    seed: of the order within a class.
  """
  found = np.full(len(labels), -1, np.int32)
  rng = sampling.generator(seed, "linear/folds", 0)
  for label in np.unique(labels):
    own = rng.permutation(np.flatnonzero(labels == label))
    if len(own) > 1:
      found[own] = (np.arange(len(own)) + rng.integers(count)) % count
  return found


def class_mean_nll(
  logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> jax.Array:
  """Returns the mean over classes of the mean negative log-likelihood, `[]`.

  Args:
    logits: fp32 `[N, C]`.
    labels: int32 `[N]`.
    weights: `[N]`, 1 for the examples that count, else 0.
  """
  nll = -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]
  member = jax.nn.one_hot(labels, logits.shape[1], dtype=jnp.float32)
  member = member * weights[:, None]
  counts = jnp.sum(member, 0)
  means = (nll @ member) / jnp.maximum(counts, 1)
  return jnp.sum(means) / jnp.maximum(jnp.sum(jnp.float32(counts > 0)), 1)


def make(
  name: str,
  predictor: inference.Predictor,
  *,
  images: jax.Array,
  labels: jax.Array,
  validation: tuple[jax.Array, np.ndarray],
  loss: Loss,
  offset: np.ndarray,
  l2: float | None,
  num_folds: int,
  steps: int,
  seed: int,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> Stage:
  """Returns the stage that makes both heads the best linear classifier.

  Args:
    name: the stage's name.
    predictor: runs the network.
    images: of the labeled set.
    labels: int32 `[N]`.
    validation: images and labels, to choose the penalty on; if there are none,
      it is chosen by cross-validation.
    loss: what is minimized.
    offset: `[C]`, added to the logits where a penalty is judged: what makes
      them those of a balanced world.
    l2: the penalty; None to choose it from `GRID`.
    num_folds: of the cross-validation.
    steps: iterations at most.
    seed: of the folds.
    key: of the head to begin from.
    report: rows to write when the stage is over.
  """
  model, found = predictor.model, {}
  solve = functools.partial(fit, apply=model.head_apply, loss=loss, steps=steps)
  grid = jnp.array(GRID, jnp.float32)

  @jax.jit
  def scores(x, y, weights, held_x, held_y, held, head):
    """Class-mean likelihoods `[G]` on what was held out."""

    def score(penalty):
      solved = solve(x, y, weights, l2=penalty, head=head)
      logits = model.head_apply(solved, held_x) + offset[None]
      return class_mean_nll(logits, held_y, held)

    return jax.lax.map(score, grid)

  solved = jax.jit(
    lambda x, y, w, penalty, head: solve(x, y, w, l2=penalty, head=head)
  )

  def choose(x: jax.Array, y: jax.Array, head: Any, state: ModelState) -> float:
    ones = jnp.ones(len(y), jnp.float32)
    if len(validation[1]):
      held_x = predictor.features(state, validation[0])
      held_y = jnp.asarray(validation[1], jnp.int32)
      held = jnp.ones(len(held_y), jnp.float32)
      curve = np.asarray(scores(x, y, ones, held_x, held_y, held, head))
    else:
      fold = jnp.asarray(folds(np.asarray(y), num_folds, seed))
      curve = np.mean(
        [
          scores(
            x, y, *(jnp.float32(fold != n), x, y, jnp.float32(fold == n), head)
          )
          for n in range(num_folds)
        ],
        axis=0,
      )
    found.update(grid=list(GRID), nll=[float(v) for v in curve])
    return GRID[int(np.argmin(curve))]

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None
    x, y = predictor.features(state, images), jnp.asarray(labels)
    head = jax.tree.map(jnp.zeros_like, model.head_init(key))
    chosen = choose(x, y, head, state) if l2 is None else l2
    found["l2"] = chosen
    ones = jnp.ones(len(y), jnp.float32)
    head = solved(x, y, ones, jnp.float32(chosen), head)
    return state.replace(  # type: ignore[attr-defined]
      head=head, balanced_head=jax.tree.map(jnp.copy, head)
    )

  return Stage(
    name=name,
    finish=finish,
    report=lambda state: [{"kind": "l2", **found}, *report(state)],
  )
