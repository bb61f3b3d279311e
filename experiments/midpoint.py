"""Theorem 1 of Yang & Xu: the midpoint of two classes, from pseudo labels.

Two Gaussians on a line. Unlabeled images have pseudo labels, right with
probability p among those called +1 and q among those called -1; the midpoint of
the two means is estimated from them. Here are the printed bound, a sharper one,
and draws from the model that both are about. What is drawn are the means, whose
distribution is known, which is exact and makes a million repetitions cheap.

A bound above 1 on a probability is vacuous; it is returned as it is.

Source: Yang and Xu, Rethinking the Value of Labels for Improving
Class-Imbalanced Learning, 2020, section 2.1.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

Array = np.ndarray


def theorem1_bound(
  n_plus: float, n_minus: float, *, delta: float, sigma: float, gap: float
) -> float:
  """Returns Theorem 1's bound on the probability of a miss.

  A miss is an estimate further than `delta` from its biased centre. The proof
  gives a third of `delta` to each of three sources of error: the Gaussian
  noise, and the share of right pseudo labels among the positive and among the
  negative ones (Hoeffding).

  Args:
    n_plus: images with pseudo label +1.
    n_minus: images with pseudo label -1.
    delta: the distance.
    sigma: standard deviation of each class.
    gap: `mu_1 - mu_2`.
  """
  both = n_plus * n_minus / (n_plus + n_minus)
  noise = 2 * math.exp(-2 * delta**2 / (9 * sigma**2) * both)
  rate = 8 * delta**2 / (9 * gap**2)
  shares = math.exp(-rate * n_plus) + math.exp(-rate * n_minus)
  return noise + 2 * shares


def sub_gaussian_bound(
  n_plus: float, n_minus: float, *, delta: float, sigma: float, gap: float
) -> float:
  """Returns a bound on the same probability, by adding variance proxies.

  The three errors are independent and sub-Gaussian, so that their proxies add:
  `(sigma^2 / 4 + gap^2 / 16) (1 / n_plus + 1 / n_minus)`. Not in the paper.

  Args:
    n_plus: images with pseudo label +1.
    n_minus: images with pseudo label -1.
    delta: the distance.
    sigma: standard deviation of each class.
    gap: `mu_1 - mu_2`.
  """
  proxy = (sigma**2 / 4 + gap**2 / 16) * (1 / n_plus + 1 / n_minus)
  return 2 * math.exp(-(delta**2) / (2 * proxy))


def estimates(
  rng: np.random.Generator,
  n_plus: int,
  n_minus: int,
  *,
  p: float,
  q: float,
  mu1: float,
  mu2: float,
  sigma: float,
  trials: int,
) -> Array:
  """Draws Theorem 1's estimate `theta_hat` of the midpoint of two classes.

  Args:
    rng: the source of randomness.
    n_plus: images with pseudo label +1.
    n_minus: images with pseudo label -1.
    p: probability that a pseudo label +1 is right, whatever the image.
    q: the same of -1.
    mu1: mean of the class +1.
    mu2: mean of the class -1.
    sigma: standard deviation of each class.
    trials: how many estimates.

  Returns:
    float64 `[trials]`; the expectation is
    `(mu1 + mu2 + (p - q) (mu1 - mu2)) / 2`.
  """
  right_plus = rng.binomial(n_plus, p, trials) / n_plus
  right_minus = rng.binomial(n_minus, q, trials) / n_minus
  plus = mu2 + (mu1 - mu2) * right_plus
  minus = mu1 + (mu2 - mu1) * right_minus
  spread = sigma * math.sqrt(1 / n_plus + 1 / n_minus)
  return (plus + minus + spread * rng.standard_normal(trials)) / 2


def precisions(cut: float, *, mu1: float, mu2: float, sigma: float) -> Array:
  """Returns `[p, q]` of pseudo labels `sign(x - cut)`, both classes equal.

  Args:
    cut: where the base classifier cuts the line.
    mu1: mean of the class +1.
    mu2: mean of the class -1.
    sigma: standard deviation of each class.
  """
  above = special.ndtr((np.array([mu1, mu2]) - cut) / sigma)
  below = 1 - above
  return np.array([above[0] / above.sum(), below[1] / below.sum()])


def cut_estimate(cut: float, *, mu1: float, mu2: float, sigma: float) -> float:
  """Returns what `theta_hat` tends to with pseudo labels `sign(x - cut)`.

  Unlike in Theorem 1 these depend on the image: the midpoint of the means
  above and below the cut, one step of 2-means.

  Args:
    cut: where the base classifier cuts the line.
    mu1: mean of the class +1.
    mu2: mean of the class -1.
    sigma: standard deviation of each class.
  """
  means = np.array([mu1, mu2])
  z = (means - cut) / sigma
  above = special.ndtr(z)
  density = sigma * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
  upper = (means * above + density).sum() / above.sum()
  lower = (means * (1 - above) - density).sum() / (1 - above).sum()
  return float(upper + lower) / 2
