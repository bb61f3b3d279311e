"""Theorems 2 and 3 of Yang & Xu: two Gaussians that differ in scale only.

Class +1 (the minor one) is `N(0, sigma_1^2 I)`, class -1 is
`N(0, beta sigma_1^2 I)`, in `d` dimensions. No linear classifier of the raw
input can do well (Theorem 2); one of the squared norm, which stands for a
self-supervised feature, can (Theorem 3). Here are the printed bounds, the exact
errors, and draws.

Source: Yang and Xu, Rethinking the Value of Labels for Improving
Class-Imbalanced Learning, 2020, section 4.1.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

Array = np.ndarray


def linear_error(margin: Array, *, p_plus: float, beta: float) -> Array:
  """Returns the error of a linear classifier on raw inputs, as in Theorem 2.

  Args:
    margin: `b / (|theta| sigma_1)`, of any shape and sign.
    p_plus: probability of the class +1, the one of variance `sigma_1^2`.
    beta: the variance of the class -1, in units of `sigma_1^2`.
  """
  margin = np.asarray(margin, np.float64)
  wrong_minus = special.ndtr(margin / math.sqrt(beta))
  return p_plus * special.ndtr(-margin) + (1 - p_plus) * wrong_minus


def best_margin(*, p_plus: float, beta: float) -> float:
  """Returns the margin `>= 0` of least error.

  The derivative vanishes at `m^2 = 2 log(sqrt(beta) p_+ / p_-) / (1 - 1/beta)`;
  where the logarithm is negative the error grows from `m = 0` on.

  Args:
    p_plus: probability of the class +1.
    beta: ratio of the variances, above 1.
  """
  log = math.log(math.sqrt(beta) * p_plus / (1 - p_plus))
  return math.sqrt(max(2 * log / (1 - 1 / beta), 0.0))


def least_linear_error(
  *, p_plus: float, beta: float, any_sign: bool = False
) -> float:
  """Returns the infimum of `linear_error` over the intercept.

  Args:
    p_plus: probability of the class +1.
    beta: ratio of the variances, above 1.
    any_sign: over all `b`; else over `b >= 0`, as the theorem wants. With
      `b` to minus infinity everything is called -1, an error of `p_plus`.
  """
  margin = np.array(best_margin(p_plus=p_plus, beta=beta))
  least = float(linear_error(margin, p_plus=p_plus, beta=beta))
  return min(least, p_plus) if any_sign else least


def linear_mistakes(
  rng: np.random.Generator,
  theta: Array,
  b: float,
  *,
  p_plus: float,
  beta: float,
  sigma: float,
  trials: int,
) -> int:
  """Counts the mistakes of `sign(<theta, x> + b)` on drawn images.

  Args:
    rng: the source of randomness.
    theta: `[d]`, the weights.
    b: the intercept.
    p_plus: probability of the class +1.
    beta: ratio of the variances.
    sigma: `sigma_1`, standard deviation of the class +1.
    trials: how many images.
  """
  positive = rng.random(trials) < p_plus
  scale = sigma * np.where(positive, 1.0, math.sqrt(beta))
  x = scale[:, None] * rng.standard_normal((trials, len(theta)))
  return int(np.sum((x @ theta + b > 0) != positive))


def theorem3_bound(
  d: int, *, delta: float, beta: float, p_plus: float
) -> float:
  """Returns Theorem 3's bound on the error of the classifier on squared norms.

  Args:
    d: dimensions.
    delta: in `(0, (beta - 1) / (beta + 1))`.
    beta: ratio of the variances.
    p_plus: probability of the class +1.

  Raises:
    ValueError: if `delta` is outside its interval.
  """
  room = beta - 1 - (1 + beta) * delta
  if delta <= 0 or room <= 0:
    raise ValueError(
      f"delta is {delta}; Theorem 3 needs it between 0 and"
      f" {(beta - 1) / (beta + 1):.4f} for beta {beta}."
    )
  # Below (beta - 3) / (beta + 1) the tail of the chi-square is exponential.
  fast = room**2 / 32 if delta >= (beta - 3) / (beta + 1) else room / 16
  plus = p_plus * math.exp(-d * fast)
  return plus + (1 - p_plus) * math.exp(-d * room**2 / (32 * beta**2))


def theorem3_failure(
  d: int, n_plus: int, n_minus: int, *, delta: float
) -> float:
  """Returns Theorem 3's bound on the probability that its bound fails.

  Args:
    d: dimensions.
    n_plus: labeled images of class +1.
    n_minus: labeled images of class -1.
    delta: as in `theorem3_bound`.
  """
  rate = d * delta**2 / 8
  return 2 * math.exp(-rate * n_minus) + 2 * math.exp(-rate * n_plus)


def smallest_delta(
  d: int, n_plus: int, n_minus: int, *, failure: float
) -> float:
  """Returns the `delta` at which `theorem3_failure` is `failure`.

  Args:
    d: dimensions.
    n_plus: labeled images of class +1.
    n_minus: labeled images of class -1.
    failure: a probability, such as 0.05.
  """
  low, high = 0.0, 1.0
  while theorem3_failure(d, n_plus, n_minus, delta=high) > failure:
    high *= 2
  for _ in range(60):
    middle = (low + high) / 2
    above = theorem3_failure(d, n_plus, n_minus, delta=middle) > failure
    low, high = (middle, high) if above else (low, middle)
  return high


def mean_norms(
  rng: np.random.Generator,
  d: int,
  n_plus: int,
  n_minus: int,
  *,
  beta: float,
  trials: int,
) -> tuple[Array, Array]:
  """Draws both classes' mean squared norm over labeled sets.

  Args:
    rng: the source of randomness.
    d: dimensions.
    n_plus: labeled images of class +1.
    n_minus: labeled images of class -1.
    beta: ratio of the variances.
    trials: how many labeled sets.

  Returns:
    Two of float64 `[trials]`, in units of `d sigma_1^2`: about 1, about `beta`.
  """
  plus = rng.chisquare(n_plus * d, trials) / (n_plus * d)
  minus = rng.chisquare(n_minus * d, trials) / (n_minus * d)
  return plus, beta * minus


def norm_error(
  threshold: Array, d: int, *, beta: float, p_plus: float
) -> Array:
  """Returns the error of calling +1 what has a squared norm below a threshold.

  It is `f_ss = sign(-Z + b)` with `Z = k_1 |X|^2 + k_2`: both constants cancel.

  Args:
    threshold: in units of `d sigma_1^2`, of any shape.
    d: dimensions.
    beta: ratio of the variances.
    p_plus: probability of the class +1.
  """
  half = np.asarray(threshold, np.float64) * d / 2
  wrong_plus = special.gammaincc(d / 2, half)
  wrong_minus = special.gammainc(d / 2, half / beta)
  return p_plus * wrong_plus + (1 - p_plus) * wrong_minus


def bayes_threshold(d: int, *, beta: float, p_plus: float) -> float:
  """Returns the best threshold for `norm_error`; it may be negative.

  Args:
    d: dimensions.
    beta: ratio of the variances, above 1.
    p_plus: probability of the class +1.
  """
  prior = 2 * math.log(p_plus / (1 - p_plus)) / d
  return (prior + math.log(beta)) / (1 - 1 / beta)
