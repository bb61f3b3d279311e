import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import weights

# CIFAR-10-LT with rho = 100.
COUNTS = (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)


def array(values):
  return jnp.asarray(values, jnp.float32)


def reference(counts, beta):
  n = np.asarray(counts, np.float64)
  w = (1 - beta) / (1 - beta**n)
  return len(n) * w / w.sum()


def test_golden_of_cifar_10():
  got = weights.effective_number(array(COUNTS), beta=0.9999)
  np.testing.assert_allclose(
    got,
    [
      0.05061136, 0.07689980, 0.12113387, 0.19503667, 0.31880537,
      0.52458985, 0.86834894, 1.44262727, 2.40922305, 3.99272382,
    ],
    rtol=2e-6,
  )  # fmt: skip
  got = weights.inverse(array(COUNTS))
  np.testing.assert_allclose(
    got,
    [
      0.04023650, 0.06712796, 0.11201698, 0.18679897, 0.31191084,
      0.51985141, 0.86716589, 1.44735607, 2.42388547, 4.02364988,
    ],
    rtol=2e-6,
  )  # fmt: skip


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.99, 0.999, 0.9999, 0.999999])
@pytest.mark.parametrize("counts", [COUNTS, (1, 1, 1), (250, 2, 1), (7,)])
def test_equals_a_slow_reference_and_sums_to_the_classes(counts, beta):
  got = jax.jit(lambda n: weights.effective_number(n, beta=beta))(array(counts))
  assert got.dtype == jnp.float32 and got.shape == (len(counts),)
  np.testing.assert_allclose(got, reference(counts, beta), rtol=1e-5)
  np.testing.assert_allclose(jnp.sum(got), len(counts), rtol=1e-6)


def test_limits_of_beta():
  counts = array(COUNTS)
  np.testing.assert_allclose(
    weights.effective_number(counts, beta=0.0), np.ones(10), rtol=1e-6
  )
  np.testing.assert_allclose(
    weights.effective_number(counts, beta=1 - 1e-12),
    weights.inverse(counts),
    rtol=1e-5,
  )


def test_beta_to_the_n_that_underflows_is_harmless():
  got = weights.effective_number(array([1e9, 1e6, 1.0]), beta=0.9)
  # Effective numbers 10, 10 and 1.
  np.testing.assert_allclose(got, array([0.25, 0.25, 2.5]), rtol=1e-6)


def test_balanced_counts_have_weights_of_1():
  for got in (
    weights.effective_number(jnp.full(4, 500.0)),
    weights.inverse(jnp.full(4, 500.0)),
    weights.power(jnp.full(4, 500.0), exponent=1.2),
  ):
    np.testing.assert_allclose(got, np.ones(4), rtol=1e-6)


def test_a_power_of_the_counts():
  """Golden numbers of GLMC's exponent; 1 is `inverse`, 0 none."""
  counts = np.asarray(COUNTS, np.float64)
  wanted = 10 * counts**-1.2 / np.sum(counts**-1.2)
  got = weights.power(array(COUNTS), exponent=1.2)
  np.testing.assert_allclose(got, wanted, rtol=1e-5)
  np.testing.assert_allclose(got[jnp.array([0, -1])], GOLDEN_1_2, rtol=1e-5)
  one = weights.power(array(COUNTS), exponent=1.0)
  np.testing.assert_allclose(one, weights.inverse(array(COUNTS)), rtol=1e-6)
  none = weights.power(array(COUNTS), exponent=0.0)
  np.testing.assert_array_equal(none, np.ones(10))


GOLDEN_1_2 = (0.01827491, 4.59045038)


@pytest.mark.parametrize(
  "rule",
  [
    weights.effective_number,
    weights.inverse,
    functools.partial(weights.power, exponent=0.5),
  ],
)
def test_an_empty_class_has_weight_0_and_leaves_the_ratios(rule):
  got = rule(array([100, 0, 10, 1]))
  others = rule(array([100, 10, 1]))
  assert got[1] == 0 and np.isfinite(got).all()
  np.testing.assert_allclose(
    got[jnp.array([0, 2, 3])], 4 / 3 * others, rtol=1e-6
  )
  np.testing.assert_array_equal(rule(jnp.zeros(3)), np.zeros(3))


def test_beta_0_with_an_empty_class():
  np.testing.assert_allclose(
    weights.effective_number(array([3, 0, 1]), beta=0.0), [1.5, 0.0, 1.5]
  )


def test_fractional_counts():
  # Pseudo-labeled images may count less than labeled ones.
  got = weights.effective_number(array([0.5, 1.5]), beta=0.9)
  np.testing.assert_allclose(got, reference([0.5, 1.5], 0.9), rtol=1e-5)


def test_bfloat16_is_widened_first():
  got = weights.inverse(jnp.array([4, 1], jnp.bfloat16))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, [0.4, 1.6], rtol=1e-6)


def test_normalize():
  got = weights.normalize(array([1, 0, 3]))
  np.testing.assert_allclose(got, [0.75, 0.0, 2.25], rtol=1e-6)
  huge = weights.normalize(array([1e15, 1e15, 0]))
  np.testing.assert_allclose(huge, [1.5, 1.5, 0.0], rtol=1e-6)
  tiny = weights.normalize(array([1e-30, 3e-30]))
  np.testing.assert_allclose(tiny, [0.5, 1.5], rtol=1e-6)
  np.testing.assert_array_equal(weights.normalize(jnp.zeros(2)), np.zeros(2))


def test_of_labels():
  got = weights.of_labels(array([5, 6, 7]), jnp.array([2, 0, 0, 3, -1]))
  np.testing.assert_array_equal(got, [7.0, 5.0, 5.0, np.nan, np.nan])


@pytest.mark.parametrize("beta", [-0.1, 1.0, 1.5, float("nan")])
def test_beta_out_of_range(beta):
  with pytest.raises(ValueError, match=r"beta is .* in \[0, 1\)"):
    weights.effective_number(jnp.ones(2), beta=beta)


@pytest.mark.parametrize("counts", [jnp.ones((2, 2)), jnp.ones(2, int)])
def test_wrong_shapes_and_types(counts):
  for function in (
    weights.effective_number,
    weights.inverse,
    weights.normalize,
    functools.partial(weights.power, exponent=1.0),
  ):
    with pytest.raises(AssertionError):
      function(counts)
  with pytest.raises(AssertionError):
    weights.of_labels(jnp.ones(2), jnp.ones(2))
