import dataclasses

import numpy as np
import pytest

from ltjax import config as configs
from ltjax.losses import objective
from ltjax.losses import settings as loss_settings


def check(head="cosine", num_classes=3, **settings):
  loss_settings.check(
    loss_settings.of(settings), head=head, num_classes=num_classes
  )


def test_the_fields_and_defaults_are_those_of_the_config():
  config = configs.default().loss
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


def check_counts(counts, *, num_classes=None, class_names=(), **settings):
  counts = np.array(counts)
  loss_settings.check_counts(
    loss_settings.of(settings),
    counts,
    num_classes=len(counts) if num_classes is None else num_classes,
    class_names=class_names,
  )


@pytest.mark.parametrize(
  "settings, what",
  [
    ({"name": "ldam"}, "loss.name='ldam' takes a margin"),
    ({"name": "ldam_hinge"}, "takes a margin"),
    ({"name": "logit_adjustment"}, "takes a prior"),
    ({"name": "pairwise"}, "takes a prior"),
    ({"name": "vs"}, "takes a prior"),
    ({"weights": "inverse"}, "loss.weights='inverse' takes a weight"),
    ({"weights": "effective_number"}, "takes a weight"),
    ({"name": "vs", "weights": "inverse"}, "loss.name='vs' takes a prior"),
  ],
)
def test_a_class_without_images(settings, what):
  check_counts((3, 2, 1), **settings)
  with pytest.raises(ValueError, match=what) as caught:
    check_counts((3, 0, 0), class_names=("cat", "dog", "owl"), **settings)
  assert "2 of 3 classes have none: class 1 (dog), 2 (owl)." in str(
    caught.value
  )
  assert "--config.data.labeled.rho" in str(caught.value)


@pytest.mark.parametrize(
  "settings, way_out",
  [
    ({"name": "ldam"}, "--config.loss.name=cross_entropy."),
    ({"weights": "inverse"}, "--config.loss.weights=none."),
  ],
)
def test_the_way_out_is_a_setting(settings, way_out):
  with pytest.raises(ValueError) as caught:
    check_counts((3, 0), **settings)
  assert str(caught.value).endswith(way_out)


def test_ten_classes_are_named():
  with pytest.raises(ValueError, match="class 1, 2, .*, 10 and 4 more"):
    check_counts([1] + 14 * [0], name="ldam")


@pytest.mark.parametrize(
  "settings",
  [{}, {"name": "focal"}, {"name": "sigmoid"}, {"weights": "explicit"}],
)
def test_losses_that_read_no_counts(settings):
  check_counts((3, 0, 1), **settings)


@pytest.mark.parametrize("counts", [(1, -1), (1.0, float("nan")), (1, np.inf)])
def test_no_counts(counts):
  with pytest.raises(ValueError, match="each must be 0 or more, and finite"):
    check_counts(counts)


def test_another_number_of_classes():
  with pytest.raises(ValueError, match=r"shape \(2,\), but the task has 3"):
    check_counts((1, 2), num_classes=3)


def test_weights_come_from_a_file_by_name(tmp_path):
  path = tmp_path / "weights.csv"
  path.write_text("name,weight\ndog,2\ncat,0.5\n")
  made = objective.make(
    {"weights": "explicit", "class_weights_file": str(path)},
    head="linear",
    head_scale=1.0,
    num_classes=2,
    class_names=("cat", "dog"),
  )
  assert made.settings.class_weights == (0.5, 2.0)
  given = loss_settings.of({"class_weights_file": str(path)})
  with pytest.raises(ValueError, match="set loss.weights=explicit"):
    loss_settings.named(given, ("cat", "dog"))
