"""Intervals against draws of images one by one, and exact tests."""

from fractions import Fraction
import itertools

import numpy as np
import pytest

from ltjax.trust import intervals

GROUPS = {"many": (0,), "few": (1, 2)}
# Recalls 0.8, 0.5 and 0.4 of 40, 10 and 5 images.
CONFUSION = np.array([[32, 8, 0], [5, 5, 0], [2, 1, 2]])


def images_of(confusion):
  """Returns what was predicted and the truth, an entry an image."""
  pairs = [
    (k, c)
    for c, row in enumerate(confusion)
    for k, number in enumerate(row)
    for _ in range(number)
  ]
  return np.array(pairs).T


def slowly(predicted, labels, statistic, *, by_class, replicates=4000):
  """Draws images, not counts."""
  rng = np.random.default_rng(1)
  found = []
  for _ in range(replicates):
    if by_class:
      drawn = np.concatenate(
        [
          rng.choice(np.flatnonzero(labels == c), (labels == c).sum())
          for c in np.unique(labels)
        ]
      )
    else:
      drawn = rng.integers(0, len(labels), len(labels))
    found.append(statistic(predicted[..., drawn], labels[drawn]))
  return np.quantile(found, [0.025, 0.975])


def accuracy(predicted, labels):
  return np.mean(predicted == labels)


def balanced(predicted, labels):
  return np.mean([np.mean(predicted[labels == c] == c) for c in (0, 1, 2)])


def test_values_are_the_measured_ones():
  found = intervals.of_accuracy(CONFUSION, groups=GROUPS)
  assert list(found) == [
    "accuracy",
    "balanced_accuracy",
    "accuracy/many",
    "accuracy/few",
  ]
  values = [x.value for x in found.values()]
  np.testing.assert_allclose(values, [39 / 55, 1.7 / 3, 0.8, 7 / 15])
  assert all(x.low < x.value < x.high for x in found.values())


def test_as_if_images_were_drawn_one_by_one():
  found = intervals.of_accuracy(CONFUSION, groups=GROUPS, replicates=20_000)
  predicted, labels = images_of(CONFUSION)
  slow = slowly(predicted, labels, accuracy, by_class=False)
  np.testing.assert_allclose(found["accuracy"][1:], slow, atol=0.02)
  slow = slowly(predicted, labels, balanced, by_class=True)
  np.testing.assert_allclose(found["balanced_accuracy"][1:], slow, atol=0.02)


def test_difference_as_if_pairs_were_drawn_one_by_one():
  rng = np.random.default_rng(0)
  predicted, labels = images_of(CONFUSION)
  other = np.where(rng.random(55) < 0.3, labels, predicted)
  found = intervals.of_difference(
    predicted,
    other,
    labels,
    num_classes=3,
    groups=GROUPS,
    replicates=20_000,
  )
  pair = np.stack([predicted, other])
  for name, statistic in (
    ("accuracy", accuracy),
    ("balanced_accuracy", balanced),
  ):
    slow = slowly(
      pair,
      labels,
      lambda both, y, of=statistic: of(both[1], y) - of(both[0], y),
      by_class=name != "accuracy",
    )
    np.testing.assert_allclose(found[name][1:], slow, atol=0.02)
    assert found[name].value == pytest.approx(
      statistic(other, labels) - statistic(predicted, labels)
    )


def test_a_common_error_does_not_widen_the_difference():
  predicted, labels = images_of(CONFUSION)
  found = intervals.of_difference(
    predicted, predicted, labels, num_classes=3, groups=GROUPS
  )
  for low, high in (x[1:] for x in found.values()):
    assert -low == high > 0  # none of T images is all that is known
  # 1 - 0.025^(1 / 55).
  assert found["accuracy"].high == pytest.approx(0.064870, abs=1e-6)


def test_all_right_and_all_wrong_have_the_exact_binomial_bounds():
  found = intervals.of_accuracy(np.diag([10, 10]), groups={"a": (0,)})
  # 0.025^(1/10) and 0.025^(1/20), tables of Clopper and Pearson.
  assert found["accuracy/a"] == (1, pytest.approx(0.691503, abs=1e-6), 1)
  assert found["accuracy"].low == pytest.approx(0.831566, abs=1e-6)
  wrong = intervals.of_accuracy(np.array([[0, 10], [0, 0]]), groups={})
  assert wrong["accuracy"] == (0, 0, pytest.approx(0.308497, abs=1e-6))


def test_classes_and_groups_without_images_are_left_out():
  confusion = np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0]])
  found = intervals.of_accuracy(confusion, groups={"few": (2,)})
  assert found["accuracy/few"] == (None, None, None)
  assert found["balanced_accuracy"].value == 0.625


def test_more_images_narrow_the_interval_as_the_root():
  width = [
    np.ptp(intervals.of_accuracy(CONFUSION * n, groups={})["accuracy"][1:])
    for n in (1, 100)
  ]
  assert width[0] / width[1] == pytest.approx(10, rel=0.2)


def test_the_same_seed_gives_the_same_interval():
  one, two, three = (
    intervals.of_accuracy(CONFUSION, groups=GROUPS, seed=s) for s in (0, 0, 1)
  )
  assert one == two != three


def test_mcnemar_golden():
  # 1 against 9: 2 (1 + 10) / 1024.
  labels = np.zeros(13, int)
  first = np.array([0, *[1] * 9, 0, 0, 1])
  second = np.array([1, *[0] * 9, 0, 0, 1])
  found = intervals.disagreement(first, second, labels)
  assert found == (2, 1, 9, 1, 22 / 1024)


@pytest.mark.parametrize("b, c", [(0, 0), (3, 3), (0, 5), (2, 5), (6, 1)])
def test_mcnemar_counts_all_outcomes(b, c):
  labels = np.zeros(b + c + 1, int)
  first = np.array([0] * b + [1] * c + [0])
  second = np.array([1] * b + [0] * c + [0])
  as_far = sum(
    abs(2 * sum(bits) - (b + c)) >= abs(b - c)
    for bits in itertools.product((0, 1), repeat=b + c)
  )
  found = intervals.disagreement(first, second, labels)
  assert found.p_value == float(Fraction(as_far, 2 ** (b + c)))
  assert intervals.disagreement(second, first, labels).p_value == found.p_value


def test_mcnemar_of_many_images_stays_a_number():
  labels = np.zeros(6000, int)
  wrong = np.ones(6000, int)
  assert intervals.disagreement(labels, wrong, labels).p_value == 0
  half = np.arange(6000) % 2
  assert intervals.disagreement(half, 1 - half, labels).p_value == 1


@pytest.mark.parametrize(
  "confusion, changes, message",
  [
    ([[1, 2]], {}, "must be .C, C. counts"),
    ([[0, 0], [0, 0]], {}, "at least one image"),
    ([[1, -1], [0, 1]], {}, "counts of at least"),
    ([[0.5, 0.5], [0, 1]], {}, "confusion is float64"),
    ([[1]], {"level": 1}, r"level is 1; it must be in \(0, 1\)"),
    ([[1]], {"replicates": 9}, "replicates is 9; it must be 100 or more"),
    ([[1]], {"groups": {"a": (1,)}}, "group 'a' has class 1"),
  ],
)
def test_what_is_refused(confusion, changes, message):
  with pytest.raises(ValueError, match=message):
    intervals.of_accuracy(np.array(confusion), **({"groups": {}} | changes))


def test_other_images_are_refused():
  with pytest.raises(ValueError, match="must be .T., of the same images"):
    intervals.disagreement(np.zeros(3), np.zeros(2), np.zeros(3))
  with pytest.raises(ValueError, match="no images"):
    intervals.disagreement(np.zeros(0), np.zeros(0), np.zeros(0))
  with pytest.raises(ValueError, match="first are int64 of shape"):
    intervals.of_difference(
      np.zeros(2, int), np.zeros(3, int), np.zeros(3, int), num_classes=2,
      groups={},
    )  # fmt: skip
