import math
import statistics

import numpy as np
import pytest

from experiments import midpoint

NORMAL = statistics.NormalDist()
MODEL = {"mu1": 3.0, "mu2": -1.0, "sigma": 1.5}


def draw(trials=20_000, seed=0, n_plus=30, n_minus=12, p=0.9, q=0.6, **model):
  return midpoint.estimates(
    np.random.default_rng(seed),
    n_plus,
    n_minus,
    p=p,
    q=q,
    trials=trials,
    **(MODEL | model),
  )


def by_images(rng, n_plus, n_minus, p, q, mu1, mu2, sigma):
  """One estimate, image by image, as the paper writes it."""
  plus = []
  for _ in range(n_plus):
    mean = mu1 if rng.random() < p else mu2
    plus.append(rng.normal(mean, sigma))
  minus = []
  for _ in range(n_minus):
    mean = mu2 if rng.random() < q else mu1
    minus.append(rng.normal(mean, sigma))
  return (sum(plus) / n_plus + sum(minus) / n_minus) / 2


def test_bound_golden():
  # h = 80 * 20 / 100 = 16: 2 exp(-2 * .25 / 9 * 16)
  # + 2 exp(-8 * 80 * .25 / 36) + 2 exp(-8 * 20 * .25 / 36).
  found = midpoint.theorem1_bound(80, 20, delta=0.5, sigma=1.0, gap=2.0)
  terms = (math.exp(-8 / 9), math.exp(-160 / 36), math.exp(-40 / 36))
  assert found == pytest.approx(2 * sum(terms))
  assert found == pytest.approx(1.504098, abs=1e-6)


def test_sharper_bound_golden():
  # Proxy (1/4 + 4/16) (1/80 + 1/20) = 1/32: 2 exp(-.25 * 16) = 2 exp(-4).
  found = midpoint.sub_gaussian_bound(80, 20, delta=0.5, sigma=1.0, gap=2.0)
  assert found == pytest.approx(2 * math.exp(-4))


@pytest.mark.parametrize("gap", [0.1, 2.0, 5.6, 40.0])
@pytest.mark.parametrize("n_minus", [10, 1000])
@pytest.mark.parametrize("delta", [0.05, 1.0])
def test_sharper_bound_is_sharper(gap, n_minus, delta):
  setting = {"delta": delta, "sigma": 1.0, "gap": gap}
  printed = midpoint.theorem1_bound(1000, n_minus, **setting)
  ours = midpoint.sub_gaussian_bound(1000, n_minus, **setting)
  assert 0 <= ours <= printed


def test_bounds_do_not_depend_on_the_names_of_the_classes():
  setting = {"delta": 0.4, "sigma": 0.7, "gap": 3.0}
  for bound in (midpoint.theorem1_bound, midpoint.sub_gaussian_bound):
    assert bound(7, 90, **setting) == pytest.approx(bound(90, 7, **setting))
    assert bound(7, 90, **setting) > bound(48, 49, **setting)


def test_equal_accuracies_have_no_bias():
  found = draw(p=0.7, q=0.7)
  error = found.std() / math.sqrt(len(found))
  assert abs(found.mean() - 1.0) < 4 * error


def test_mean_is_the_biased_centre():
  found = draw()
  error = found.std() / math.sqrt(len(found))
  # (3 - 1) / 2 + 0.3 * 4 / 2
  assert abs(found.mean() - 1.6) < 4 * error
  assert abs(found.mean() - 1.0) > 40 * error


def test_variance_is_exact():
  # A quarter of: sigma^2 (1/30 + 1/12) + gap^2 (p(1-p)/30 + q(1-q)/12).
  exact = (2.25 * (1 / 30 + 1 / 12) + 16 * (0.09 / 30 + 0.24 / 12)) / 4
  assert draw(200_000).var() == pytest.approx(exact, rel=0.02)


def test_same_distribution_as_image_by_image():
  rng = np.random.default_rng(1)
  model = (MODEL["mu1"], MODEL["mu2"], MODEL["sigma"])
  slow = np.sort([by_images(rng, 5, 3, 0.9, 0.6, *model) for _ in range(4000)])
  fast = np.sort(draw(4000, n_plus=5, n_minus=3))
  every = np.concatenate([slow, fast])
  gap = np.abs(
    np.searchsorted(slow, every, "right")
    - np.searchsorted(fast, every, "right")
  )
  # Kolmogorov-Smirnov, two samples, at the level 0.001.
  assert gap.max() / 4000 < 1.95 * math.sqrt(2 / 4000)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_without_mislabeling_it_is_a_normal(p):
  found = draw(100_000, p=p, q=p)
  std = 1.5 * math.sqrt(1 / 30 + 1 / 12) / 2
  share = np.mean(np.abs(found - 1.0) > std)
  assert share == pytest.approx(2 * NORMAL.cdf(-1), abs=0.006)


@pytest.mark.parametrize("sizes", [(10, 10), (400, 10), (200, 200)])
def test_misses_are_within_both_bounds(sizes):
  found = draw(50_000, n_plus=sizes[0], n_minus=sizes[1])
  setting = {"delta": 1.2, "sigma": 1.5, "gap": 4.0}
  misses = np.mean(np.abs(found - 1.6) > 1.2)
  assert misses <= midpoint.sub_gaussian_bound(*sizes, **setting)
  assert misses <= midpoint.theorem1_bound(*sizes, **setting)


def test_same_seed_same_draws():
  np.testing.assert_array_equal(draw(50), draw(50))
  assert not np.array_equal(draw(50), draw(50, seed=1))


def test_precisions_golden():
  p, q = midpoint.precisions(0.5, mu1=1.0, mu2=-1.0, sigma=1.0)
  right, wrong = NORMAL.cdf(0.5), NORMAL.cdf(-1.5)
  assert p == pytest.approx(right / (right + wrong))
  assert q == pytest.approx((1 - wrong) / (2 - right - wrong))


def test_a_cut_in_the_middle_is_kept():
  model = {"mu1": 5.0, "mu2": 1.0, "sigma": 2.0}
  p, q = midpoint.precisions(3.0, **model)
  assert p == pytest.approx(q) and p == pytest.approx(NORMAL.cdf(1))
  assert midpoint.cut_estimate(3.0, **model) == pytest.approx(3.0)


def test_cut_estimate_is_the_mean_of_both_sides():
  rng = np.random.default_rng(0)
  x = rng.choice((3.0, -1.0), 400_000) + 1.5 * rng.standard_normal(400_000)
  slow = (x[x > 1.7].mean() + x[x <= 1.7].mean()) / 2
  assert midpoint.cut_estimate(1.7, **MODEL) == pytest.approx(slow, abs=0.015)


def test_a_cut_is_farther_off_than_the_theorem_says():
  model = {"mu1": 1.0, "mu2": -1.0, "sigma": 1.0}
  p, q = midpoint.precisions(0.5, **model)
  assert 0 < p - q < midpoint.cut_estimate(0.5, **model) < 0.5
