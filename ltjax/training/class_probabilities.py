"""Class probabilities: how often a sampler draws each class.

Uniform draws over the samples show class `j` with probability `n_j / N`. The
samplers here choose the class first, by another rule, and then one of its
samples uniformly. Of counts `[C]`, the samples of each class, a rule makes
probabilities float64 `[C]` of sum 1; a class without samples has 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math
from typing import Any

import numpy as np

from ltjax import require

NAMES = (
  "random",
  "class_balanced",
  "square_root",
  "power",
  "progressive",
  "reversed",
  "effective_number",
)


def power(counts: np.ndarray, *, q: float) -> np.ndarray:
  """Probabilities that follow a power of the class sizes.

  `p_j = n_j^q / sum_k n_k^q`: instance-balanced at 1, square-root at 0.5,
  class-balanced at 0, reversed at -1. No samples, or an infinite q, are a
  ValueError.

  Source: Kang et al. (2020), "Decoupling representation and classifier for
    long-tailed recognition", Section 3.
  """
  if not math.isfinite(q):
    raise ValueError(
      f"sampler.exponent is {q}; it must be finite: 1 follows the class sizes,"
      " 0 draws all classes alike, -1 the small ones most."
    )
  counts = _checked(counts)
  there = counts > 0
  # In logs, so that no power overflows.
  logs = q * np.log(np.where(there, counts, 1.0))
  return _normalized(np.where(there, np.exp(logs - logs[there].max()), 0.0))


def reversed_sizes(counts: np.ndarray) -> np.ndarray:
  """Probabilities inverse to the class sizes: the smallest class comes most.

  `p_j = (1 / n_j) / sum_k (1 / n_k)`.

  Source: Zhou et al. (2020), "BBN", the sampler of the re-balancing branch.
  """
  return power(counts, q=-1.0)


def progressive(counts: np.ndarray, *, done: float) -> np.ndarray:
  """Probabilities that move from instance-balanced to class-balanced.

  `p_j = (1 - t/T) n_j / N + (t/T) / C`, `C` counting the classes that are not
  empty, `t/T` in [0, 1] the share of the epochs that are `done`.

  Source: Kang et al. (2020), Section 3, progressively-balanced sampling.
  """
  return (1 - done) * power(counts, q=1.0) + done * power(counts, q=0.0)


def effective_number(counts: np.ndarray, *, beta: float) -> np.ndarray:
  """Probabilities of samples weighted by their class's effective number.

  A sample of class `j` is drawn in proportion to `(1 - beta) / (1 - beta^n_j)`,
  so `p_j ~ n_j (1 - beta) / (1 - beta^n_j)`: instance-balanced at `beta = 0`,
  class-balanced as `beta` nears 1. A beta outside [0, 1) is a ValueError.

  Source: Cui et al. (2019), "Class-balanced loss based on effective number of
    samples"; Cao et al. (2019), "LDAM", who resample by these weights.
  """
  require.within(
    "sampler.beta",
    beta,
    "[0, 1)",
    "such as 0.9999; 1 is the sampler 'class_balanced'",
  )
  counts = _checked(counts)
  there = counts > 0
  effective = 1 - beta ** np.where(there, counts, 1.0)
  return _normalized(np.where(there, counts / effective, 0.0))


def over_epochs(
  settings: Mapping[str, Any], counts: np.ndarray, *, epochs: int
) -> Callable[[int], np.ndarray]:
  """Returns the probabilities of each epoch: `epoch -> float64 [C]`, from 0.

  Args:
    settings: `name`, one of `NAMES`; `exponent` where it is "power", `beta`
      where it is "effective_number". "random": class sizes. Else a ValueError.
    counts: `[C]`, samples of each class.
    epochs: how many epochs there are, for "progressive".
  """
  name = settings["name"]
  require.choice("sampler.name", name, NAMES)
  if name == "progressive":
    return lambda epoch: progressive(counts, done=epoch / epochs)
  if name == "reversed":
    fixed = reversed_sizes(counts)
  elif name == "effective_number":
    fixed = effective_number(counts, beta=settings["beta"])
  else:
    known = {"random": 1.0, "class_balanced": 0.0, "square_root": 0.5}
    q = settings["exponent"] if name == "power" else known[name]
    fixed = power(counts, q=q)
  return lambda epoch: fixed


def _checked(counts: np.ndarray) -> np.ndarray:
  counts = np.asarray(counts, np.float64)
  if not np.any(counts > 0):
    raise ValueError("There is nothing to draw from: all classes are empty.")
  return counts


def _normalized(weights: np.ndarray) -> np.ndarray:
  return weights / weights.sum()
