"""Class probabilities: each rule against numbers worked out by hand."""

from fractions import Fraction
import math

import numpy as np
import pytest

from ltjax.training import class_probabilities as probabilities

COUNTS = np.array([16, 4, 0, 1])


def settings(name, *, exponent=1.0, beta=0.9999, defer=0.0):
  return {"name": name, "exponent": exponent, "beta": beta, "defer": defer}


def of(name, counts=COUNTS, *, epoch=0, epochs=1, **choices):
  chosen = settings(name, **choices)
  return probabilities.over_epochs(chosen, counts, epochs=epochs)(epoch)


# 16, 4 and 1 have the square roots 4, 2 and 1.
GOLDEN = {
  "random": [16 / 21, 4 / 21, 0, 1 / 21],
  "class_balanced": [1 / 3, 1 / 3, 0, 1 / 3],
  "square_root": [4 / 7, 2 / 7, 0, 1 / 7],
  "reversed": [1 / 21, 4 / 21, 0, 16 / 21],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
  found = of(name)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-12)


@pytest.mark.parametrize(
  "q, name",
  [
    (1.0, "random"),
    (0.5, "square_root"),
    (0.0, "class_balanced"),
    (-1.0, "reversed"),
  ],
)
def test_the_named_rules_are_powers(q, name):
  np.testing.assert_allclose(of("power", exponent=q), GOLDEN[name], rtol=1e-12)


@pytest.mark.parametrize("q", [2, 3, -2])
def test_whole_powers_equal_exact_fractions(q):
  weights = [Fraction(int(n)) ** q if n else Fraction(0) for n in COUNTS]
  expected = [float(w / sum(weights)) for w in weights]
  np.testing.assert_allclose(
    of("power", exponent=float(q)), expected, rtol=1e-12
  )


@pytest.mark.parametrize("q, winner", [(1e6, 0), (-1e6, 3)])
def test_extreme_powers_draw_one_class_and_do_not_overflow(q, winner):
  expected = np.eye(4)[winner]
  np.testing.assert_array_equal(of("power", exponent=q), expected)


def test_progressive_moves_from_instances_to_classes():
  for epoch in range(5):
    t = epoch / 5
    expected = [
      (1 - t) * a + t * b
      for a, b in zip(GOLDEN["random"], GOLDEN["class_balanced"])
    ]
    found = of("progressive", epoch=epoch, epochs=5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
  np.testing.assert_allclose(
    probabilities.progressive(COUNTS, done=1.0), GOLDEN["class_balanced"]
  )


def test_effective_number_golden():
  """At beta 1/2: 16 / (1 - 2^-16), 4 / (15/16), 1 / (1/2)."""
  weights = [16 / (1 - 2**-16), 64 / 15, 0, 2]
  np.testing.assert_allclose(
    of("effective_number", beta=0.5),
    np.array(weights) / sum(weights),
    rtol=1e-12,
  )


def test_effective_number_weights_each_sample_by_its_class():
  """The slow way: one weight for each sample, summed over the classes."""
  beta, labels = 0.9, np.repeat([0, 1, 3], [16, 4, 1])
  size = {c: int(np.sum(labels == c)) for c in (0, 1, 3)}
  weight = [(1 - beta) / (1 - beta ** size[c]) for c in labels]
  share = np.bincount(labels, weight) / sum(weight)
  np.testing.assert_allclose(of("effective_number", beta=beta), share)


def test_limits_of_beta():
  at_zero = of("effective_number", beta=0.0)
  np.testing.assert_allclose(at_zero, GOLDEN["random"], rtol=1e-12)
  near_one = of("effective_number", beta=1 - 1e-9)
  np.testing.assert_allclose(near_one, GOLDEN["class_balanced"], rtol=1e-6)


@pytest.mark.parametrize("name", probabilities.NAMES)
def test_every_rule_sums_to_one_and_leaves_empty_classes_out(name):
  for epoch in range(3):
    found = of(name, epoch=epoch, epochs=3)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found[2] == 0 and np.all(found[COUNTS > 0] > 0)


@pytest.mark.parametrize("name", probabilities.NAMES)
def test_one_class_gets_all(name):
  np.testing.assert_array_equal(of(name, np.array([0, 7])), [0, 1])


@pytest.mark.parametrize("name", probabilities.NAMES)
def test_equal_classes_are_drawn_alike(name):
  np.testing.assert_allclose(of(name, np.full(4, 9)), np.full(4, 0.25))


@pytest.mark.parametrize("name", probabilities.NAMES)
def test_nothing_to_draw_from(name):
  with pytest.raises(ValueError, match="all classes are empty"):
    of(name, np.zeros(3))


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"name": "classbalanced"},
      r"sampler.name is 'classbalanced'; choose one of random, .*"
      r"Did you mean 'class_balanced'\?",
    ),
    ({"name": "zzz"}, "'zzz'; choose one of .*effective_number.$"),
    ({"name": "power", "exponent": math.nan}, "exponent is nan; .* finite"),
    ({"name": "power", "exponent": math.inf}, "exponent is inf; .* finite"),
    (
      {"name": "effective_number", "beta": 1.0},
      "sampler.beta is 1.0; .* in \\[0, 1\\).*'class_balanced'",
    ),
    ({"name": "effective_number", "beta": -0.1}, "sampler.beta is -0.1"),
    ({"name": "effective_number", "beta": math.nan}, "sampler.beta is nan"),
  ],
)
def test_errors(changes, message):
  with pytest.raises(ValueError, match=message):
    probabilities.over_epochs(settings(**changes), np.ones(1), epochs=1)


@pytest.mark.parametrize("name", probabilities.NAMES)
def test_the_defaults_of_a_config_are_fine(name):
  of_epoch = probabilities.over_epochs(settings(name), np.ones(2), epochs=1)
  np.testing.assert_allclose(of_epoch(0), 0.5)
