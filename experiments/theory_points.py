"""The points of `yang_xu_theory`: settings, draws, and bounds beside them.

A point is a record: `theorem` and `sweep` say which panel it belongs to,
`measured`, `low`, `high` and `trials` what was seen (a probability with its 95%
interval), `bound` what the paper prints.
"""

from __future__ import annotations

from collections.abc import Iterator
import math
from typing import Any

import numpy as np
from scipy import special

from experiments import midpoint, scale_mixture

# Theorem 1: means +1 and -1, so that the midpoint is 0, and sigma 1.
ENDS = {"mu1": 1.0, "mu2": -1.0, "sigma": 1.0}
BOUNDED = {"sigma": 1.0, "gap": 2.0}
SIZES = (20, 40, 80, 160, 320, 640, 1280, 2560, 5120)
RATIOS = (1, 2, 5, 10, 20, 50, 100)
CUTS = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)

# Theorem 2.
BETAS = (4.0, 10.0, 100.0)
MARGINS = (-4.0, -3.0, -2.0, -1.0, -0.5, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
NORMS = (0.1, 1.0, 10.0)

# Theorem 3.
DIMENSIONS = (2, 5, 10, 20, 50, 100, 200, 500)
FAILURE = 0.05
LABELED = 1000
POSITIVE = (1, 2, 5, 10, 20, 50, 100, 200, 500)

Record = dict[str, Any]


def interval(hits: int, trials: int) -> tuple[float, float]:
  """Returns the 95% Clopper-Pearson interval of a probability.

  Args:
    hits: how often it happened.
    trials: of how many.
  """
  low, high = 0.0, 1.0
  if hits > 0:
    low = float(special.betaincinv(hits, trials - hits + 1, 0.025))
  if hits < trials:
    high = float(special.betaincinv(hits + 1, trials - hits, 0.975))
  return low, high


def share(hits: int, trials: int) -> Record:
  """Returns a measured probability with its interval, for a record.

  Args:
    hits: how often it happened.
    trials: of how many.
  """
  low, high = interval(hits, trials)
  return {"measured": hits / trials, "low": low, "high": high, "trials": trials}


def theorem1(rng: np.random.Generator, trials: int) -> Iterator[Record]:
  """Yields misses over the number, the imbalance and the pseudo labels.

  Args:
    rng: the source of randomness.
    trials: repetitions of each point.
  """
  settings = [
    ("size", n // 2, n // 2, delta, 0.9, 0.7)
    for delta in (0.2, 0.4)
    for n in SIZES
  ]
  settings += [
    ("ratio", n - round(n / (1 + r)), round(n / (1 + r)), 0.4, 0.9, 0.7)
    for n in (400, 4000)
    for r in RATIOS
  ]
  settings += [
    ("difference", 1000, 1000, 0.2, 0.75 + half, 0.75 - half)
    for half in (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)
  ]
  for sweep, n_plus, n_minus, delta, p, q in settings:
    found = midpoint.estimates(
      rng, n_plus, n_minus, p=p, q=q, trials=trials, **ENDS
    )
    centre = p - q  # of the means +1 and -1
    misses = int(np.sum(np.abs(found - centre) > delta))
    sizes = {"delta": delta, **BOUNDED}
    yield {
      "theorem": 1,
      "sweep": sweep,
      "n": n_plus + n_minus,
      "n_plus": n_plus,
      "n_minus": n_minus,
      "delta": delta,
      "p": p,
      "q": q,
      "bound": midpoint.theorem1_bound(n_plus, n_minus, **sizes),
      "sharper": midpoint.sub_gaussian_bound(n_plus, n_minus, **sizes),
      **share(misses, trials),
      "centre": centre,
      "mean": float(found.mean()),
      "std": float(found.std()),
    }
  for cut in CUTS:
    p, q = midpoint.precisions(cut, **ENDS)
    yield {
      "theorem": 1,
      "sweep": "cut",
      "cut": cut,
      "p": float(p),
      "q": float(q),
      "centre": float(p - q),
      "limit": midpoint.cut_estimate(cut, **ENDS),
      **_cut_sample(rng, cut, trials),
    }


def _cut_sample(rng: np.random.Generator, cut: float, trials: int) -> Record:
  """Estimates with the pseudo labels of a classifier, image by image."""
  images, sets = 1000, max(trials // 1000, 2)
  signs = rng.choice((ENDS["mu1"], ENDS["mu2"]), (sets, images))
  x = signs + ENDS["sigma"] * rng.standard_normal((sets, images))
  above = x > cut
  upper = np.sum(x * above, axis=1) / np.sum(above, axis=1)
  lower = np.sum(x * ~above, axis=1) / np.sum(~above, axis=1)
  found = (upper + lower) / 2
  return {"mean": float(found.mean()), "std": float(found.std())}


def theorem2(rng: np.random.Generator, trials: int) -> Iterator[Record]:
  """Yields errors of linear classifiers of raw inputs.

  Args:
    rng: the source of randomness.
    trials: images of each point.
  """
  d, sigma = 10, 2.0
  for p_minus in (0.5, 0.9):
    for beta in BETAS:
      mixture = {"p_plus": 1 - p_minus, "beta": beta}
      best = scale_mixture.best_margin(**mixture)
      points = [(m, 1.0, "margin") for m in MARGINS]
      points.append((best, 1.0, "best"))
      points += [(1.0, norm, "norm") for norm in NORMS]
      for margin, norm, sweep in points:
        theta = rng.standard_normal(d)
        theta *= norm / np.linalg.norm(theta)
        wrong = scale_mixture.linear_mistakes(
          rng,
          theta,
          margin * norm * sigma,
          sigma=sigma,
          trials=trials,
          **mixture,
        )
        yield {
          "theorem": 2,
          "sweep": sweep,
          "margin": margin,
          "norm": norm,
          "p_minus": p_minus,
          "beta": beta,
          "bound": 0.25,
          "formula": float(scale_mixture.linear_error(margin, **mixture)),
          **share(wrong, trials),
        }


def theorem3(rng: np.random.Generator, trials: int) -> Iterator[Record]:
  """Yields errors and failures of the classifier of squared norms.

  Args:
    rng: the source of randomness.
    trials: labeled sets of each point.
  """
  settings = [
    ("dimension", d, beta, 0.1, LABELED // 10, None)
    for beta in (4.0, 10.0)
    for d in DIMENSIONS
  ]
  settings += [
    ("positive", d, 4.0, 0.1, n, 0.2) for d in (10, 100) for n in POSITIVE
  ]
  settings += [
    ("imbalance", d, 4.0, n / LABELED, n, None)
    for d in (2, 10, 50, 200)
    for n in POSITIVE
  ]
  for sweep, d, beta, p_plus, n_plus, delta in settings:
    n_minus = LABELED - n_plus
    plus, minus = scale_mixture.mean_norms(
      rng, d, n_plus, n_minus, beta=beta, trials=trials
    )
    error = scale_mixture.norm_error(
      (plus + minus) / 2, d, beta=beta, p_plus=p_plus
    )
    fixed = delta is not None
    delta = delta or scale_mixture.smallest_delta(
      d, n_plus, n_minus, failure=FAILURE
    )
    holds = delta < (beta - 1) / (beta + 1)
    bound = math.inf
    if holds:
      bound = scale_mixture.theorem3_bound(
        d, delta=delta, beta=beta, p_plus=p_plus
      )
    best = scale_mixture.bayes_threshold(d, beta=beta, p_plus=p_plus)
    apart = (np.abs(plus - 1) > delta) | (np.abs(minus - beta) > beta * delta)
    yield {
      "theorem": 3,
      "sweep": sweep,
      "d": d,
      "beta": beta,
      "p_plus": p_plus,
      "n_plus": n_plus,
      "n_minus": n_minus,
      "delta": delta,
      "delta_chosen": "fixed" if fixed else f"for failure {FAILURE}",
      "bound": bound if holds else None,
      "error": float(error.mean()),
      "error_5": float(np.quantile(error, 0.05)),
      "error_95": float(np.quantile(error, 0.95)),
      "best_error": float(
        scale_mixture.norm_error(max(best, 0.0), d, beta=beta, p_plus=p_plus)
      ),
      "failure_bound": scale_mixture.theorem3_failure(
        d, n_plus, n_minus, delta=delta
      ),
      "bound_missed": int(np.sum(error > bound)),
      **share(int(apart.sum()), trials),
    }
