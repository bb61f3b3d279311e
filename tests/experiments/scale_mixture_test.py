import math
import statistics

import numpy as np
import pytest

from experiments import scale_mixture

PHI = statistics.NormalDist().cdf


class TestLinearError:
  def test_golden(self):
    found = scale_mixture.linear_error(2.0, p_plus=0.25, beta=4.0)
    assert found == pytest.approx(0.25 * PHI(-2) + 0.75 * PHI(1))
    assert found == pytest.approx(0.25 * 0.0227501 + 0.75 * 0.8413447)

  @pytest.mark.parametrize("p_plus", [0.01, 0.5])
  @pytest.mark.parametrize("beta", [3.5, 100.0])
  def test_limits(self, p_plus, beta):
    margin = np.array([-1e4, 0.0, 1e4])
    found = scale_mixture.linear_error(margin, p_plus=p_plus, beta=beta)
    np.testing.assert_allclose(found, [p_plus, 0.5, 1 - p_plus], atol=1e-9)

  @pytest.mark.parametrize("norm", [0.1, 10.0])
  @pytest.mark.parametrize("b", [-1.0, 0.5, 2.0])
  def test_is_what_drawing_finds(self, norm, b):
    theta = norm * np.array([0.6, 0.0, -0.8])
    wrong = scale_mixture.linear_mistakes(
      np.random.default_rng(0),
      theta,
      b * norm,
      p_plus=0.3,
      beta=9.0,
      sigma=0.5,
      trials=50_000,
    )
    exact = scale_mixture.linear_error(b / 0.5, p_plus=0.3, beta=9.0)
    error = math.sqrt(exact * (1 - exact) / 50_000)
    assert abs(wrong / 50_000 - exact) < 4 * error


class TestLeastLinearError:
  @pytest.mark.parametrize("p_plus", [0.5, 0.3, 0.1, 0.01])
  @pytest.mark.parametrize("beta", [3.1, 10.0, 1e4])
  def test_is_the_least_of_a_grid(self, p_plus, beta):
    grid = np.linspace(0, 12, 20_001)
    errors = scale_mixture.linear_error(grid, p_plus=p_plus, beta=beta)
    setting = {"p_plus": p_plus, "beta": beta}
    found = scale_mixture.least_linear_error(**setting)
    assert found == pytest.approx(errors.min(), abs=1e-7)
    best = scale_mixture.best_margin(**setting)
    assert best == pytest.approx(grid[errors.argmin()], abs=1e-2)
    # Theorem 2, and what its proof gives.
    assert found > (1 - p_plus) / 2 >= 0.25

  def test_golden(self):
    # m^2 = 2 log(2) / (3/4) with equal classes and beta 4.
    best = scale_mixture.best_margin(p_plus=0.5, beta=4.0)
    assert best == pytest.approx(math.sqrt(8 * math.log(2) / 3))

  def test_strong_imbalance_leaves_a_coin(self):
    setting = {"p_plus": 0.1, "beta": 80.0}  # 0.9 > sqrt(80) * 0.1
    assert scale_mixture.best_margin(**setting) == 0
    assert scale_mixture.least_linear_error(**setting) == 0.5
    assert scale_mixture.best_margin(p_plus=0.1, beta=82.0) > 0

  def test_a_quarter_is_the_limit(self):
    found = scale_mixture.least_linear_error(p_plus=0.5, beta=1e10)
    assert 0.25 < found < 0.2501

  def test_without_the_condition_the_theorem_fails(self):
    found = scale_mixture.least_linear_error(
      p_plus=0.1, beta=10.0, any_sign=True
    )
    assert found == 0.1
    error = scale_mixture.linear_error(-4.0, p_plus=0.1, beta=4.0)
    assert error < 0.25

  @pytest.mark.parametrize("beta", [3.1, 10.0, 1e4])
  def test_the_balanced_error_needs_no_condition(self, beta):
    margins = np.linspace(-20, 20, 2001)
    errors = scale_mixture.linear_error(margins, p_plus=0.5, beta=beta)
    assert errors.min() > 0.25 and errors[margins < 0].min() >= 0.5


class TestTheorem3Bound:
  def test_golden_second_case(self):
    # room 9 - 11 * 0.1 = 7.9; delta is below 7/11.
    found = scale_mixture.theorem3_bound(4, delta=0.1, beta=10.0, p_plus=0.2)
    slow = 0.2 * math.exp(-4 * 7.9 / 16)
    slow += 0.8 * math.exp(-4 * 7.9**2 / 3200)
    assert found == pytest.approx(slow)

  def test_golden_first_case(self):
    # room 3 - 5 * 0.4 = 1; delta is above 1/5.
    found = scale_mixture.theorem3_bound(64, delta=0.4, beta=4.0, p_plus=0.5)
    assert found == pytest.approx(0.5 * (math.exp(-2) + math.exp(-1 / 8)))

  def test_the_cases_meet(self):
    sides = [
      scale_mixture.theorem3_bound(9, delta=0.2 + e, beta=4.0, p_plus=0.3)
      for e in (-1e-9, 0.0, 1e-9)
    ]
    assert max(sides) - min(sides) < 1e-6

  @pytest.mark.parametrize("delta", [0.0, -0.1, 0.6, 0.9])
  def test_delta_outside_its_interval(self, delta):
    with pytest.raises(ValueError, match=r"between 0 and 0\.6000 for beta 4"):
      scale_mixture.theorem3_bound(4, delta=delta, beta=4.0, p_plus=0.5)

  @pytest.mark.parametrize("d", [1, 10, 300])
  @pytest.mark.parametrize("beta", [3.5, 12.0])
  @pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
  def test_holds_at_the_worst_thresholds_of_its_event(self, d, beta, share):
    delta = share * (beta - 1) / (beta + 1)
    worst = (1 + beta) / 2 * np.array([1 - delta, 1 + delta])
    # The bound adds both classes' worst cases.
    plus = scale_mixture.norm_error(worst[0], d, beta=beta, p_plus=1.0)
    minus = scale_mixture.norm_error(worst[1], d, beta=beta, p_plus=0.0)
    bound = scale_mixture.theorem3_bound(d, delta=delta, beta=beta, p_plus=0.1)
    assert 0.1 * plus + 0.9 * minus <= bound


class TestTheorem3Failure:
  def test_golden(self):
    found = scale_mixture.theorem3_failure(16, 2, 5, delta=0.5)
    assert found == pytest.approx(2 * math.exp(-1) + 2 * math.exp(-2.5))

  @pytest.mark.parametrize("failure", [1e-6, 0.05, 0.9])
  def test_smallest_delta_is_its_inverse(self, failure):
    delta = scale_mixture.smallest_delta(7, 3, 90, failure=failure)
    found = scale_mixture.theorem3_failure(7, 3, 90, delta=delta)
    assert found == pytest.approx(failure)

  @pytest.mark.parametrize("n_plus", [1, 8])
  def test_bounds_what_is_drawn(self, n_plus):
    plus, minus = scale_mixture.mean_norms(
      np.random.default_rng(0), 10, n_plus, 40, beta=4.0, trials=20_000
    )
    off = (np.abs(plus - 1) > 0.4) | (np.abs(minus - 4) > 1.6)
    bound = scale_mixture.theorem3_failure(10, n_plus, 40, delta=0.4)
    assert 0 < off.mean() < bound


def test_mean_norms_are_those_of_images():
  rng = np.random.default_rng(0)
  images = math.sqrt(5.0) * rng.standard_normal((20_000, 3, 2))
  slow = (images**2).sum(axis=-1).mean(axis=-1) / 2
  plus, minus = scale_mixture.mean_norms(rng, 2, 7, 3, beta=5.0, trials=20_000)
  assert minus.mean() == pytest.approx(slow.mean(), rel=0.02)
  assert minus.std() == pytest.approx(slow.std(), rel=0.03)
  for q in (0.05, 0.5, 0.95):
    assert np.quantile(minus, q) == pytest.approx(
      np.quantile(slow, q), rel=0.04
    )
  assert plus.mean() == pytest.approx(1.0, rel=0.02)
  assert plus.std() == pytest.approx(math.sqrt(2 / 14), rel=0.03)


class TestNormError:
  def test_golden_in_two_dimensions(self):
    # |X|^2 / 2 is exponential; a threshold of 1 is |X|^2 = 2.
    found = scale_mixture.norm_error(1.0, 2, beta=4.0, p_plus=0.3)
    slow = 0.3 * math.exp(-1) + 0.7 * (1 - math.exp(-1 / 4))
    assert found == pytest.approx(slow)

  def test_limits(self):
    thresholds = np.array([0.0, 1e6])
    found = scale_mixture.norm_error(thresholds, 10, beta=4.0, p_plus=0.2)
    np.testing.assert_allclose(found, [0.2, 0.8])

  def test_is_the_error_of_the_paper_s_classifier(self):
    # sign(-Z + b), Z = k1 |X|^2 + k2, b from labeled images, on drawn images.
    rng = np.random.default_rng(0)
    d, beta, sigma, k1, k2 = 6, 4.0, 0.7, 2.5, 3.0

    def z(n, scale):
      x = sigma * scale * rng.standard_normal((n, d))
      return k1 * (x**2).sum(axis=1) + k2

    plus, minus = z(30, 1.0), z(70, math.sqrt(beta))
    b = (plus.mean() + minus.mean()) / 2
    n = 100_000
    wrong_plus = np.mean(-z(n, 1.0) + b <= 0)
    wrong_minus = np.mean(-z(n, math.sqrt(beta)) + b > 0)
    threshold = (b - k2) / (k1 * d * sigma**2)
    found = scale_mixture.norm_error(threshold, d, beta=beta, p_plus=0.3)
    slow = 0.3 * wrong_plus + 0.7 * wrong_minus
    assert found == pytest.approx(slow, abs=0.005)

  @pytest.mark.parametrize("d", [1, 20])
  @pytest.mark.parametrize("p_plus", [0.5, 0.3])
  def test_bayes_threshold_is_the_best(self, d, p_plus):
    best = scale_mixture.bayes_threshold(d, beta=4.0, p_plus=p_plus)
    grid = np.linspace(0.0, 5.0, 5001)
    errors = scale_mixture.norm_error(grid, d, beta=4.0, p_plus=p_plus)
    assert max(best, 0) == pytest.approx(grid[errors.argmin()], abs=2e-3)
