"""Linear classifiers of features on images that they did not learn from.

The images are cut into folds; what is said of the images of a fold is said by
a classifier of the others. The penalty of a fold is the best on the images of
the other folds, so that none is judged by a number chosen on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.models import heads
from ltjax.stages import linear

# Every other of those that training chooses from, the strongest first.
GRID = tuple(reversed(linear.GRID[::2]))
STEPS = 50  # of L-BFGS for each penalty, each begun at the end of the last
Heads = list[list[heads.HeadParams]]


class Held(NamedTuple):
  """What is said of images held out.

  Attributes:
    logits: float32 `[N, C]`; 0 where an image is in no fold.
    penalties: of the folds.
  """

  logits: np.ndarray
  penalties: tuple[float, ...]


def folds(
  labels: np.ndarray, groups: np.ndarray | None, count: int, *, seed: int
) -> np.ndarray:
  """Returns the fold of each image, int32 `[N]`; -1 to be in none.

  Classes are spread evenly, and a group is in one fold. A class of one image,
  or one group, is always learned from, as nothing else shows it.

  Args:
    labels: int `[N]`.
    groups: int `[N]`, what images have in common; None for nothing.
    count: of folds, 2 or more.
    seed: of the draw.
  """
  if groups is None:
    return linear.folds(labels, count, seed)
  found = np.full(len(labels), -1, np.int32)
  sizes = np.bincount(labels)
  rng = np.random.default_rng(seed)
  members = np.zeros((count, len(sizes)))
  order, number = np.unique(groups, return_inverse=True)
  by_group = np.zeros((len(order), len(sizes)))
  np.add.at(by_group, (number, labels), 1)
  several = (by_group > 0).sum(0) > 1
  # Large groups first, each to where its classes are rarest yet.
  shares = by_group / np.maximum(sizes, 1)
  shuffled = rng.permutation(len(order))
  for group in shuffled[np.argsort(-shares[shuffled].sum(1), kind="stable")]:
    if not several[by_group[group] > 0].all():
      continue
    spread = ((members + shares[group]) ** 2).sum(1) - (members**2).sum(1)
    best = int(np.argmin(spread))
    members[best] += shares[group]
    found[number == group] = best
  return found


def solve(
  x: np.ndarray | jax.Array,
  labels: np.ndarray,
  fold: np.ndarray,
  *,
  num_classes: int,
  loss: linear.Loss,
  grid: Sequence[float] = GRID,
  keep: np.ndarray | None = None,
) -> Heads:
  """Returns linear classifiers by fold and penalty, of all other images.

  Args:
    x: fp32 `[N, D]`.
    labels: int `[N]`.
    fold: `[N]`, as of `folds`.
    num_classes: C.
    loss: what is minimized.
    grid: penalties, the strongest first.
    keep: bool `[N]`, images to learn from at all; None for all.
  """
  x, y = jnp.asarray(x, jnp.float32), jnp.asarray(labels, jnp.int32)
  step = solver(loss)
  found: Heads = []
  for held in range(fold.max(initial=-1) + 1):
    learned = fold != held
    weights = jnp.asarray(learned if keep is None else learned & keep, x.dtype)
    head = zeros(x.shape[1], num_classes)
    found.append([])
    for penalty in grid:
      head = step(head, x, y, weights, jnp.float32(penalty))
      found[-1].append(head)
  return found


def zeros(dim: int, num_classes: int) -> heads.HeadParams:
  """Returns the linear head that says nothing.

  Args:
    dim, num_classes: D and C.
  """
  return {
    "kernel": jnp.zeros((dim, num_classes), jnp.float32),
    "bias": jnp.zeros((num_classes,), jnp.float32),
  }


def apply(head: heads.HeadParams, x: jax.Array) -> jax.Array:
  """Returns the logits of a linear head, `[N, C]`.

  Args:
    head: `kernel` and `bias`.
    x: `[N, D]`.
  """
  return x @ head["kernel"] + head["bias"][None]


@functools.lru_cache(maxsize=16)
def solver(loss: linear.Loss, steps: int = STEPS) -> Callable[..., Any]:
  """Returns `(head, x, labels, weights, l2) -> head`, compiled.

  Args:
    loss: what is minimized; a function of its own each time compiles anew.
    steps: at most.
  """

  @jax.jit
  def solve(head, x, y, weights, l2):
    return linear.fit(
      *(x, y, weights),
      l2=l2,
      head=head,
      apply=apply,
      loss=loss,
      steps=steps,
    )

  return solve


def choose(
  logits: Callable[[int, int, np.ndarray], np.ndarray],
  labels: np.ndarray,
  fold: np.ndarray,
  *,
  num_classes: int,
  grid: Sequence[float] = GRID,
  offset: np.ndarray | float = 0.0,
) -> tuple[Held, list[int]]:
  """Returns what is said of each image, by the penalty of its fold.

  Args:
    logits: `(fold, place in grid, images) -> [M, C]`.
    labels: int `[N]`.
    fold: `[N]`, as of `folds`.
    num_classes: C.
    grid: penalties, the strongest first.
    offset: `[C]`, added where a penalty is judged, by the mean of the classes'
      accuracies: what makes logits those of a balanced world.

  Returns:
    The logits, without the offset; and the place of each fold's penalty.
  """
  count = fold.max(initial=-1) + 1
  every = np.zeros((len(grid), len(labels), num_classes), np.float32)
  for held in range(count):
    own = np.flatnonzero(fold == held)
    for place in range(len(grid)):
      every[place, own] = logits(held, place, own)
  right = (every + offset).argmax(2) == labels
  places, said = [], np.zeros(every.shape[1:], np.float32)
  for held in range(count):
    others = (fold >= 0) & (fold != held)
    scores = linear.class_mean(right[:, others], labels[others])
    places.append(int(np.argmax(scores)))  # the strongest among equals
    own = fold == held
    said[own] = every[places[-1], own]
  return Held(said, tuple(grid[place] for place in places)), places


def cross_entropy(
  logits: jax.Array, labels: jax.Array, counts: jax.Array, weights: jax.Array
) -> jax.Array:
  """The mean cross-entropy, `sum_i w_i l_i / N`, fp32 `[]`.

  Args:
    logits: `[N, C]`.
    labels: int `[N]`.
    counts: `[C]`, not read.
    weights: `[N]`.
  """
  del counts
  logs = jax.nn.log_softmax(logits)
  return -jnp.mean(
    weights * jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]
  )


def probabilities(
  x: np.ndarray | jax.Array,
  labels: np.ndarray,
  *,
  num_classes: int,
  groups: np.ndarray | None = None,
  count: int = 5,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns probabilities of each image, by classifiers that did not see it.

  By cross-entropy, so that they are those of the world of the labels.

  Args:
    x: `[N, D]` features.
    labels: int `[N]`.
    num_classes: C.
    groups, count, seed: as of `folds`.

  Returns:
    float64 `[N, C]`, and bool `[N]`, those that were held out.
  """
  x = jnp.asarray(x, jnp.float32)
  fold = folds(labels, groups, count, seed=seed)
  found = solve(x, labels, fold, num_classes=num_classes, loss=cross_entropy)
  counts = np.bincount(labels, minlength=num_classes)
  held, _ = choose(
    lambda f, place, own: np.asarray(apply(found[f][place], x[own])),
    labels,
    fold,
    num_classes=num_classes,
    offset=-np.log(np.maximum(counts, 1)),
  )
  z = held.logits.astype(np.float64)
  z -= z.max(1, keepdims=True)
  given = np.exp(z)
  return given / given.sum(1, keepdims=True), fold >= 0
