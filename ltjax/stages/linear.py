"""The best linear classifier of frozen features: convex, so solved to its end.

The whole labeled set in each evaluation, L-BFGS, and an L2 penalty that is
chosen by itself, on validation images or by cross-validation: the best mean of
the classes' accuracies. (By the likelihood weaker penalties look better, which
cost the rare classes; seen on CIFAR-10 at rho 100.)
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

GRID = tuple(10.0**n for n in np.arange(-5, -0.5, 0.5))
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


def class_mean(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns means over images of each class, then over classes, `[G]`.

  Args:
    values: `[G, N]`.
    labels: `[N]`; classes without image do not count.
  """
  own = [values[:, labels == label].mean(1) for label in np.unique(labels)]
  return np.mean(own, axis=0)


class Solver:
  """Makes stages that find the best linear classifier, of one penalty.

  Args:
    predictor: runs the network.
    images: `[N + M, V, 1, D]`, features of V views, labeled images first; all
      views are learned from.
    labels: int32 `[N]`.
    validation: images and labels to choose the penalty on; if there are none,
      it is chosen by cross-validation.
    loss: what is minimized.
    offset: `[C]`, added to the logits where a penalty is judged: what makes
      them those of a balanced world.
    l2: the penalty; None to choose it from `GRID`.
    folds: of the cross-validation.
    steps: iterations at most.
    seed: of the folds.
  """

  def __init__(
    self,
    predictor: inference.Predictor,
    *,
    images: jax.Array,
    labels: jax.Array,
    validation: tuple[jax.Array, np.ndarray],
    loss: Loss,
    offset: np.ndarray,
    l2: float | None,
    folds: int,
    steps: int,
    seed: int,
  ):
    self._predictor = predictor
    self._images, self._labels = images, labels
    self._validation, self._folds, self._seed = validation, folds, seed
    self._l2 = l2
    self._row: dict[str, Any] = {"kind": "l2", "l2": l2}
    model = predictor.model
    # Convex: where it begins is of no account, and 0 the same for all.
    shapes = jax.eval_shape(model.head_init, jax.random.key(0))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def solve(
      x: jax.Array, y: jax.Array, w: jax.Array, l2: jax.Array, most: int
    ) -> Any:
      settings = {"head": zeros, "apply": model.head_apply, "loss": loss}
      return fit(x, y, w, l2=l2, steps=most, **settings)

    def right(x: jax.Array, y: jax.Array, w: jax.Array, held: Any) -> Any:
      """Whether each held-out image is recognised, by penalty, `[G, M]`."""
      images, labels = held

      def score(l2: jax.Array) -> jax.Array:
        # To compare penalties it need not come to its end.
        head = solve(x, y, w, l2, -(-steps // 4))
        logits = model.head_apply(head, images) + offset[None]
        return jnp.argmax(logits, 1) == labels

      return jax.lax.map(score, jnp.array(GRID, jnp.float32))

    self._solve = jax.jit(functools.partial(solve, most=steps))
    self._right = jax.jit(right)

  def penalty(self, state: ModelState) -> float:
    """Returns the penalty, chosen at the first call if it is not given.

    Of equally good ones it is the strongest.
    """
    if self._l2 is None:
      x, y = self._learned(state, self._labels)
      if len(self._validation[1]):
        images, labels = self._validation
        held = (self._predictor.features(state, images), jnp.asarray(labels))
        found = self._right(x, y, jnp.ones(len(y), jnp.float32), held)
      else:
        labels = np.asarray(self._labels)
        held = (x[: len(labels)], y[: len(labels)])  # plain images
        fold = folds(labels, self._folds, self._seed)
        learned = np.tile(fold, len(y) // len(fold))
        found = np.zeros((len(GRID), len(labels)), bool)
        for n in range(self._folds):
          right = self._right(x, y, np.float32(learned != n), held)
          found |= np.asarray(right) & (fold == n)[None]
        found, labels = found[:, fold >= 0], labels[fold >= 0]
      scores = class_mean(np.asarray(found, np.float64), np.asarray(labels))
      best = len(GRID) - 1 - int(np.argmax(scores[::-1]))
      self._l2 = GRID[best]
      self._row |= {
        "l2": self._l2,
        "grid": list(GRID),
        "accuracy": scores.tolist(),
      }
    return self._l2

  def _learned(
    self, state: ModelState, labels: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns features and labels of all views of the first images."""
    images = self._images[: len(labels)]
    views = [
      self._predictor.features(state, images[:, n : n + 1])
      for n in range(images.shape[1])
    ]
    return jnp.concatenate(views), jnp.tile(labels, len(views))

  def make(
    self,
    name: str,
    *,
    data: str,
    report: Callable[[ModelState], list[dict[str, Any]]],
  ) -> Stage:
    """Returns the stage that makes both heads the best linear classifier.

    Args:
      name: the stage's name.
      data: the `labeled` images, or `all`, of which those without pseudo label
        (-1) do not count.
      report: rows to write when the stage is over.
    """

    def finish(state: ModelState, trained: TrainState | None) -> ModelState:
      assert trained is None
      labels = self._labels
      if data == "all":
        labels = jnp.concatenate([labels, state.pseudo_labels])
      return self.fitted(state, labels, jnp.float32(labels >= 0))

    return Stage(
      name=name,
      finish=finish,
      report=lambda state: [*self.rows(), *report(state)],
    )

  def fitted(
    self, state: ModelState, labels: jax.Array, weights: jax.Array
  ) -> ModelState:
    """Returns the state with both heads the best linear classifier.

    Args:
      state: the network.
      labels: int32 `[N']`, of the first images; -1 for none.
      weights: fp32 `[N']`, 0 where there is no label.
    """
    l2 = self.penalty(state)
    x, y = self._learned(state, labels)
    views = len(y) // len(labels)
    weights = jnp.tile(weights, views)
    # The loss is a mean: a penalty chosen for the labeled images weighs as much
    # against more of them if it falls with their number.
    share = views * len(self._labels) / jnp.sum(weights)
    head = self._solve(x, jnp.maximum(y, 0), weights, l2 * share)
    return state.replace(  # type: ignore[attr-defined]
      head=head, balanced_head=jax.tree.map(jnp.copy, head)
    )

  def rows(self) -> list[dict[str, Any]]:
    """Returns the row on the penalty, of a stage's report."""
    return [dict(self._row)]
