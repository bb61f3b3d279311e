"""Checks of a config: every misfit is named, with what would fit."""

import pytest

from ltjax import config as configs
from ltjax.config import check as config_check
from ltjax.data.files import decoding as decodings


def changed(**fields):
  """The paper's config with fields set, known or not."""
  config = configs.default()
  for name, value in fields.items():
    block = config
    *parents, last = name.split("__")
    for parent in parents:
      block = block[parent]
    block[last] = value
  return config


@pytest.mark.parametrize(
  "field, message",
  [
    ("sed", "Unknown config field sed. Did you mean seed?"),
    (
      "embedding__epoch",
      "Unknown config field embedding.epoch. Did you mean embedding.epochs?",
    ),
    (
      "data__unlabeled__facto",
      "Unknown config field data.unlabeled.facto. Did you mean"
      " data.unlabeled.factor?",
    ),
    ("xyzzy", "Unknown config field xyzzy."),
  ],
)
def test_unknown_fields_are_named(field, message):
  with pytest.raises(ValueError) as caught:
    config_check.check(changed(**{field: 1}))
  assert str(caught.value) == message


@pytest.mark.parametrize("name", ["seed", "refit", "data.labeled.rho"])
def test_missing_fields_are_named(name):
  config = configs.default()
  *parents, last = name.split(".")
  block = config
  for parent in parents:
    block = block[parent]
  del block[last]
  with pytest.raises(
    ValueError, match=f"The config field {name} is missing; start the config"
  ):
    config_check.check(config)


def replaced(name, value):
  """The paper's config as a dict, where any type can be put in."""
  config = configs.default().to_dict()
  block = config
  *parents, last = name.split(".")
  for parent in parents:
    block = block[parent]
  block[last] = value
  return config


@pytest.mark.parametrize(
  "name, value, message",
  [
    ("seed", "1", "seed is '1'; it must be of type int."),
    ("seed", 1.0, "seed is 1.0; it must be of type int."),
    ("seed", True, "seed is True; it must be of type int."),
    ("seed", None, "seed is None; it must be of type int."),
    ("shared_head", 1, "shared_head is 1; it must be of type bool."),
    (
      "embedding.learning_rate",
      "0.1",
      "embedding.learning_rate is '0.1'; it must be of type float.",
    ),
    ("model.name", 18, "model.name is 18; it must be of type str."),
    ("data.groups", 3, "data.groups is 3; it must be of type tuple."),
    (
      "data.groups",
      ("3", "3", "4"),
      "data.groups is ('3', '3', '4'); it must hold numbers only.",
    ),
    (
      "embedding.milestones",
      [0.5, None],
      "embedding.milestones is [0.5, None]; it must hold numbers only.",
    ),
    ("refit", 3, "The config field refit must be a block."),
    (
      "data.unlabeled.rho",
      "x",
      "data.unlabeled.rho is 'x'; it must be a number.",
    ),
    (
      "data.unlabeled.total",
      True,
      "data.unlabeled.total is True; it must be a number.",
    ),
    (
      "consistency.weight",
      float("nan"),
      "consistency.weight is nan; it must be finite and at most 2 ** 53.",
    ),
    (
      "run.checkpoint_every_s",
      float("inf"),
      "run.checkpoint_every_s is inf; it must be finite and at most 2 ** 53.",
    ),
    (
      "embedding.milestones",
      (0.5, float("nan")),
      "embedding.milestones is (0.5, nan); it must be finite and at most 2 **"
      " 53.",
    ),
    (
      "data.labeled.max_count",
      2**53 + 1,
      "data.labeled.max_count is 9007199254740993; it must be finite and at"
      " most 2 ** 53.",
    ),
    ("seed", -1, "seed is -1; it must be 0 or more."),
    ("seeds", 0, "seeds is 0; it must be 1 or more."),
    ("data.seed", -2, "data.seed is -2; it must be 0 or more."),
    ("eval.last_k", 0, "eval.last_k is 0; it must be 1 or more."),
    ("run.keep", 1, "run.keep is 1; it must be 2 or more."),
    (
      "run.steps_per_call",
      -1,
      "run.steps_per_call is -1; it must be 0 or more.",
    ),
    (
      "run.rehearse",
      "yes",
      "run.rehearse is 'yes'; choose one of auto, always, never.",
    ),
  ],
)
def test_values_that_do_not_fit_are_named(name, value, message):
  with pytest.raises(ValueError) as caught:
    config_check.check(replaced(name, value))
  assert str(caught.value) == message


@pytest.mark.parametrize(
  "name, value",
  [
    ("embedding.learning_rate", 1),  # an integer where a float is expected
    ("data.groups", [3, 3, 4]),  # a list, as JSON gives it
    ("data.unlabeled.rho", 10),
    ("data.unlabeled.rho", None),
    ("data.labeled.counts", (5, 4)),
    ("seed", 0),
    ("eval.last_k", 1),
    ("run.keep", 2),
  ],
)
def test_values_that_fit_pass(name, value):
  config_check.check(replaced(name, value))


@pytest.mark.parametrize("config", [None, [], "paper", 3])
def test_what_is_no_config_is_refused(config):
  with pytest.raises(
    ValueError, match=r"get_config\(\) must return the ConfigDict of"
  ):
    config_check.check(config)


def test_the_config_of_a_run_does_not_say_with_how_many_others():
  config = changed(seed=3, data__groups=(2, 2)).lock()
  alone = config_check.of_run(config)
  assert alone.to_dict() | {"seeds": 1} == config.to_dict()
  assert "seeds" not in alone and config.seeds == 1


def test_several_seeds_are_not_one_run():
  with pytest.raises(ValueError) as caught:
    config_check.of_run(changed(seeds=5))
  assert str(caught.value) == (
    "seeds is 5, and this trains one; ltjax.launch.seeds.train, or python -m"
    " ltjax.main, trains several."
  )


@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_presets_pass_their_own_check(variant):
  config_check.check(configs.default(variant))


def test_fields_that_a_later_version_added_are_completed():
  config = configs.default("author_code").to_dict()
  config["seed"] = 7
  config["embedding"]["epochs"] = 3
  config["data"]["groups"] = [3, 3, 4]
  del config["posthoc"], config["refit"]["views"], config["refit"]["epochs"]
  completed = config_check.completed(config)
  config_check.check(completed)
  assert completed.seed == 7 and completed.embedding.epochs == 3
  assert completed.refit.epochs == 20  # the default of its variant
  assert completed.posthoc.name == "none"
  assert list(completed.data.groups) == [3, 3, 4]
  assert completed.data.background == "white"


def test_pictures_of_a_run_of_before_are_read_as_then():
  config = configs.default().to_dict()
  for name in ("broken", "pixel_range", "background", "pages"):
    del config["data"][name]
  data = config_check.completed(config).data
  found = decodings.make(data.pixel_range, data.background, data.pages)
  assert found == decodings.BEFORE and data.broken == "error"


def test_an_unknown_field_is_not_completed_away():
  config = configs.default().to_dict() | {"sed": 1}
  with pytest.raises(ValueError, match="Unknown config field sed"):
    config_check.check(config_check.completed(config))
