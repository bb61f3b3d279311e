"""Labels spread over a graph of neighbors, and a classifier of all of them.

Nearest neighbors, labeled or not, are joined, and labels flow along the edges
until they are at rest. How sure an image's label is follows from the entropy of
what reached it.

Source: Iscen et al. (2019), "Label propagation for deep semi-supervised
  learning", Sections 3 and 4; the labels of a class sum to 1, as in their code,
  so that a frequent one does not flood the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from ltjax import require
from ltjax.geometry import neighbors as nearest
from ltjax.stages import linear
from ltjax.training import inference
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

_CHUNK = 512  # images whose neighbors are sought at a time


def graph(
  features: jax.Array, *, neighbors: int, gamma: float
) -> sparse.csr_array:
  """Returns the normalised affinities `D^-1/2 (A + A^T) D^-1/2`, `[N, N]`.

  `A_ij = max(cosine, 0)^gamma` where j is one of the nearest of i, else 0.

  Args:
    features: `[N, D]`.
    neighbors: of each image, below N.
    gamma: 1 or more; large ones let near neighbors count more.
  """
  x, count = nearest.unit(features), len(features)

  @jax.jit
  def near(first: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows = jnp.minimum(first + jnp.arange(_CHUNK), count - 1)
    cosines = jnp.matmul(x[rows], x.T, precision=jax.lax.Precision.HIGHEST)
    itself = rows[:, None] == jnp.arange(count)[None]
    return jax.lax.top_k(jnp.where(itself, -jnp.inf, cosines), neighbors)

  found = [near(jnp.int32(n)) for n in range(0, count, _CHUNK)]
  cosines, columns = (
    np.concatenate([np.asarray(part[n]) for part in found])[:count]
    for n in (0, 1)
  )
  values = np.maximum(cosines.astype(np.float64), 0) ** gamma
  rows = np.repeat(np.arange(count), neighbors)
  edges = sparse.coo_array(
    (values.ravel(), (rows, columns.ravel())), shape=(count, count)
  ).tocsr()
  edges = edges + edges.T
  degrees = np.maximum(edges.sum(axis=1), 1e-12)
  scale = sparse.diags_array(degrees**-0.5)
  return (scale @ edges @ scale).tocsr()


def propagate(
  affinities: Any, labels: np.ndarray, *, alpha: float, iterations: int
) -> np.ndarray:
  """Returns what reaches each image of each class, `(1 - alpha W)^-1 Y`.

  By conjugate gradients, each class on its own; float64 `[N, C]`, 0 or more.

  Args:
    affinities: W, symmetric `[N, N]`, of `graph`.
    labels: `[L, C]`, of the first images: each class sums to 1, or is 0.
    alpha: in (0, 1); how far labels flow.
    iterations: of conjugate gradients at most.
  """
  target = np.zeros((affinities.shape[0], labels.shape[1]))
  target[: len(labels)] = labels
  found, residual = np.zeros_like(target), target.copy()
  direction, size = residual.copy(), np.sum(residual**2, axis=0)
  for _ in range(iterations):
    if size.max() < 1e-20:
      break
    moved = direction - alpha * (affinities @ direction)
    curve = np.sum(direction * moved, axis=0)
    step = np.divide(size, curve, where=curve > 0, out=np.zeros_like(size))
    found += step * direction
    residual -= step * moved
    before, size = size, np.sum(residual**2, axis=0)
    ratio = np.divide(size, before, where=before > 0, out=np.zeros_like(size))
    direction = residual + ratio * direction
  return np.maximum(found, 0)


def certainty(reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns labels int32 `[N]`, -1 where nothing came, and how sure they are.

  Sure is `1 - H(z) / log C` of the shares z of what reached an image.

  Args:
    reached: `[N, C]`, of `propagate`.
  """
  total = reached.sum(axis=1, keepdims=True)
  shares = np.divide(
    reached, total, where=total > 0, out=np.full_like(reached, np.nan)
  )
  logs = np.log(np.where(shares > 0, shares, 1))
  sure = 1 + np.sum(shares * logs, axis=1) / np.log(reached.shape[1])
  none = total[:, 0] <= 0
  labels = np.where(none, -1, reached.argmax(axis=1)).astype(np.int32)
  return labels, np.where(none, 0, np.clip(sure, 0, 1))


def weigh(labels: np.ndarray, sure: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns the weights of images in the loss, float32 `[N]`.

  `sure` over the images of the class, of mean 1 over those with a label.

  Args:
    labels: int `[N]`, -1 for none.
    sure: `[N]`, 1 for given labels.
    num_classes: C.
  """
  known = labels >= 0
  counts = np.bincount(labels[known], minlength=num_classes)
  weights = np.where(known, sure / np.maximum(counts, 1)[labels], 0)
  return (weights * known.sum() / weights.sum()).astype(np.float32)


def make(
  name: str,
  predictor: inference.Predictor,
  solver: linear.Solver,
  *,
  images: jax.Array,
  labels: jax.Array,
  neighbors: int,
  gamma: float,
  alpha: float,
  iterations: int,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> Stage:
  """Returns the stage that labels the pool and fits both heads to all labels.

  Args:
    name: the stage's name.
    predictor: runs the network.
    solver: of the classifier.
    images: all of them, the labeled ones first; the graph is of plain views.
    labels: int32 `[N]`, of the labeled images.
    neighbors, gamma, alpha, iterations: as of `graph` and `propagate`.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if there are no unlabeled images, or too few images.
  """
  count, num_classes = len(labels), predictor.model.num_classes
  require.at_least("Unlabeled images to label", len(images) - count, 1)
  if neighbors >= len(images):
    raise ValueError(
      f"propagation.neighbors is {neighbors}, and there are {len(images)}"
      " images; set --config.propagation.neighbors to fewer."
    )

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None
    given = np.asarray(labels)
    known = np.eye(num_classes)[given]
    known /= np.maximum(known.sum(axis=0), 1)
    reached = propagate(
      graph(
        predictor.features(state, images), neighbors=neighbors, gamma=gamma
      ),
      known,
      alpha=alpha,
      iterations=iterations,
    )
    found, sure = certainty(reached[count:])
    every = np.concatenate([given, found])
    weights = weigh(every, np.append(np.ones(count), sure), num_classes)
    state = state.replace(  # type: ignore[attr-defined]
      pseudo_labels=jax.device_put(found, state.pseudo_labels.sharding)
    )
    return solver.fitted(state, jnp.asarray(every), jnp.asarray(weights))

  return Stage(
    name=name,
    finish=finish,
    report=lambda state: [*solver.rows(), *report(state)],
  )
