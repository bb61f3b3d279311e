"""Tests of the files in configs/: each loads, fits its data and builds."""

import dataclasses
import pathlib
import runpy

import numpy as np
import pytest

from ltjax import config as configs
from ltjax import config_check, methods, sharding, train
from ltjax.data import sources
from ltjax.data import task as tasks

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.py")))
each = pytest.mark.parametrize("name", NAMES)
# Train images a class, test images a class and image shapes, as published.
OFFICIAL = {
  "cifar10": (5000, 1000, (32, 32, 3)),
  "fashion_mnist": (6000, 1000, (28, 28, 1)),
}


def load(name, arg=None):
  """Runs a config file as the command line does."""
  return runpy.run_path(str(FOLDER / f"{name}.py"))["get_config"](arg)


def flat(config):
  return dict(config.to_dict()), {
    f"{block}.{name}": value
    for block, content in config.to_dict().items()
    if isinstance(content, dict)
    for name, value in content.items()
  }


@pytest.fixture
def official(monkeypatch):
  """Stands in for data sets that may not be at hand: their labels, in black."""
  real = sources.load

  def load_set(name, **settings):
    if name not in OFFICIAL:
      return real(name, **settings)
    train_count, test_count, shape = OFFICIAL[name]
    parts = []
    for count in (train_count, test_count):
      labels = np.tile(np.arange(10, dtype=np.int32), count)
      parts += [np.zeros((10 * count, *shape), np.uint8), labels]
    return sources.Dataset(
      name, *parts, tuple("abcdefghij"), (0.5,), (0.5,), flip=True
    )

  monkeypatch.setattr(sources, "load", load_set)


def build(config):
  """Returns the task and the stages, as `train` builds them."""
  mesh = sharding.make_mesh(1)
  task = train.build_task(config, mesh, None)
  learner = train.build_learner(config, task, mesh)
  return task, methods.stages(config.method, learner, config)


def test_the_promised_files_are_there():
  assert {
    "digits_sslt",
    "fashion_mnist_sslt",
    "cifar10_sslt",
    "cifar10_sslt_small",
  } <= set(NAMES)


@each
def test_loads_and_passes_its_check(name):
  config = load(name)
  config_check.check(config)
  assert config.variant == "paper"
  assert config.data.source == name.split("_sslt")[0]


@each
def test_the_docstring_gives_the_command(name):
  text = (FOLDER / f"{name}.py").read_text()
  assert text.startswith('"""')
  docstring = text.split('"""')[1]
  assert f"--config=configs/{name}.py" in docstring


@each
def test_the_author_variant_is_another_preset(name):
  config = load(name, "variant=author_code")
  config_check.check(config)
  assert config.variant == "author_code" and config.shared_head
  assert config.consistency.memory_reset == "uniform"
  assert config.data.to_dict() == load(name).data.to_dict()
  assert config.model.to_dict() == load(name).model.to_dict()


@each
def test_an_unknown_argument_is_refused(name):
  with pytest.raises(ValueError, match="The config argument 'rhoo=3' is unkn"):
    load(name, "rhoo=3")


@each
@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_builds_its_stages(name, variant, official):
  config = load(name, f"variant={variant}")
  task, stages = build(config)
  assert [len(task.groups[g]) for g in ("many", "medium", "few")] == [3, 3, 4]
  assert len(stages) == 2 + 3 * config.loops
  assert [stage.name for stage in stages[:3]] == [
    "embedding",
    "classifier",
    "loop1/pseudo_label",
  ]
  assert all(stage.steps > 0 for stage in stages if stage.init is not None)
  n, m = task.num_labeled, len(task.truth)
  assert m == pytest.approx(5 * n, rel=0.01)


@pytest.mark.parametrize(
  "name", [n for n in NAMES if "arg.rho" in (FOLDER / f"{n}.py").read_text()]
)
def test_rho_sets_the_imbalance(name, official):
  config = load(name, "rho=10")
  assert config.data.labeled.rho == 10.0
  counts = build(config)[0].split.labeled_counts
  assert counts[0] // counts[-1] == 10


# -- CIFAR-10, as the paper has it.


def test_the_papers_schedule(official):
  config = load("cifar10_sslt")
  assert config.model.name == "resnet18" and config.loops == 5
  _, stages = build(config)
  epochs = {stage.name: stage.epochs for stage in stages if stage.steps}
  assert epochs["embedding"] == 200 and epochs["classifier"] == 10
  for loop in range(1, 6):
    assert epochs[f"loop{loop}/consistency"] == 40
    assert epochs[f"loop{loop}/refit"] == 10


def test_labeled_and_unlabeled_fit_into_cifar10(official):
  """833 labeled and five times as many unlabeled images in the first class."""
  split = build(load("cifar10_sslt"))[0].split
  assert split.labeled_counts[0] == 833 and split.labeled_counts[-1] == 8
  assert split.unlabeled_counts[0] == 4165
  assert not set(split.labeled) & set(split.unlabeled)


def test_the_papers_larger_imbalance(official):
  split = build(load("cifar10_sslt", "rho=1000"))[0].split
  assert split.labeled_counts[0] == 1000 and split.labeled_counts[-1] == 1
  assert split.unlabeled_counts[0] == 4000 and split.unlabeled_counts[-1] == 4


def test_an_external_pool_gives_the_papers_own_setting(official, monkeypatch):
  """5000 labeled images at most, and five times as many from the pool."""

  @dataclasses.dataclass
  class Pool:
    images = np.zeros((250_000, 32, 32, 3), np.uint8)
    labels = np.tile(np.arange(10, dtype=np.int32), 25_000)

  asked = []
  monkeypatch.setattr(
    tasks.pools, "load_pool", lambda name, **kw: asked.append(name) or Pool()
  )
  # The published counts (Yang and Xu) for ratio 100.
  config = load("cifar10_sslt", "pool=pickle:/x/ti_80M_selected.pickle")
  config_check.check(config)
  task, stages = build(config)
  assert asked == ["pickle:/x/ti_80M_selected.pickle"]
  assert task.split.labeled_counts == (
    *(5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50),
  )
  assert task.split.unlabeled_counts == (
    *(24999, 14984, 8983, 5384, 3228, 1934, 1156, 693, 415, 249),
  )
  assert len(stages) == 17
