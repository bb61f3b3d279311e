"""Splits by whole groups, against the best of all and by their promises."""

import itertools

import numpy as np
import pytest

from ltjax.data.parts import grouped

# A choice deviates from the best of all choices by at most so much. The unit
# is the sum over the classes of (share - wanted)^2 / (wanted (1 - wanted)).
BOUND = 0.15


def deviation(labels, chosen, wanted):
  n = np.bincount(labels, minlength=len(wanted))
  there = np.bincount(labels[chosen], minlength=len(wanted))
  if ((there == 0) | (there == n)).any():
    return np.inf
  return float(((there - wanted) ** 2 / (wanted * (n - wanted))).sum())


def small_case(seed):
  """A long-tailed set of at most 9 groups; each class has 2 or more."""
  rng = np.random.default_rng(seed)
  while True:
    groups = rng.integers(0, rng.integers(4, 10), rng.integers(20, 60))
    labels = rng.choice(4, len(groups), p=[0.5, 0.3, 0.15, 0.05])
    if grouped.groups_of_class(labels, groups, 4).min() > 1:
      return labels, groups


def test_near_the_best_of_all_choices():
  gaps = []
  for seed in range(40):
    labels, groups = small_case(seed)
    wanted = 0.2 * np.bincount(labels)
    members = groups == np.arange(groups.max() + 1)[:, None]
    best = min(
      deviation(labels, np.array(bits) @ members > 0, wanted)
      for bits in itertools.product((0, 1), repeat=len(members))
    )
    chosen = grouped.choose(labels, groups, wanted, seed=0)
    gaps.append(deviation(labels, chosen, wanted) - best)
  assert min(gaps) > -1e-12 and max(gaps) < BOUND
  assert np.mean(np.array(gaps) < 1e-9) > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_a_long_tailed_set(seed):
  """Lesions of 1 to 9 pictures, most of them of one class."""
  rng = np.random.default_rng(seed)
  sizes = rng.geometric(0.55, 3000)
  groups = rng.permutation(np.repeat(np.arange(3000), sizes))
  of_group = rng.choice(7, 3000, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.01, 0.01])
  labels = of_group[groups]
  test = grouped.stratified_test(
    labels, groups, 0.2, seed=seed, names=tuple("abcdefg"), where="x"
  )
  wanted = 0.2 * np.bincount(labels)
  assert abs(np.bincount(labels[test]) - wanted).max() <= 0.5
  assert not set(groups[test]) & set(groups[~test])
  # Small and large groups alike, not the large ones first.
  assert abs(sizes[np.unique(groups[test])].mean() / sizes.mean() - 1) < 0.05


def test_the_same_seed_chooses_the_same():
  labels, groups = small_case(3)
  wanted = 0.3 * np.bincount(labels)
  first = grouped.choose(labels, groups, wanted, seed=5)
  again = grouped.choose(labels, 7 * groups + 2, wanted, seed=5)
  np.testing.assert_array_equal(first, again)
  labels, groups = np.zeros(50, int), np.arange(50)
  found = {
    grouped.choose(labels, groups, np.array([10.0]), seed=s).tobytes()
    for s in range(5)
  }
  assert len(found) == 5


def test_groups_of_one_image_are_a_stratified_choice():
  labels = np.repeat([0, 1, 2], [50, 20, 10])
  chosen = grouped.choose(
    labels, np.arange(80), 0.2 * np.bincount(labels), seed=0
  )
  assert np.bincount(labels[chosen]).tolist() == [10, 4, 2]


def test_two_groups_of_a_class_are_on_two_sides():
  labels = np.array([0] * 90 + [0] * 10 + [1] * 3 + [1])
  groups = np.repeat([0, 1, 2, 3], [90, 10, 3, 1])
  chosen = grouped.choose(labels, groups, np.array([20.0, 0.8]), seed=0)
  assert np.unique(groups[chosen]).tolist() == [1, 3]


def test_a_class_of_one_group_stays():
  """With it all that this group holds."""
  labels = np.array([0, 0, 1, 0, 0, 0, 0, 0])
  groups = np.array([0, 0, 0, 1, 1, 2, 2, 2])
  chosen = grouped.choose(labels, groups, np.array([2.0, 0]), seed=0)
  assert np.unique(groups[chosen]).tolist() == [1]
  arguments = {"seed": 0, "names": ("owl", "elk"), "where": "csv:x"}
  with pytest.raises(ValueError, match=r"class 1 \(elk\) has its 1 images in"):
    grouped.stratified_test(labels, groups, 0.2, **arguments)
  assert not grouped.stratified_test(labels, groups, 0, **arguments).any()


def test_three_classes_of_three_groups_have_no_choice():
  """Each two of the groups share a class: two of them are on one side."""
  labels = np.array([0, 1, 0, 2, 1, 2])
  groups = np.array([0, 0, 1, 1, 2, 2])
  with pytest.raises(
    ValueError, match=r"x: no test part of whole groups .* \d"
  ):
    grouped.stratified_test(
      labels, groups, 0.3, seed=0, names=tuple("abc"), where="x"
    )


def test_validation():
  rng = np.random.default_rng(0)
  groups = rng.integers(0, 200, 2000)
  labels = rng.choice(3, 200, p=[0.7, 0.2, 0.1])[groups]
  labels[groups == 7] = 3  # a class of one group
  held = grouped.validation(
    labels, groups, 40, seed=0, names=("a", "b", "c", "d")
  )
  counts = np.bincount(labels[held], minlength=4)
  assert counts[3] == 0 and abs(counts[:3] - 40).max() <= 2
  rest = np.setdiff1d(np.arange(2000), held)
  assert not set(groups[held]) & set(groups[rest])
  with pytest.raises(ValueError, match=r"class 2 \(c\) has \d+ training .* at"):
    grouped.validation(labels, groups, 300, seed=0, names=("a", "b", "c", "d"))
  with pytest.raises(ValueError, match="each class has its training images in"):
    grouped.validation(
      np.array([0, 0, 1]), np.array([0, 0, 1]), 1, seed=0, names=("a", "b")
    )


def test_check():
  groups = np.array([0, 0, 1, 2])
  grouped.check(groups, np.array([0, 1]), np.array([2, 3]))
  with pytest.raises(
    ValueError, match=r"50.0 % of the validation .*\(1 of 2\)"
  ):
    grouped.check(groups, np.array([0, 3]), np.array([1, 2]))
