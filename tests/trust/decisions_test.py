"""Decisions against all possible ones, and answers known by hand."""

import itertools

import numpy as np
import pytest

from ltjax.trust import decisions

# Of a model for the head: class 1 never has the greater probability.
HEAD = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
TAIL = np.array([0, 0, 1, 1])


def draw(seed, counts=(20, 6, 4)):
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(len(counts)), counts)
  z = rng.normal(size=(len(labels), len(counts)))
  z += np.eye(len(counts))[labels] + np.log(counts)
  given = np.exp(z)
  return given / given.sum(1, keepdims=True), labels


def test_least_cost_golden():
  given = np.array([[0.9, 0.1], [0.6, 0.4]])
  # To miss class 1 costs ten, a false alarm one.
  costs = np.array([[0, 1], [10, 0]])
  assert decisions.least_cost(given, costs).tolist() == [1, 1]
  assert decisions.least_cost(given, 1 - np.eye(2)).tolist() == [0, 0]
  # To ask someone costs 0.3 whatever the class.
  ask = np.array([[0, 1, 0.3], [1, 0, 0.3]])
  assert decisions.least_cost(given, ask).tolist() == [0, 2]


def test_least_cost_is_the_cheapest_of_all():
  rng = np.random.default_rng(0)
  given, _ = draw(0)
  costs = rng.normal(size=(3, 5))
  for row, k in zip(given, decisions.least_cost(given, costs)):
    expected = [sum(row[c] * costs[c, j] for c in range(3)) for j in range(5)]
    assert expected[k] == min(expected)


def test_weighted_golden():
  assert decisions.weighted(HEAD, [1, 1]).tolist() == [0, 0, 0, 0]
  assert decisions.weighted(HEAD, [1, 3]).tolist() == [0, 0, 1, 1]
  assert decisions.weighted(HEAD, [2, 6]).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
  "objective, value",
  [
    ("balanced_accuracy", (0.75 + 0.5) / 2),
    ("geometric_mean", 0.375**0.5),
    ("macro_f1", (2 * 3 / 8 + 2 * 1 / 3) / 2),  # 6 / (4 + 4), 2 / (2 + 1)
    ("least_recall", 0.5),
    ("min_recall:0.6", (1 + 0.5 / 0.6) / 2),
    ("min_recall:0.5", 1.0),
  ],
)
def test_objectives_golden(objective, value):
  # One of four called class 2, which has no images: it is left out.
  confusion = np.array([[3, 0, 1], [1, 1, 0], [0, 0, 0]])
  assert decisions.measure(objective, confusion) == pytest.approx(value)


@pytest.mark.parametrize("objective", decisions.OBJECTIVES)
def test_a_tail_that_is_never_called_is_found(objective):
  found = decisions.choose(HEAD, TAIL, objective=objective)
  assert found.value == 1 > found.before
  np.testing.assert_array_equal(decisions.weighted(HEAD, found.weights), TAIL)
  assert np.prod(found.weights) == pytest.approx(1)
  # Between 0.7 / 0.3 and 0.8 / 0.2.
  assert 7 / 3 < found.weights[1] / found.weights[0] < 4


@pytest.mark.parametrize("objective", decisions.OBJECTIVES)
@pytest.mark.parametrize("seed", range(5))
def test_two_classes_are_searched_exactly(objective, seed):
  given, labels = draw(seed, (12, 5))
  ratios = np.sort(given[:, 0] / given[:, 1])
  between = [ratios[0] / 2, *np.sqrt(ratios[1:] * ratios[:-1]), 2 * ratios[-1]]
  best = 0
  for ratio in between:
    called = np.where(given[:, 1] * ratio > given[:, 0], 1, 0)
    counts = np.zeros((2, 2), int)
    np.add.at(counts, (labels, called), 1)
    best = max(best, decisions.measure(objective, counts))
  found = decisions.choose(given, labels, objective=objective)
  assert found.value == pytest.approx(best)


@pytest.mark.parametrize("objective", decisions.OBJECTIVES)
def test_three_classes_come_near_the_best_of_a_grid(objective):
  given, labels = draw(1)
  grid = np.exp(np.linspace(-4, 4, 41))
  best = 0
  for pair in itertools.product(grid, grid):
    called = decisions.weighted(given, [1, *pair])
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (labels, called), 1)
    best = max(best, decisions.measure(objective, counts))
  found = decisions.choose(given, labels, objective=objective)
  assert found.before <= found.value
  assert found.value >= 0.85 * best


@pytest.mark.parametrize("objective", decisions.OBJECTIVES)
def test_the_value_is_what_the_weights_reach_and_no_class_gains(objective):
  given, labels = draw(2)
  found = decisions.choose(given, labels, objective=objective)

  def reach(weights):
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (labels, decisions.weighted(given, weights)), 1)
    return decisions.measure(objective, counts)

  assert reach(found.weights) == pytest.approx(found.value)
  for c, factor in itertools.product(range(3), np.exp(np.linspace(-3, 3, 25))):
    other = found.weights.copy()
    other[c] *= factor
    assert reach(other) <= found.value + 1e-12


@pytest.mark.parametrize("objective", ["geometric_mean", "least_recall"])
def test_two_classes_that_are_never_called_are_found(objective):
  given = np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.6, 0.1, 0.3]])
  found = decisions.choose(given, np.arange(3), objective=objective)
  assert (found.before, found.value) == (0, 1)


def test_few_points_still_do_no_harm():
  given, labels = draw(3)
  exact = decisions.choose(given, labels)
  found = decisions.choose(given, labels, points=5)
  assert found.before < found.value <= exact.value + 0.02


def test_a_perfect_model_keeps_equal_weights():
  given = np.eye(3)[[0, 1, 2, 2]] * 0.7 + 0.1
  found = decisions.choose(given, np.array([0, 1, 2, 2]))
  np.testing.assert_array_equal(found.weights, np.ones(3))
  assert found.value == found.before == 1


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda p, y: decisions.choose(p, y, objective="auc"),
      "objective is 'auc'",
    ),
    (
      lambda p, y: decisions.choose(p, y, rounds=0),
      "rounds is 0; it must be 1",
    ),
    (lambda p, y: decisions.choose(p, y, points=1), "points is 1; it must be"),
    (lambda p, y: decisions.choose(p, y[:1]), "labels are int64 of shape"),
    (lambda p, y: decisions.choose(p[:0], y[:0]), "at least one image"),
    (lambda p, y: decisions.weighted(p, [1, 0]), "above 0 for each of 2"),
    (lambda p, y: decisions.weighted(p, [1]), r"weights have shape \(1,\)"),
    (lambda p, y: decisions.least_cost(p, np.eye(3)), "a row for each of 2"),
    (
      lambda p, y: decisions.least_cost(p, np.full((2, 2), np.inf)),
      "costs must be finite",
    ),
    (
      lambda p, y: decisions.measure("macro_f1", np.zeros((2, 2))),
      "no images to choose by",
    ),
  ],
)
def test_what_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call(HEAD, TAIL)


def test_a_least_recall_that_is_met_costs_no_more_accuracy_than_it_must():
  given, labels = draw(3, (60, 20, 10))

  def reach(objective):
    weights = decisions.choose(given, labels, objective=objective).weights
    right = decisions.weighted(given, weights) == labels
    return right.mean(), min(right[labels == c].mean() for c in range(3))

  plain, low = reach("min_recall:0.01")
  found, least = reach("min_recall:0.6")
  worst, highest = reach("least_recall")
  assert low < 0.6 <= least <= highest
  assert plain > found >= worst


@pytest.mark.parametrize(
  "text", ["min_recall:", "min_recall:0", "min_recall:2"]
)
def test_a_recall_out_of_range_is_refused(text):
  with pytest.raises(ValueError, match="above 0, at most 1"):
    decisions.measure(text, np.eye(2, dtype=int))
