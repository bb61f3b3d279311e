"""Published counts, hand-worked profiles and every refusal."""

import math

import numpy as np
import pytest

from ltjax.data.splits import profiles

# (classes, max_count, rho, counts or their ends, total): what the papers of the
# field print or their code makes.
PUBLISHED = [
  (
    10,
    5000,
    10,
    (5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500),
    20431,
  ),
  (10, 5000, 50, (5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100), 13996),
  (10, 5000, 100, (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50), 12406),
  (10, 5000, 1000, (5000, 2320, 1077, 500, 232, 107, 50, 23, 10, 5), 9324),
  (100, 500, 10, (500, ..., 50), 19573),
  (100, 500, 50, (500, ..., 10), 12608),
  (100, 500, 100, (500, ..., 5), 10847),
  (10, 1000, 10, (1000, ..., 100), 4084),
  (10, 1000, 50, (1000, ..., 20), 2795),
  (10, 1000, 100, (1000, 599, 359, 215, 129, 77, 46, 27, 16, 10), 2478),
  (10, 1500, 50, (1500, ..., 30), 4196),
  (10, 1500, 100, (1500, 899, 539, 323, 193, 116, 69, 41, 25, 15), 3720),
  (10, 1500, 150, (1500, ..., 10), 3496),
  (10, 1500, 200, (1500, ..., 7), 3358),
  (10, 3000, 50, (3000, ..., 60), 8397),
  (10, 3000, 100, (3000, 1798, 1078, 646, 387, 232, 139, 83, 50, 30), 7443),
  (10, 3000, 150, (3000, ..., 20), 6996),
  (10, 3000, 200, (3000, ..., 15), 6720),
  (10, 500, 100, (500, 299, 179, 107, 64, 38, 23, 13, 8, 5), 1236),
  (10, 500, 150, (500, ..., 3), 1162),
  (10, 500, 200, (500, ..., 2), 1117),
  (10, 4000, 100, (4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40), 9922),
  (10, 4000, 150, (4000, ..., 26), 9329),
  (10, 4000, 200, (4000, ..., 20), 8960),
  (100, 150, 10, (150, ..., 15), 5835),
  (100, 300, 10, (300, ..., 30), 11720),
  (100, 150, 20, (150, ..., 7), 4741),
  (100, 300, 20, (300, ..., 15), 9527),
  (100, 50, 10, (50, ..., 5), 1911),
  (100, 400, 10, (400, ..., 40), 15651),
  (100, 50, 20, (50, ..., 2), 1545),
  (100, 400, 20, (400, ..., 20), 12719),
  # SDCLR: what 500 and 50 validation images a class leave.
  (10, 4500, 100, (4500, ..., 45), 11165),
  (100, 450, 100, (450, ..., 4), 9754),
]


@pytest.mark.parametrize("classes,most,rho,expected,total", PUBLISHED)
def test_exponential_gives_the_published_counts(
  classes, most, rho, expected, total
):
  got = profiles.counts("exponential", classes, max_count=most, rho=rho)
  assert got.dtype == np.int64 and got.shape == (classes,)
  if ... in expected:
    assert (got[0], got[-1]) == (expected[0], expected[-1])
  else:
    assert tuple(got) == expected
  assert got.sum() == total
  assert np.all(np.diff(got) <= 0)


@pytest.mark.parametrize(
  "classes,most,rho,last,unforced",
  [(10, 3000, 200, 15, 14), (100, 500, 50, 10, 9)],
)
def test_the_last_class_is_forced(classes, most, rho, last, unforced):
  power = (1 / rho) ** (1 / (classes - 1))
  assert int(most * power ** (classes - 1)) == unforced  # what goes wrong
  got = profiles.counts("exponential", classes, max_count=most, rho=rho)
  assert got[-1] == last


def test_the_last_class_is_not_lost_to_an_inverse():
  assert int(49 * (1 / 49)) == 0
  got = profiles.counts("exponential", 3, max_count=49, rho=49)
  assert got.tolist() == [49, 7, 1]


def test_exponential_extremes():
  flat = profiles.counts("exponential", 4, max_count=7, rho=1)
  assert flat.tolist() == [7, 7, 7, 7]
  assert profiles.counts("exponential", 1, max_count=9).tolist() == [9]
  two = profiles.counts("exponential", 2, max_count=9, rho=4)
  assert two.tolist() == [9, 2]
  gone = profiles.counts("exponential", 3, max_count=50, rho=1e9)
  assert gone.tolist() == [50, 0, 0]


@pytest.mark.parametrize(
  "classes,fraction,expected",
  [
    (4, 0.5, [1000, 1000, 10, 10]),
    (5, 0.5, [1000, 1000, 10, 10, 10]),
    (10, 0.9, [1000] + 9 * [10]),
    (10, 0.1, 9 * [1000] + [10]),
    (3, 0.99, [1000, 10, 10]),
    (1, 0.5, [1000]),
  ],
)
def test_step(classes, fraction, expected):
  got = profiles.counts(
    "step", classes, max_count=1000, rho=100, minority_fraction=fraction
  )
  assert got.tolist() == expected


@pytest.mark.parametrize("rho, smallest", [(10, 500), (50, 100), (100, 50)])
def test_step_is_that_of_ldam(rho, smallest):
  """Half of the classes whole, the others `int(n * imb_factor)`."""
  got = profiles.counts("step", 10, max_count=5000, rho=rho)
  slow = [5000] * 5 + [int(5000 * (1 / rho))] * 5
  assert got.tolist() == slow == [5000] * 5 + [smallest] * 5


def test_lomax_is_the_imagenet_list_of_the_paper():
  got = profiles.counts("lomax", 1000, max_count=250, alpha=6.0, scale=1000.0)
  assert got.sum() == 41134
  assert (got.max(), got.min()) == (250, 2)
  groups = (
    (got > 100).sum(),
    ((got > 10) & (got <= 100)).sum(),
    (got <= 10).sum(),
  )
  assert groups == (140, 433, 427)


def test_lomax_against_plain_python_and_never_below_one():
  got = profiles.counts("lomax", 12, max_count=40, alpha=2.0, scale=3.0)
  slow = [max(round(40 / (1 + i / 3) ** 3), 1) for i in range(12)]
  assert got.tolist() == slow
  assert got[-1] == 1 and 40 / (1 + 11 / 3) ** 3 < 0.5


def test_explicit_is_kept():
  got = profiles.counts("explicit", 3, counts=[4, 0, np.int32(9)])
  assert got.tolist() == [4, 0, 9]


def test_natural_takes_a_fraction_and_at_least_one():
  got = profiles.counts("natural", 4, fraction=0.29, available=[100, 10, 3, 1])
  assert got.tolist() == [29, 2, 1, 1]
  assert int(0.29 * 100) == 28  # the rounding it guards against
  whole = profiles.counts("natural", 3, available=[5, 0, 2])
  assert whole.tolist() == [5, 0, 2]


@pytest.mark.parametrize(
  "profile, options, whole",
  [
    ("exponential", {"max_count": 100, "rho": 100}, [100, 21, 4, 1]),
    ("step", {"max_count": 10, "rho": 10}, [10, 10, 1, 1]),
    ("lomax", {"max_count": 8, "scale": 4.0}, [8, 2, 1, 1]),
    ("explicit", {"counts": (9, 0, 4, 3)}, [9, 0, 4, 3]),
    ("natural", {"available": (9, 7, 4, 3)}, [9, 7, 4, 3]),
  ],
)
def test_less_of_the_same_profile(profile, options, whole):
  assert profiles.counts(profile, 4, **options).tolist() == whole
  for fraction in (0.01, 0.25, 0.5, 0.999):
    got = profiles.counts(profile, 4, fraction=fraction, **options)
    slow = [min(max(math.floor(fraction * n), 1), n) for n in whole]
    assert got.tolist() == slow
    assert got.dtype == np.int64


@pytest.mark.parametrize(
  "labeled,rho,expected",
  [
    (
      12406,
      50,
      [22159, 14346, 9288, 6012, 3893, 2518, 1632, 1053, 682, 442],
    ),
    (
      12406,
      200,
      [27687, 15363, 8529, 4731, 2624, 1455, 807, 446, 245, 138],
    ),
    (12406, 100, [24999, 14984, 8983, 5384, 3228, 1934, 1156, 693, 415, 249]),
    (12406, 1, 10 * [6203]),
    (9324, 1000, [25004, 11601, 5385, 2499, 1158, 536, 246, 112, 53, 21]),
  ],
)
def test_rescaled_gives_the_published_unlabeled_sets(labeled, rho, expected):
  got = profiles.rescaled(5 * labeled, 10, rho=rho)
  assert got.tolist() == expected


def test_rescaled_total():
  assert profiles.rescaled(5 * 12406, 10, rho=100).sum() == 62025


def test_by_rank_follows_the_reference_and_breaks_ties_by_index():
  got = profiles.by_rank(np.array([9, 5, 5, 1]), np.array([2, 7, 7, 3]))
  assert got.tolist() == [1, 9, 5, 5]
  got = profiles.by_rank(np.array([4, 3, 2]), np.array([8, 8, 8]))
  assert got.tolist() == [4, 3, 2]
  many = profiles.by_rank(np.arange(100), np.tile([5, 6], 50))
  assert many.tolist() == [i // 2 + 50 * (i % 2 == 0) for i in range(100)]


@pytest.mark.parametrize(
  "profile,options,message",
  [
    ("zipf", {}, "profile is 'zipf'; choose one of exponential, step"),
    ("exponential", {}, "max_count is None: profile 'exponential' needs"),
    ("step", {"max_count": 0}, "max_count is 0"),
    ("exponential", {"max_count": 5, "rho": 0.5}, "rho is 0.5; .*1 or more"),
    ("step", {"max_count": 5, "rho": 0.99}, "rho is 0.99"),
    ("exponential", {"max_count": 5, "rho": math.nan}, "rho is nan"),
    ("exponential", {"max_count": 5, "rho": math.inf}, "rho is inf"),
    ("lomax", {"max_count": 5, "alpha": 0.0}, "alpha is 0.0; .*above 0"),
    ("lomax", {"max_count": 5, "scale": -1.0}, "scale is -1"),
    (
      "step",
      {"max_count": 5, "minority_fraction": 1.0},
      r"minority_fraction is 1.0; it must be in \(0, 1\)",
    ),
    ("explicit", {"counts": (1, 2)}, "counts has 2 entries for 3 classes"),
    ("explicit", {"counts": (1, 2, -3)}, r"counts\[2\] is -3"),
    ("explicit", {"counts": (1, 2.0, 3)}, r"counts\[1\] is 2.0"),
    ("explicit", {"counts": (True, 2, 3)}, r"counts\[0\] is True"),
    ("natural", {}, "needs the available count"),
    ("natural", {"available": (1, 2)}, "needs the available count"),
    (
      "exponential",
      {"max_count": 5, "fraction": 0.0},
      r"fraction is 0.0; it must be in \(0, 1\]",
    ),
    (
      "natural",
      {"available": (1, 2, 3), "fraction": 1.5},
      r"fraction is 1.5; it must be in \(0, 1\]",
    ),
  ],
)
def test_refusals(profile, options, message):
  with pytest.raises(ValueError, match=message):
    profiles.counts(profile, 3, **options)


def test_no_classes_and_too_small_a_total():
  with pytest.raises(ValueError, match="num_classes is 0"):
    profiles.counts("exponential", 0, max_count=3)
  with pytest.raises(
    ValueError, match="total is 9: 10 classes need at least 10"
  ):
    profiles.rescaled(9, 10, rho=1)


def test_class_orders_are_permutations():
  orders = [profiles.class_order(10, seed) for seed in range(20)]
  assert all(sorted(order) == list(range(10)) for order in orders)
  assert len(set(orders)) == 20
  assert profiles.class_order(10, 3) == orders[3]
  assert all(type(c) is int for c in orders[0])
  # Config files and results have them: they must stay.
  assert profiles.class_order(6, 0) == (3, 2, 5, 4, 0, 1)
