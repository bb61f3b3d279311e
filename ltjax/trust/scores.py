"""How likely an image is of none of the classes, from its logits."""

from __future__ import annotations

import numpy as np
from scipy import special


def energy(logits: np.ndarray) -> np.ndarray:
  """Returns `log sum_c exp z_c`, float64 `[T]`: the negative free energy.

  The lower, the less the image is like those trained on. Logits that differ by
  a constant differ in it, while their probabilities are the same.

  Args:
    logits: z, `[T, C]`.

  Raises:
    ValueError: if they have another shape or are not finite.

  Source: Liu et al. (2020), "Energy-based out-of-distribution detection",
    equation 4 at T = 1, with the sign of a score.

  Example:
    >>> energy(np.zeros((1, 4))).round(4)
    array([1.3863])
  """
  return special.logsumexp(_checked(logits), axis=1)


def max_logit(logits: np.ndarray) -> np.ndarray:
  """Returns `max_c z_c`, float64 `[T]`, lower where an image is strange.

  Args:
    logits: z, `[T, C]`.

  Raises:
    ValueError: if they have another shape or are not finite.

  Source: Hendrycks et al. (2022), "Scaling out-of-distribution detection for
    real-world settings", Section 3.
  """
  return _checked(logits).max(1)


def _checked(logits: np.ndarray) -> np.ndarray:
  found = np.asarray(logits, np.float64)
  if found.ndim != 2 or not found.shape[1] or not np.isfinite(found).all():
    raise ValueError(
      f"logits have shape {found.shape}; they must be [T, C] and finite."
    )
  return found
