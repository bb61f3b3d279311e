"""Settings of a split: complete, plain, and refused where they are wrong."""

import json

import ml_collections
import numpy as np
import pytest

from ltjax.data.splits import settings


def test_settings_are_plain_json_and_accept_a_config_dict():
  config = ml_collections.ConfigDict({"max_count": 7, "counts": ()})
  got = settings.complete("labeled", config, settings.LABELED)
  assert got["max_count"] == 7 and got["rho"] == 100.0
  assert type(got) is dict
  numpy = {"max_count": np.int64(7), "rho": np.float32(2)}
  got = settings.complete("labeled", numpy, settings.LABELED)
  assert json.loads(json.dumps(got))["rho"] == 2.0
  assert settings.LABELED["max_count"] == 500  # the defaults are not written to


@pytest.mark.parametrize(
  "name,given,message",
  [
    ("labeled", {"max_cnt": 3}, "unknown setting data.labeled.max_cnt: known"),
    ("labeled", {"max_count": 2.5}, "max_count is 2.5: it must be an integer"),
    ("labeled", {"max_count": "9"}, "max_count is '9': it must be an integer"),
    ("labeled", {"max_count": True}, "max_count is True"),
    ("labeled", {"max_count": None}, "max_count is None"),
    ("labeled", {"max_count": 0}, "data.labeled.max_count is 0; .*1 or more"),
    ("labeled", {"rho": "big"}, "data.labeled.rho is 'big': .*a number"),
    ("labeled", {"rho": 0.5}, "data.labeled.rho is 0.5; .*1 or more"),
    ("labeled", {"profile": "zipf"}, "data.labeled.profile is 'zipf'; choose"),
    ("labeled", {"profile": 3}, "data.labeled.profile is 3: .*a string"),
    ("labeled", {"profile": "reversed"}, "'reversed'; choose one of expon"),
    ("labeled", {"counts": (1, 2)}, "data.labeled.counts is set but"),
    ("labeled", {"counts": "12"}, "counts is '12': .*list of integers"),
    ("labeled", {"counts": 12}, "counts is 12: .*list of integers"),
    ("unlabeled", {"factor": -1.0}, "data.unlabeled.factor is -1"),
    ("unlabeled", {"factor": float("nan")}, "data.unlabeled.factor is nan"),
    ("unlabeled", {"rho": 0.1}, "data.unlabeled.rho is 0.1"),
    ("unlabeled", {"profile": "rest"}, "choose one of same, reversed"),
    ("unlabeled", {"uniform": "each"}, "choose one of per_class, total"),
    ("unlabeled", {"total": 0}, "data.unlabeled.total is 0"),
    ("labeled", {"class_order": 3}, "class_order is 3: .*list of integers"),
    ("labeled", {"class_order": "10"}, "class_order is '10'"),
    (
      "unlabeled",
      {"relevance": 1.1},
      r"data.unlabeled.relevance is 1.1; .* \[0, 1\]",
    ),
    (
      "unlabeled",
      {"relevance": -0.1},
      "relevance is -0.1; it must be in",
    ),
    ("unlabeled", {"relevance": float("nan")}, "relevance is nan"),
    ("unlabeled", {"relevance": "all"}, "relevance is 'all': .*a number"),
    ("unlabeled", {"irrelevant": 3}, "irrelevant is 3: it must be a string"),
    (
      "unlabeled",
      {"relevance": 0.6},
      "relevance is 0.6 but data.unlabeled.irrelevant is empty: name where",
    ),
    ("validation", {"per_class": -1}, "data.validation.per_class is -1"),
    ("validation", {"fraction": 0.1}, "unknown setting data.validation.frac"),
    ("validation", {"index_file": 3}, "index_file is 3: it must be a string"),
    (
      "validation",
      {"per_class": 2, "index_file": "a.npy"},
      "per_class is 2 but data.validation.index_file names the images: set one",
    ),
    ("probe", {"images": "test"}, "images is 'test'; choose one of none, tr"),
    ("probe", {"per_class": True}, "per_class is True: it must be an integer"),
  ],
)
def test_settings_refuse(name, given, message):
  defaults = {
    "labeled": settings.LABELED,
    "unlabeled": settings.UNLABELED,
    "validation": settings.VALIDATION,
    "probe": settings.PROBE,
  }[name]
  with pytest.raises(ValueError, match=message):
    settings.complete(name, given, defaults)


def test_the_config_has_these_settings_and_these_defaults():
  from ltjax import config

  data = config.default().data
  for name, defaults in (
    ("labeled", settings.LABELED),
    ("unlabeled", settings.UNLABELED),
    ("validation", settings.VALIDATION),
    ("probe", settings.PROBE),
  ):
    assert data[name].to_dict() == defaults


def test_later_settings_are_on_record_only_where_they_have_a_say():
  """So that splits of runs made before keep their hash."""
  labeled = settings.complete("labeled", {}, settings.LABELED)
  assert "class_order" not in settings.recorded(labeled)
  unlabeled = settings.complete("unlabeled", {}, settings.UNLABELED)
  assert set(unlabeled) - set(settings.recorded(unlabeled)) == {
    "relevance",
    "irrelevant",
  }
  given = {"relevance": 0.5, "irrelevant": "cifar100"}
  unlabeled = settings.complete("unlabeled", given, settings.UNLABELED)
  assert settings.recorded(unlabeled) == unlabeled
  held = settings.complete("validation", {}, settings.VALIDATION)
  assert settings.recorded(held) == {"per_class": 0}


@pytest.mark.parametrize("name", ["D_i.npy", "a/D_i.npy", "~/x/y/D_i.npy"])
def test_an_index_file_is_recorded_by_its_name(name):
  given = {"index_file": name}
  block = settings.complete("validation", given, settings.VALIDATION)
  assert block["index_file"] == name
  assert settings.recorded(block) == {"per_class": 0, "index_file": "D_i.npy"}


@pytest.mark.parametrize("relevance", [0, 0.6, 1, 1.0])
def test_relevance_may_be_swept_from_nothing_to_all(relevance):
  given = {"relevance": relevance, "irrelevant": "classes:8,9"}
  got = settings.complete("unlabeled", given, settings.UNLABELED)
  assert got["relevance"] == relevance and type(got["relevance"]) is float
