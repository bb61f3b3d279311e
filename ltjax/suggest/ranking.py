"""How much a label of a picture would tell, as far as the model knows.

Scores are higher the sooner a picture should be labeled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ltjax import require
from ltjax.evaluation import checks


def margin(probabilities: np.ndarray) -> np.ndarray:
  """Returns `1 - (p_1 - p_2)` of the two most probable classes, `[M]`.

  Args:
    probabilities: `[M, C]`.

  Source: Scheffer, Decomain & Wrobel (2001), "Active hidden Markov models for
    information extraction".
  """
  given = np.sort(checks.distributions(probabilities), axis=1)
  return 1 - (given[:, -1] - given[:, -2])


def entropy(probabilities: np.ndarray) -> np.ndarray:
  """Returns `H(p) / log C`, in [0, 1], `[M]`.

  Args:
    probabilities: `[M, C]`.
  """
  given = checks.distributions(probabilities)
  logs = np.log(np.where(given > 0, given, 1))
  return -(given * logs).sum(1) / np.log(given.shape[1])


def rare(probabilities: np.ndarray, few: Sequence[int]) -> np.ndarray:
  """Returns the probability to be of a few-shot class, `[M]`.

  Args:
    probabilities: `[M, C]`.
    few: these classes; a ValueError if there are none.
  """
  given = checks.distributions(probabilities)
  if not len(few):
    raise ValueError("There are no few-shot classes to look for.")
  return given[:, list(few)].sum(1)


def coreset(
  features: np.ndarray, known: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses pictures that lie far from all known ones: k-center, greedily.

  The farthest from what is known or chosen comes next, and so on: no picture is
  then farther from one of them than twice the best choice could reach.

  Args:
    features: `[M, D]`.
    known: `[N, D]`, of labeled images; N may be 0.
    number: k; at most M are chosen.

  Returns:
    The chosen, int64 `[k]`, and their distances as they were chosen, `[k]`;
    infinite for the first, where nothing is known.

  Source: Sener & Savarese (2018), "Active learning for convolutional neural
    networks: a core-set approach", Algorithm 1.
  """
  require.at_least("number", number, 1)
  x = np.asarray(features, np.float32)
  squares = np.einsum("md,md->m", x, x)
  nearest = np.full(len(x), np.inf, np.float32)

  def near(centers: np.ndarray) -> np.ndarray:
    lengths = np.einsum("nd,nd->n", centers, centers)
    return squares[:, None] - 2 * x @ centers.T + lengths[None]

  for first in range(0, len(known), 1024):
    block = np.asarray(known[first : first + 1024], np.float32)
    nearest = np.minimum(nearest, near(block).min(1))
  chosen, distances = [], []
  for _ in range(min(number, len(x))):
    best = int(np.argmax(nearest))
    chosen.append(best)
    distances.append(np.sqrt(max(float(nearest[best]), 0.0)))
    nearest = np.minimum(nearest, near(x[best : best + 1])[:, 0])
    nearest[best] = -np.inf
  return np.array(chosen, np.int64), np.array(distances)
