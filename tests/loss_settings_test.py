import dataclasses

import pytest

from ltjax import config as configs
from ltjax import loss_settings


def check(head="cosine", num_classes=3, **settings):
  loss_settings.check(
    loss_settings.of(settings), head=head, num_classes=num_classes
  )


def test_the_fields_and_defaults_are_those_of_the_config():
  config = configs.sslt().loss
  assert loss_settings.of(config) == loss_settings.Settings()
  assert set(config) == {
    field.name for field in dataclasses.fields(loss_settings.Settings)
  }


def test_lists_become_tuples():
  got = loss_settings.of({"delta": [1, 2], "class_weights": [3, 4]})
  assert got.delta == (1, 2) and got.class_weights == (3, 4)
  assert hash(got)


def test_unknown_field():
  with pytest.raises(ValueError, match="loss.taw. Did you mean loss.tau?"):
    loss_settings.of({"taw": 1})
  with pytest.raises(ValueError, match=r"loss.xyzxyz.$"):
    loss_settings.of({"xyzxyz": 1})


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"name": "cross_entropi"}, "loss.name .* Did you mean 'cross_entropy'?"),
    ({"name": "LDAM"}, "choose one of cross_entropy, .*mean 'ldam'?"),
    ({"name": "logit-adjustment"}, "Did you mean 'logit_adjustment'?"),
    ({"name": "qqq"}, "loss.name is 'qqq'; choose one of .*, vs.$"),
    ({"name": "balanced-softmax"}, "logit_adjustment with loss.tau=1"),
    ({"name": "CDT"}, "loss.name=vs with loss.tau=0"),
    ({"weights": "effective"}, "loss.weights .*'effective_number'?"),
    ({"reduction": "sum"}, "loss.reduction is 'sum'; .*mean, weighted_mean"),
    ({"counts": "unlabeled"}, "loss.counts .*'labeled'?"),
  ],
)
def test_unknown_names(settings, message):
  with pytest.raises(ValueError, match=message):
    check(**settings)


@pytest.mark.parametrize(
  "field, value",
  [
    ("gamma", -0.1),
    ("gamma", float("inf")),
    ("tau", -1.0),
    ("tau", float("nan")),
    ("vs_gamma", -0.1),
    ("margin", -0.1),
    ("margin", 2.0),
    ("beta", 1.0),
    ("beta", -0.5),
    ("defer", 1.0),
    ("defer", -0.1),
  ],
)
def test_out_of_range(field, value):
  with pytest.raises(ValueError, match=f"loss.{field} is {value}; it must be"):
    check(**{field: value}, weights="inverse")


@pytest.mark.parametrize("name", ["ldam", "ldam_hinge"])
def test_margins_need_the_cosine_head(name):
  message = "needs? the cosine head. .*head=cosine .*head_scale=30"
  with pytest.raises(ValueError, match=message):
    check(name=name, head="linear")
  check(name=name, head="cosine")


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"weights": "explicit"}, "has 0 numbers, but the task has 3 classes"),
    ({"class_weights": (1, 2)}, "set loss.weights=explicit"),
    (
      {"weights": "inverse", "class_weights": (1, 2, 3)},
      "loss.weights is 'inverse', which does not read them",
    ),
    (
      {"weights": "explicit", "class_weights": (1, 2)},
      "has 2 numbers, but the task has 3",
    ),
    (
      {"weights": "explicit", "class_weights": (1, -1, 1)},
      "must be 0 or more, finite, and not all 0",
    ),
    ({"weights": "explicit", "class_weights": (0, 0, 0)}, "not all 0"),
    (
      {"weights": "explicit", "class_weights": (1, float("nan"), 1)},
      "finite",
    ),
    ({"defer": 0.8}, "nothing to defer. Set loss.weights=effective_number"),
    ({"delta": (1, 1, 1)}, "loss.delta is given, .*loss.name=pairwise"),
    ({"name": "pairwise"}, "loss.delta has 0 numbers, .* 3 classes"),
    ({"name": "pairwise", "delta": (1, 1)}, "loss.delta has 2 numbers"),
    ({"name": "pairwise", "delta": (1, 0, 1)}, "each must be above 0"),
    (
      {"weighted_focal": True},
      "loss.name is 'cross_entropy'; set it to 'focal'",
    ),
    (
      {"name": "focal", "weighted_focal": True, "reduction": "weighted_mean"},
      "'weighted_mean' has none to divide by; set it to 'mean'",
    ),
  ],
)
def test_what_does_not_fit(settings, message):
  with pytest.raises(ValueError, match=message):
    check(**settings)


@pytest.mark.parametrize(
  "settings",
  [
    {"gamma": 0.0, "tau": 0.0, "vs_gamma": 0.0, "margin": 0.0, "beta": 0.0},
    {"weights": "explicit", "class_weights": (0, 1, 2), "defer": 0.5},
    {"name": "pairwise", "delta": (1, 1, 1), "head": "linear"},
    {"name": "focal", "weighted_focal": True, "weights": "effective_number"},
    {"reduction": "weighted_mean", "counts": "all"},
  ],
)
def test_what_fits(settings):
  check(**settings)
