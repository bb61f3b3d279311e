"""Threshold rules: goldens, slow references, limits."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.semi_supervised import thresholds

PROBS = np.array(
  [[0.96, 0.02, 0.02], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
  np.float32,
)
LABELED = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32)
EVEN = np.full(3, 1 / 3, np.float32)


def guesses(probs=PROBS, index=None, labeled=LABELED, mean=EVEN):
  index = np.arange(len(probs)) if index is None else index
  return thresholds.Guesses(
    *(jnp.asarray(a, jnp.float32) for a in (probs,)),
    jnp.asarray(index, jnp.int32),
    jnp.asarray(labeled, jnp.float32),
    jnp.asarray(mean, jnp.float32),
  )


def weigh(rule, carried=None, *, pool=6, **given):
  carried = rule.init(3, pool) if carried is None else carried
  weights, carried = rule.weigh(carried, guesses(**given))
  assert weights.dtype == jnp.float32
  return np.asarray(weights), carried


def test_a_fixed_threshold_is_inclusive():
  weights, _ = weigh(thresholds.fixed(0.6))
  np.testing.assert_array_equal(weights, [1, 0, 1, 1])
  weights, _ = weigh(thresholds.fixed(0.0))
  np.testing.assert_array_equal(weights, np.ones(4))
  weights, _ = weigh(thresholds.fixed(1.0))
  np.testing.assert_array_equal(weights, np.zeros(4))


def test_a_relative_threshold_follows_the_labeled_confidence():
  """Mean confidence .75 of labeled images; a share of .8 of it is .6."""
  weights, _ = weigh(thresholds.relative(0.7999))
  np.testing.assert_array_equal(weights, [1, 0, 1, 1])
  sure = np.eye(3, dtype=np.float32)[:2]
  weights, _ = weigh(thresholds.relative(0.7999), labeled=sure)
  np.testing.assert_array_equal(weights, [1, 0, 1, 0])


def slow_curriculum(last, probs, index, threshold):
  counts = [sum(1 for k in last if k == c) for c in range(3)]
  unsure = sum(1 for k in last if k < 0)
  weights, after = [], list(last)
  for p, i in zip(probs, index):
    k = int(np.argmax(p))
    b = counts[k] / max(max(counts), unsure)
    weights.append(float(p[k] >= threshold * b / (2 - b)))
    if p[k] >= threshold:
      after[i] = k
  return weights, after


def test_the_curriculum_is_that_of_the_paper():
  rule, rng = thresholds.curriculum(0.7), np.random.default_rng(0)
  carried, last = rule.init(3, 12), [-1] * 12
  seen = set()
  for _ in range(30):
    index = rng.permutation(12)[:4]
    probs = rng.dirichlet([0.5, 0.3, 0.2], 4).astype(np.float32)
    expected, last = slow_curriculum(last, probs, index, 0.7)
    weights, carried = weigh(rule, carried, probs=probs, index=index)
    np.testing.assert_array_equal(weights, expected)
    np.testing.assert_array_equal(carried["last"], last)
    seen |= set(expected)
  assert seen == {0.0, 1.0}


def test_an_even_curriculum_is_a_fixed_threshold():
  rule = thresholds.curriculum(0.6)
  carried = {"last": jnp.array([0, 0, 1, 1, 2, 2], jnp.int32)}
  weights, _ = weigh(rule, carried)
  np.testing.assert_array_equal(weights, [1, 0, 1, 1])


def test_the_self_adaptive_threshold_starts_at_one_in_c_and_follows():
  rule = thresholds.self_adaptive(0.5)
  carried = rule.init(3, 6)
  assert float(carried["level"]) == pytest.approx(1 / 3)
  weights, carried = weigh(rule, carried)
  np.testing.assert_array_equal(weights, np.ones(4))
  assert float(carried["level"]) == pytest.approx(0.5 / 3 + 0.5 * 0.715)
  # .524 for class 0, which is common, and half of it for the others.
  mean = np.array([0.5, 0.25, 0.25], np.float32)
  weights, _ = weigh(rule, carried, mean=mean)
  np.testing.assert_array_equal(weights, [1, 0, 1, 1])


def test_soft_weights_are_a_gaussian_below_the_mean():
  rule = thresholds.soft(momentum=0.0)
  _, carried = weigh(rule)
  top = PROBS.max(1)
  mean, variance = top.mean(), top.var(ddof=1)
  assert float(carried["mean"]) == pytest.approx(mean, rel=1e-5)
  assert float(carried["variance"]) == pytest.approx(variance, rel=1e-5)
  weights, _ = weigh(rule, carried)
  below = np.maximum(mean - top, 0)
  expected = np.exp(-(below**2) / (2 * variance / 4))
  np.testing.assert_allclose(weights, expected, rtol=1e-5)
  np.testing.assert_array_equal(weights[top >= mean], [1, 1])
  assert 0 < weights[1] < weights[3] < 1


def test_soft_weights_align_with_the_uniform_distribution():
  rule = thresholds.soft(momentum=0.0)
  mean = np.array([0.6, 0.2, 0.2], np.float32)
  _, carried = weigh(rule, mean=mean)
  aligned = PROBS / mean
  aligned /= aligned.sum(1, keepdims=True)
  expected = aligned.max(1).mean()
  assert float(carried["mean"]) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_one_confidence_weighs_finitely():
  rule = thresholds.soft(momentum=0.0)
  same = np.tile(PROBS[:1], (4, 1))
  _, carried = weigh(rule, probs=same)
  weights, _ = weigh(rule, carried)
  np.testing.assert_array_equal(weights, [1, 0, 0, 0])


def test_every_rule_has_a_name_and_allows_a_threshold_of_0():
  for name, make in thresholds.RULES.items():
    weights, _ = weigh(make(0.0))
    assert np.all(weights > 0), name
  assert set(thresholds.ADAPTIVE) < set(thresholds.RULES)
