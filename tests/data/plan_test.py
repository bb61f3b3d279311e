"""Every unlabeled profile against counts worked out by hand."""

import json

import ml_collections
import numpy as np
import pytest

from ltjax.data import plan

AVAILABLE = np.full(10, 5000)
LABELED_500 = [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]


def make(labeled=None, unlabeled=None, per_class=0, available=AVAILABLE):
  return plan.make(
    plan.settings("labeled", labeled or {}, plan.LABELED),
    plan.settings("unlabeled", unlabeled or {}, plan.UNLABELED),
    plan.settings("validation", {"per_class": per_class}, plan.VALIDATION),
    available=np.asarray(available),
  )


def unlabeled(settings, labeled=None, available=AVAILABLE):
  return make(labeled, settings, available=available).unlabeled.tolist()


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
  "settings,expected",
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
def test_unlabeled_profiles(settings, expected):
  assert unlabeled(settings) == expected


def test_rescaled_five_times_cifar10_lt():
  got = unlabeled({"profile": "rescaled"}, {"max_count": 5000})
  assert got == [24999, 14984, 8983, 5384, 3228, 1934, 1156, 693, 415, 249]


def test_natural_leaves_the_choice_to_the_source():
  assert make(unlabeled={"profile": "natural"}).unlabeled is None


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


def test_settings_are_plain_json_and_accept_a_config_dict():
  config = ml_collections.ConfigDict({"max_count": 7, "counts": ()})
  got = plan.settings("labeled", config, plan.LABELED)
  assert got["max_count"] == 7 and got["rho"] == 100.0
  assert type(got) is dict
  numpy = {"max_count": np.int64(7), "rho": np.float32(2)}
  got = plan.settings("labeled", numpy, plan.LABELED)
  assert json.loads(json.dumps(got))["rho"] == 2.0
  assert plan.LABELED["max_count"] == 500  # the defaults are not written to


@pytest.mark.parametrize(
  "name,settings,message",
  [
    ("labeled", {"max_cnt": 3}, "unknown setting data.labeled.max_cnt: known"),
    ("labeled", {"max_count": 2.5}, "max_count is 2.5: it must be an integer"),
    ("labeled", {"max_count": "9"}, "max_count is '9': it must be an integer"),
    ("labeled", {"max_count": True}, "max_count is True"),
    ("labeled", {"max_count": None}, "max_count is None"),
    ("labeled", {"max_count": 0}, "data.labeled.max_count is 0: .*at least 1"),
    ("labeled", {"rho": "big"}, "data.labeled.rho is 'big': .*a number"),
    ("labeled", {"rho": 0.5}, "data.labeled.rho is 0.5: .*at least 1"),
    ("labeled", {"profile": "zipf"}, "data.labeled.profile is 'zipf': choose"),
    ("labeled", {"profile": 3}, "data.labeled.profile is 3: .*a string"),
    ("labeled", {"profile": "reversed"}, "'reversed': choose one of expon"),
    ("labeled", {"counts": (1, 2)}, "data.labeled.counts is set but"),
    ("labeled", {"counts": "12"}, "counts is '12': .*list of integers"),
    ("labeled", {"counts": 12}, "counts is 12: .*list of integers"),
    ("unlabeled", {"factor": -1.0}, "data.unlabeled.factor is -1"),
    ("unlabeled", {"factor": float("nan")}, "data.unlabeled.factor is nan"),
    ("unlabeled", {"rho": 0.1}, "data.unlabeled.rho is 0.1"),
    ("unlabeled", {"profile": "rest"}, "choose one of same, reversed"),
    ("unlabeled", {"uniform": "each"}, "choose one of per_class, total"),
    ("unlabeled", {"total": 0}, "data.unlabeled.total is 0"),
    ("validation", {"per_class": -1}, "data.validation.per_class is -1"),
    ("validation", {"fraction": 0.1}, "unknown setting data.validation.frac"),
  ],
)
def test_settings_refuse(name, settings, message):
  defaults = {
    "labeled": plan.LABELED,
    "unlabeled": plan.UNLABELED,
    "validation": plan.VALIDATION,
  }[name]
  with pytest.raises(ValueError, match=message):
    plan.settings(name, settings, defaults)


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
    ({"profile": "lomax", "alpha": -1.0}, {}, "data.labeled: alpha is -1"),
    ({}, {"profile": "rescaled", "total": 3}, "data.unlabeled: total is 3"),
  ],
)
def test_settings_that_do_not_go_together(labeled, theirs, message):
  with pytest.raises(ValueError, match=message):
    make(labeled, theirs)
