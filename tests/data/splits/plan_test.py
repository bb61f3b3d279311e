"""Every unlabeled profile against counts worked out by hand."""

import math

import numpy as np
import pytest

from ltjax.data.splits import plan, settings

AVAILABLE = np.full(10, 5000)
LABELED_500 = [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]


def make(labeled=None, unlabeled=None, per_class=0, available=AVAILABLE):
  return plan.make(
    settings.complete("labeled", labeled or {}, settings.LABELED),
    settings.complete("unlabeled", unlabeled or {}, settings.UNLABELED),
    settings.complete(
      "validation", {"per_class": per_class}, settings.VALIDATION
    ),
    available=np.asarray(available),
  )


def unlabeled(theirs, labeled=None, available=AVAILABLE):
  return make(labeled, theirs, available=available).unlabeled.tolist()


def test_defaults_keep_the_proportions_of_the_paper_exactly():
  got = make(per_class=3)
  assert got.labeled.tolist() == LABELED_500
  assert got.unlabeled.tolist() == [5 * n for n in LABELED_500]
  assert got.validation.tolist() == 10 * [3]


def test_a_fractional_factor_is_truncated_but_not_by_rounding_errors():
  small = {"profile": "explicit", "counts": (100, 10, 7)}
  have = [900, 900, 900]
  assert unlabeled({"factor": 0.29}, small, have) == [29, 2, 2]
  assert unlabeled({"factor": 1.5}, small, have) == [150, 15, 10]


@pytest.mark.parametrize(
  "theirs,expected",
  [
    # FixMatch-style settings: N1 500, M1 4000.
    (
      {"max_count": 4000},
      [4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40],
    ),
    (
      {"profile": "reversed", "max_count": 4000},
      [40, 66, 111, 185, 309, 516, 861, 1437, 2397, 4000],
    ),
    ({"profile": "reversed"}, [5 * n for n in LABELED_500[::-1]]),
    (
      {"profile": "middle", "max_count": 4000, "rho": 100.0},
      [66, 185, 516, 1437, 4000, 2397, 861, 309, 111, 40],
    ),
    (
      {"profile": "head_tail", "max_count": 4000, "rho": 100.0},
      [4000, 1437, 516, 185, 66, 40, 111, 309, 861, 2397],
    ),
    # rho of its own.
    ({"rho": 1.0}, 10 * [2500]),
    (
      {"rho": 50.0, "max_count": 3000},
      [3000, 1942, 1257, 814, 527, 341, 221, 143, 92, 60],
    ),
    # The two meanings of gamma_u = 1: 3000 each and 3000 in all.
    ({"profile": "uniform", "max_count": 3000}, 10 * [3000]),
    (
      {"profile": "uniform", "uniform": "total", "max_count": 3000},
      10 * [300],
    ),
    ({"profile": "uniform", "uniform": "total", "total": 999}, 10 * [99]),
    ({"profile": "uniform"}, 10 * [2500]),
    ({"profile": "uniform", "uniform": "total"}, 10 * [618]),
    (
      {"profile": "exponential", "max_count": 4000},
      [4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40],
    ),
    ({"profile": "exponential", "rho": 1.0}, 10 * [2500]),
    ({"profile": "explicit", "counts": range(10)}, list(range(10))),
    ({"profile": "rescaled", "rho": 1.0}, 10 * [618]),
    ({"profile": "rescaled", "total": 10, "rho": 1.0}, 10 * [1]),
    ({"factor": 0.0}, 10 * [0]),
    ({"factor": 0.0, "profile": "natural"}, 10 * [0]),
  ],
)
def test_unlabeled_profiles(theirs, expected):
  assert unlabeled(theirs) == expected


def test_rescaled_five_times_cifar10_lt():
  got = unlabeled({"profile": "rescaled"}, {"max_count": 5000})
  assert got == [24999, 14984, 8983, 5384, 3228, 1934, 1156, 693, 415, 249]


def slow_rescaled(total, rho, num_classes=10):
  """The rule as it is told in the papers' appendix, in plain Python."""
  first = total // num_classes
  base = [
    int(first * (1 / rho) ** (i / (num_classes - 1)))
    for i in range(num_classes)
  ]
  base[-1] = int(first / rho)
  return [int(n * (total / sum(base))) for n in base]


RHO_U = {
  1.0: 10 * [6203],
  50.0: [22159, 14346, 9288, 6012, 3893, 2518, 1632, 1053, 682, 442],
  100.0: [24999, 14984, 8983, 5384, 3228, 1934, 1156, 693, 415, 249],
  200.0: [27687, 15363, 8529, 4731, 2624, 1455, 807, 446, 245, 138],
}


@pytest.mark.parametrize("rho, expected", RHO_U.items())
def test_unlabeled_imbalance_at_a_fixed_total(rho, expected):
  """rho_u in 1, rho / 2, rho, 2 rho: five times CIFAR-10-LT each time."""
  theirs = {"profile": "rescaled", "rho": rho, "source": "pickle:ti"}
  assert unlabeled(theirs, {"max_count": 5000}) == expected
  assert slow_rescaled(5 * 12406, rho) == expected
  # What truncation loses is less than an image a class.
  assert 62030 - 10 < sum(expected) <= 62030


@pytest.mark.parametrize("source", ["train", "svhn_extra"])
@pytest.mark.parametrize("rho", [1.0, 50.0, 100.0, 200.0])
def test_unlabeled_imbalance_of_svhn(rho, source):
  ours = {"max_count": 1000}
  theirs = {"profile": "rescaled", "rho": rho, "source": source}
  got = unlabeled(theirs, ours)
  assert got == slow_rescaled(5 * 2478, rho)
  assert got[0] / got[-1] == pytest.approx(rho, rel=0.08)


def test_amounts_of_labeled_and_unlabeled_images():
  """One is halved and doubled while the other stays."""
  ours = {"max_count": 5000}
  for factor in (0.5, 1.0, 5.0, 10.0):
    got = unlabeled({"profile": "rescaled", "factor": factor}, ours)
    assert factor * 12406 - 10 < sum(got) <= factor * 12406
  fixed = {"profile": "rescaled", "total": 62030}
  half = make(ours | {"fraction": 0.5}, fixed)
  assert half.labeled.tolist() == [
    *(2500, 1498, 898, 538, 322, 193, 116, 69, 41, 25)
  ]
  assert half.unlabeled.tolist() == RHO_U[100.0]


DIGITS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)


@pytest.mark.parametrize(
  "theirs",
  [
    {},
    {"max_count": 4000},
    {"rho": 50.0},
    {"profile": "reversed", "max_count": 4000},
    {"profile": "exponential", "rho": 7.0},
    {"profile": "rescaled", "rho": 7.0},
    {"profile": "uniform"},
  ],
)
@pytest.mark.parametrize("profile", ["exponential", "step", "lomax"])
def test_a_curve_over_classes_in_another_order(profile, theirs):
  """The classes of the authors' SVHN are the digits 1 ... 9, 0."""
  ours = {"profile": profile, "scale": 10.0, "rho": 1.5}
  if profile == "lomax":
    theirs = {k: v for k, v in theirs.items() if k == "max_count"}
  plain = make(ours, theirs, per_class=3)
  moved = make(ours | {"class_order": DIGITS}, theirs, per_class=3)
  for digit in range(10):
    rank = digit - 1 if digit else 9
    assert moved.labeled[digit] == plain.labeled[rank]
    assert moved.unlabeled[digit] == plain.unlabeled[rank]
  assert moved.validation.tolist() == 10 * [3]


def test_class_order_breaks_ties_too():
  """All classes of one size: the unlabeled tail follows the order given."""
  got = make(
    {"rho": 1.0, "class_order": (2, 0, 1), "max_count": 10},
    {"profile": "exponential", "rho": 4.0},
    available=[900] * 3,
  )
  assert got.labeled.tolist() == [10, 10, 10]
  assert got.unlabeled.tolist() == [25, 12, 50]


def test_explicit_unlabeled_counts_stay_with_their_class():
  got = make(
    {"class_order": DIGITS},
    {"profile": "explicit", "counts": tuple(range(10, 20))},
  )
  assert got.unlabeled.tolist() == list(range(10, 20))
  assert got.labeled[1] == 500 and got.labeled[0] == 5


OTHERS = {"irrelevant": "cifar100"}


@pytest.mark.parametrize("relevance", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize(
  "theirs", [{}, {"profile": "rescaled", "rho": 50.0}, {"profile": "reversed"}]
)
def test_relevance_keeps_the_total_and_the_imbalance(theirs, relevance):
  whole = make({"max_count": 5000, "rho": 50.0}, theirs)
  got = make(
    {"max_count": 5000, "rho": 50.0},
    theirs | OTHERS | {"relevance": relevance},
  )
  assert whole.irrelevant == 0
  assert got.unlabeled.sum() + got.irrelevant == whole.unlabeled.sum()
  slow = [math.floor(relevance * n + 1e-9) for n in whole.unlabeled.tolist()]
  assert got.unlabeled.tolist() == slow
  assert got.labeled.tolist() == whole.labeled.tolist()
  if relevance:
    ratio = got.unlabeled.max() / got.unlabeled.min()
    assert ratio == pytest.approx(50, rel=0.02)


def test_nothing_is_relevant_where_all_is_natural():
  got = make({}, OTHERS | {"profile": "natural", "relevance": 0.5})
  assert got.unlabeled is None and got.irrelevant == 0  # known when drawn
  none = make({}, OTHERS | {"factor": 0.0, "relevance": 0.5})
  assert none.irrelevant == 0


def test_natural_leaves_the_choice_to_the_source():
  assert make(unlabeled={"profile": "natural"}).unlabeled is None


def test_validation_counts_of_a_file():
  """They take the place of `per_class`, which is 0 then."""
  have = np.array([10, 3, 100])
  got = plan.make(
    settings.complete("labeled", {"profile": "natural"}, settings.LABELED),
    settings.complete("unlabeled", {"factor": 0.0}, settings.UNLABELED),
    settings.VALIDATION | {"counts": (4, 1, 30)},
    available=have,
  )
  assert got.validation.tolist() == [4, 1, 30]
  assert got.labeled.tolist() == [6, 2, 70]


def test_natural_labels_are_what_validation_leaves():
  have = [10, 3, 100]
  got = make({"profile": "natural"}, {"factor": 0.0}, 2, have)
  assert got.labeled.tolist() == [8, 1, 98]
  some = {"profile": "natural", "fraction": 0.5}
  assert make(some, {"factor": 0.0}, 2, have).labeled.tolist() == [5, 1, 50]


def test_profiles_follow_the_ranks_of_unsorted_labels():
  odd = {"profile": "explicit", "counts": (2, 8, 4)}
  have = [900] * 3
  assert unlabeled({"profile": "reversed"}, odd, have) == [40, 10, 20]
  assert unlabeled(
    {"profile": "exponential", "max_count": 100, "rho": 4.0}, odd, have
  ) == [25, 100, 50]
  assert unlabeled({"max_count": 100}, odd, have) == [25, 100, 50]
  assert unlabeled(
    {"profile": "rescaled", "rho": 4.0, "total": 21}, odd, have
  ) == [1, 13, 5]  # 7 3 1, times 21 / 11


def test_same_keeps_a_step_a_step():
  got = unlabeled(
    {"rho": 10.0},
    {"profile": "step", "max_count": 20, "rho": 5.0, "minority_fraction": 0.2},
  )
  assert got == 8 * [100] + 2 * [10]


@pytest.mark.parametrize(
  "labeled,theirs,message",
  [
    ({}, {"total": 10}, "data.unlabeled: total is 10 but profile 'same'"),
    ({}, {"profile": "natural", "rho": 2.0}, "rho is 2.0 but .*'natural'"),
    ({}, {"profile": "uniform", "rho": 2.0}, "rho is 2.0 but .*'uniform'"),
    ({}, {"profile": "rescaled", "max_count": 2}, "max_count is 2 but"),
    ({}, {"profile": "uniform", "total": 9}, "total is for uniform='total'"),
    (
      {},
      {"profile": "uniform", "uniform": "total", "total": 9, "max_count": 9},
      "set total or max_count, not both",
    ),
    ({"profile": "lomax"}, {"rho": 2.0}, "'lomax' has no imbalance ratio"),
    ({}, {"profile": "explicit", "counts": (1,)}, "data.unlabeled: counts has"),
    ({"profile": "explicit"}, {}, "data.labeled: counts has 0 entries for 10"),
    (
      {"class_order": (0, 1)},
      {},
      r"class_order is \(0, 1\): it must name each of the classes 0 \.\.\. 9",
    ),
    ({"class_order": (0,) * 10}, {}, "must name each of the classes"),
    (
      {"profile": "natural", "class_order": DIGITS},
      {},
      "class_order is set but profile 'natural' has no curve",
    ),
    ({"profile": "lomax", "alpha": -1.0}, {}, "data.labeled: alpha is -1"),
    ({}, {"profile": "rescaled", "total": 3}, "data.unlabeled: total is 3"),
  ],
)
def test_settings_that_do_not_go_together(labeled, theirs, message):
  with pytest.raises(ValueError, match=message):
    make(labeled, theirs)
