"""Tests of configs: the two presets, arguments of a file, and checks."""

import ml_collections
import pytest

from ltjax import config as configs

BLOCKS = ("embedding", "classifier", "consistency", "refit")


def flat(config, prefix=""):
  found = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      found |= flat(value, f"{prefix}{name}.")
    else:
      found[f"{prefix}{name}"] = value
  return found


# -- Presets.


def test_paper_preset():
  """Section 4.4: 200 / 10 / 5 x (40 + 10) epochs, SGD 0.1, cosine."""
  config = configs.default()
  assert config.variant == "paper" and config.method == "sslt"
  assert config.loops == 5 and config.shared_head is False
  epochs = {"embedding": 200, "classifier": 10, "consistency": 40, "refit": 10}
  for name in BLOCKS:
    block = config[name]
    assert block.epochs == epochs[name], name
    assert block.learning_rate == 0.1 and block.schedule == "cosine", name
    assert block.momentum == 0.9 and block.weight_decay == 5e-4, name
    assert block.nesterov is False and block.milestones == (), name
  assert config.consistency.weight == 1.0
  assert config.consistency.memory_reset == "keep"
  assert config.consistency.sampler == "random"
  assert config.consistency.data == "all"
  assert config.refit.sampler == "class_balanced"
  assert config.refit.data == "labeled"
  assert config.pseudo_label.transform == "test"


def test_author_code_differs_in_these_settings_and_no_others():
  paper, author = flat(configs.default()), flat(configs.default("author_code"))
  assert paper.keys() == author.keys()
  differences = {k: author[k] for k in paper if paper[k] != author[k]}
  assert differences == {
    "variant": "author_code",
    "shared_head": True,  # one classifier, trained in both stages
    "classifier.epochs": 20,  # re-initialized, SGD 0.1 cosine
    "pseudo_label.transform": "train",
    # 50 epochs a loop; SGD 0.01, Nesterov, x 0.1 at epoch 40 of 50.
    "consistency.epochs": 50,
    "consistency.learning_rate": 0.01,
    "consistency.schedule": "step",
    "consistency.milestones": (0.8,),
    "consistency.nesterov": True,
    "consistency.memory_reset": "uniform",  # to 1 / C in each loop
    "refit.epochs": 20,  # SGD 0.001, constant
    "refit.learning_rate": 0.001,
    "refit.schedule": "constant",
    # GLMC's.
    "glmc.batch_size": 64,
    "glmc.beta": 1.0,
    "glmc.cutmix_side": "up",
    "glmc.crops": 2,
    "glmc.label_power": 1.2,
    "glmc.first_epoch": 0,
    "glmc.reduction": "sum",
    # Of plug-ins of weak and strong views.
    "acr.counting": "presence",
    "cdmad.image": "ones",
    "cdmad.statistics": "own",
    "darp.solver": "author_code",
    "simpro.leak": True,
    "simpro.smoothing": 0.0,
  }
  assert author["consistency.factor"] == 0.1
  assert 0.8 * author["consistency.epochs"] == 40


def test_an_unknown_variant_is_refused():
  with pytest.raises(
    ValueError, match="variant is 'papr'; choose one of paper, author_code"
  ):
    configs.default("papr")


def test_presets_share_nothing():
  first, second = configs.default(), configs.default()
  first.refit.epochs = 99
  first.data.labeled.rho = 2.0
  assert second.refit.epochs == 10 and second.data.labeled.rho == 100.0


# -- Arguments of a config file.


def parse(arg):
  return configs.parse_arg(arg, rho=100.0, variant="paper", loops=5).to_dict()


@pytest.mark.parametrize("arg", [None, ""])
def test_no_argument_gives_the_defaults(arg):
  assert parse(arg) == {"rho": 100.0, "variant": "paper", "loops": 5}


def test_arguments_take_the_types_of_the_defaults():
  got = parse("rho=1000,variant=author_code,loops=3")
  assert got == {"rho": 1000.0, "variant": "author_code", "loops": 3}
  assert isinstance(got["rho"], float)


def test_a_value_may_hold_colons_and_equals_signs():
  got = configs.parse_arg("pool=pickle:/a=b/c.pickle", pool="")
  assert got.pool == "pickle:/a=b/c.pickle"


@pytest.mark.parametrize("arg", ["rh=1", "rho", "rho=1,x=2", "=3"])
def test_an_unknown_argument_is_refused(arg):
  with pytest.raises(
    ValueError,
    match="is unknown; known are rho=100.0, variant=paper, loops=5",
  ):
    parse(arg)


@pytest.mark.parametrize(
  "arg, kind", [("rho=x", "float"), ("loops=2.5", "int"), ("loops=", "int")]
)
def test_an_argument_of_another_type_is_refused(arg, kind):
  name, value = arg.split("=")
  with pytest.raises(
    ValueError,
    match=f"The config argument {name} is '{value}'; it must be a {kind}",
  ):
    parse(arg)
