"""Nearest neighbours: which class an embedding puts an image next to.

There is nothing to train and nothing to tune but `k`, so that the score is a
property of the embedding alone. Features are brought to length 1.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax import require
from ltjax.geometry import neighbors as nearest

# Similarities that a chunk of queries may hold: 64 MiB.
_CELLS = 2**24
_LARGEST_CHUNK = 512


def classify(
  queries: jax.Array,
  references: jax.Array,
  labels: jax.Array,
  *,
  neighbors: int,
  num_classes: int,
) -> np.ndarray:
  """Returns the class that most of the nearest references have, int32 `[Q]`.

  Of classes with equally many votes the one with the nearest reference wins.

  Args:
    queries: `[Q, D]` features, of any length above 0.
    references: `[R, D]` features.
    labels: integers `[R]` in `[0, C)`.
    neighbors: k, from 1 to R, else a ValueError.
    num_classes: C.

  Source: Kukleva et al. (2023), "Temperature schedules for self-supervised
    contrastive methods on long-tail data", Section 4.1, of k = 1 and 10.
  """
  return (
    probabilities(
      queries,
      references,
      labels,
      neighbors=neighbors,
      num_classes=num_classes,
    )
    .argmax(axis=1)
    .astype(np.int32)
  )


def probabilities(
  queries: jax.Array,
  references: jax.Array,
  labels: jax.Array,
  *,
  neighbors: int,
  num_classes: int,
) -> np.ndarray:
  """Returns each class's share of the k nearest votes, float32 `[Q, C]`.

  The winner has a thousandth of a vote more, so that the greatest share is that
  of `classify` also where votes are equal.

  Args:
    queries, references, labels, neighbors, num_classes: as of `classify`.
  """
  chex.assert_rank([queries, references, labels], [2, 2, 1])
  check(neighbors, len(references))
  chunk = max(1, min(_LARGEST_CHUNK, _CELLS // len(references)))
  outputs = []
  for first in range(0, len(queries), chunk):
    part = queries[first : first + chunk]
    padded = jnp.pad(part, ((0, chunk - len(part)), (0, 0)))
    shares = nearest.shares(
      padded, references, labels, neighbors=neighbors, num_classes=num_classes
    )
    outputs.append(np.asarray(shares)[: len(part)])
  return np.concatenate([np.zeros((0, num_classes), np.float32), *outputs])


def check(
  neighbors: int, num_references: int, field: str = "probe.neighbors"
) -> None:
  """Raises a ValueError unless k lies in 1 to R.

  Args:
    neighbors, num_references: k and R.
    field: of the config, for errors.
  """
  require.at_least(field, neighbors, 1)
  if neighbors > num_references:
    raise ValueError(
      f"{field} is {neighbors}, but there are only {num_references} images to"
      f" be a neighbor; set --config.{field} to {num_references} or less."
    )
