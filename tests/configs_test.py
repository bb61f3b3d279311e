"""Tests of the files in configs/: each loads, fits its data and builds."""

import dataclasses
import pathlib
import re
import runpy

import numpy as np
import pytest

from ltjax import config as configs
from ltjax import methods
from ltjax.config import check as config_check
from ltjax.data.host import host_images
from ltjax.data.sources import labeled, unlabeled
from ltjax.devices import sharding
from ltjax.methods import build

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.py")))
each = pytest.mark.parametrize("name", NAMES)
each_sslt = pytest.mark.parametrize(
  "name", [n for n in NAMES if "_sslt" in n and "imagenet" not in n]
)
LT = tuple(n for n in NAMES if n.endswith("_lt") and "imagenet" not in n)
# Classes, train and test images a class and image shapes, as published; SVHN's
# images are not even over the classes, which nothing here depends on.
OFFICIAL = {
  "cifar10": (10, 5000, 1000, (32, 32, 3)),
  "cifar100": (100, 500, 100, (32, 32, 3)),
  "fashion_mnist": (10, 6000, 1000, (28, 28, 1)),
  "svhn": (10, 4659, 1000, (32, 32, 3)),
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
  real = labeled.load

  def load_set(name, **settings):
    if name not in OFFICIAL:
      return real(name, **settings)
    classes, train_count, test_count, shape = OFFICIAL[name]
    size = settings.get("image_size")
    shape = (size, size, shape[-1]) if size else shape
    parts = []
    for count in (train_count, test_count):
      labels = np.tile(np.arange(classes, dtype=np.int32), count)
      # One black image, seen many times: no memory.
      black = np.broadcast_to(np.zeros(shape, np.uint8), (len(labels), *shape))
      parts += [black, labels]
    names = tuple(str(c) for c in range(classes))
    scale = (0.5,) * shape[-1]
    return labeled.Dataset(name, *parts, names, scale, scale, flip=True)

  monkeypatch.setattr(labeled, "load", load_set)


def built(config):
  """Returns the task and the stages, as `train` builds them."""
  mesh = sharding.make_mesh(1)
  task = build.build_task(config, mesh, None)
  learner = build.build_learner(config, task, mesh)
  return task, methods.stages(learner, config)


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
  if not {"imagenet", "natural", "own"} & set(name.split("_")):
    source = re.sub(r"(_14)?_(sslt|lt|fassl|pretrained).*", "", name)
    assert config.data.source == source


@each
def test_the_docstring_gives_the_command(name):
  text = (FOLDER / f"{name}.py").read_text()
  assert text.startswith('"""')
  docstring = text.split('"""')[1]
  assert f"--config=configs/{name}.py" in docstring


@each_sslt
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


@each_sslt
@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_builds_its_stages(name, variant, official):
  config = load(name, f"variant={variant}")
  task, stages = built(config)
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
  "name",
  [
    n
    for n in NAMES
    if n not in LT and "arg.rho" in (FOLDER / f"{n}.py").read_text()
  ],
)
def test_rho_sets_the_imbalance(name, official):
  config = load(name, "rho=10")
  assert config.data.labeled.rho == 10.0
  # FASSL's sets are long-tailed over a permutation of the classes.
  counts = sorted(built(config)[0].split.labeled_counts)
  assert counts[-1] // counts[0] == 10


# -- CIFAR-10, as the paper has it.


def test_the_papers_schedule(official):
  config = load("cifar10_sslt")
  assert config.model.name == "resnet18" and config.loops == 5
  _, stages = built(config)
  epochs = {stage.name: stage.epochs for stage in stages if stage.steps}
  assert epochs["embedding"] == 200 and epochs["classifier"] == 10
  for loop in range(1, 6):
    assert epochs[f"loop{loop}/consistency"] == 40
    assert epochs[f"loop{loop}/refit"] == 10


def test_labeled_and_unlabeled_fit_into_cifar10(official):
  """833 labeled and five times as many unlabeled images in the first class."""
  split = built(load("cifar10_sslt"))[0].split
  assert split.labeled_counts[0] == 833 and split.labeled_counts[-1] == 8
  assert split.unlabeled_counts[0] == 4165
  assert not set(split.labeled) & set(split.unlabeled)


def test_the_papers_larger_imbalance(official):
  split = built(load("cifar10_sslt", "rho=1000"))[0].split
  assert split.labeled_counts[0] == 1000 and split.labeled_counts[-1] == 1
  assert split.unlabeled_counts[0] == 4000 and split.unlabeled_counts[-1] == 4


def test_an_external_pool_gives_the_papers_own_setting(official, monkeypatch):
  """5000 labeled images at most, and five times as many from the pool."""

  @dataclasses.dataclass
  class Pool:
    images = np.ones((250_000, 32, 32, 3), np.uint8)
    labels = np.tile(np.arange(10, dtype=np.int32), 25_000)
    understood = ""

  asked = []
  monkeypatch.setattr(
    unlabeled, "load_pool", lambda name, **kw: asked.append(name) or Pool()
  )
  # The published counts (Yang and Xu) for ratio 100.
  config = load("cifar10_sslt", "pool=pickle:/x/ti_80M_selected.pickle")
  config_check.check(config)
  task, stages = built(config)
  assert asked == ["pickle:/x/ti_80M_selected.pickle"]
  assert task.split.labeled_counts == (
    *(5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50),
  )
  assert task.split.unlabeled_counts == (
    *(24999, 14984, 8983, 5384, 3228, 1934, 1156, 693, 415, 249),
  )
  assert len(stages) == 17


# -- Rows of tables.


@pytest.mark.parametrize("name", ["cifar10_sslt", "fashion_mnist_14_sslt"])
def test_rows_of_liu_et_al(name, official):
  """The methods of Table 1 see the same split."""
  splits = set()
  for row, method in (
    ("ldam_drw", "supervised"),
    ("pseudo_label_d", "pseudo_label"),
    ("mean_teacher_l", "mean_teacher"),
    ("sslt", "sslt"),
  ):
    config = load(name, f"row={row}")
    config_check.check(config)
    assert config.method == method
    task, stages = built(config)
    splits.add(task.split.hash)
    assert stages
  assert len(splits) == 1


@pytest.mark.parametrize("name", LT)
def test_supervised_rows_of_yang_and_xu(name, official):
  config = load(name, "row=ldam_drw_ssp,rho=50")
  config_check.check(config)
  task, stages = built(config)
  assert [stage.name for stage in stages] == ["pretrain", "embedding"]
  assert len(task.truth) == 0
  counts = task.split.labeled_counts
  assert counts[0] // counts[-1] == 50
  assert len(task.images) == task.num_labeled
  epochs = config.embedding.epochs
  rates = [
    float(stages[1].schedule(epoch * stages[1].steps_per_epoch))
    for epoch in (epochs // 2, round(0.85 * epochs), round(0.95 * epochs))
  ]
  np.testing.assert_allclose(rates, [0.1, 1e-3, 1e-5], rtol=1e-5)


def test_the_labeled_sets_of_yang_and_xu(official):
  assert built(load("cifar10_lt"))[0].split.labeled_counts == (
    *(5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50),
  )
  assert sum(built(load("cifar100_lt"))[0].split.labeled_counts) == 10847
  assert sum(built(load("svhn_lt"))[0].split.labeled_counts) == 2478


@pytest.mark.parametrize("name", ["cifar10_lt", "fashion_mnist_14_lt"])
@pytest.mark.parametrize("rho_u", [1, 50, 200])
def test_unlabeled_rows_keep_their_total(name, rho_u, official):
  """Five times the labeled images, whatever their imbalance."""
  arg = f"row=ce_du,rho_u={rho_u}"
  if name == "cifar10_lt":
    arg += ",max_count=400"
  task, _ = built(load(name, arg))
  counts = task.split.unlabeled_counts
  assert len(task.truth) == pytest.approx(5 * task.num_labeled, rel=0.02)
  # A profile of a tenth of the size is rounded down, then multiplied.
  assert counts[-1] == pytest.approx(counts[0] / rho_u, abs=10)


# -- ImageNet-SSLT, without its pictures.


@pytest.fixture
def imagenet(monkeypatch):
  """1250 train and 2 test pictures a class, all one black one, on the host."""
  asked = []

  def black(count):
    pixels = np.zeros((1, 256, 256, 3), np.uint8)
    shape = (count, *pixels.shape[1:])
    return host_images.ArrayImages(np.broadcast_to(pixels, shape))

  def load_set(name, **settings):
    asked.append((name, settings["root"], settings["pictures"] is not None))
    parts = []
    for count in (1250, 2):
      labels = np.repeat(np.arange(1000, dtype=np.int32), count)
      parts += [black(len(labels)), labels]
    names = tuple(f"n{c:04}" for c in range(1000))
    half = (0.5, 0.5, 0.5)
    return labeled.Dataset(name, *parts, names, half, half, flip=True)

  monkeypatch.setattr(labeled, "load", load_set)
  return asked


def test_imagenet_sslt_is_the_papers_set(imagenet):
  config = load("imagenet_sslt", "root=/data/imagenet")
  config_check.check(config)
  task, stages = built(config)
  assert imagenet == [("folder:/data/imagenet", "", True)]
  counts = task.split.labeled_counts
  assert (sum(counts), counts[0], counts[-1]) == (41_134, 250, 2)
  assert task.split.unlabeled_counts == tuple(4 * n for n in counts)
  assert [len(task.groups[g]) for g in task.groups] == [140, 433, 427]
  assert task.image_shape == (224, 224, 3)
  assert task.images.shape == (205_670, 256, 256, 3)
  assert isinstance(task.images, host_images.HostImages)
  assert [stage.name for stage in stages[:3]] == [
    "embedding",
    "classifier",
    "loop1/pseudo_label",
  ]
  assert (stages[0].epochs, stages[0].batch_size) == (200, 512)
  assert len(stages) == 17


@pytest.mark.parametrize(
  "row",
  "sslt decoupling pseudo_label_d ldam_drw pseudo_label_l"
  " mean_teacher_l".split(),
)
@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_imagenet_sslt_has_the_rows_of_table_2(row, model):
  config = load("imagenet_sslt", f"row={row},model={model}")
  config_check.check(config)
  assert config.model.name == model
  assert config.embedding.batch_size == config.semi.batch_size == 512


def test_imagenet_sslt_by_lists():
  config = load(
    "imagenet_sslt", "root=/imagenet,train=a.txt,test=b.txt,unlabeled=c.txt"
  )
  assert config.data.source == "list:a.txt,b.txt"
  assert config.data.root == "/imagenet"
  assert config.data.unlabeled.source == "list:c.txt"
  assert config.data.labeled.profile == "natural"
  assert config.data.unlabeled.profile == "natural"
  author = load("imagenet_sslt", "variant=author_code")
  assert tuple(author.data.group_counts) == (99, 10)


# -- ImageNet-LT, from lists or shards.


def test_imagenet_lt_of_lists_or_shards(imagenet):
  config = load("imagenet_lt", "root=/imagenet,workers=3")
  config_check.check(config)
  assert config.data.source == (
    "list:ImageNet_LT_train.txt,ImageNet_LT_test.txt"
  )
  assert (config.data.root, config.data.workers) == ("/imagenet", 3)
  assert config.model.name == "resnet50"
  task, stages = built(load("imagenet_lt", "source=arrayrecord:/shards"))
  assert imagenet == [("arrayrecord:/shards", "imagenet", True)]
  assert isinstance(task.images, host_images.HostImages)
  assert task.image_shape == (224, 224, 3) and task.num_classes == 1000
  assert [stage.name for stage in stages] == ["embedding", "classifier"]
  assert (stages[0].epochs, stages[0].batch_size) == (90, 512)


@pytest.mark.parametrize("row", ["ce", "ldam_drw", "tau_norm", "square_root"])
def test_imagenet_lt_has_rows(row):
  config = load("imagenet_lt", f"row={row},model=resnet18,workers=0")
  config_check.check(config)
  assert config.embedding.batch_size == 512
  assert config.data.unlabeled.factor == 0.0


# -- FASSL: the data of SDCLR, probed.


def test_fassl_has_the_data_of_sdclr(official):
  task, stages = built(load("cifar10_fassl", "split=3"))
  counts = task.split.labeled_counts
  assert sum(counts) == 11_165 and min(counts) == 45
  assert len(task.probe_labels) == 45_000
  assert len(task.validation_labels) == 5_000
  assert [len(task.groups[g]) for g in ("many", "medium", "few")] == [4, 3, 3]
  assert [stage.name for stage in stages] == [
    *("pretrain", "prototypes", "student"),
    *("knn/probe", "sdclr_fewshot/probe", "sdclr_full/probe"),
  ]
  assert [stage.epochs for stage in stages[:3]] == [2000, 200, 500]
  task, _ = built(load("cifar100_fassl"))
  counts = task.split.labeled_counts
  assert sum(counts) == 9_754 and min(counts) == 4
  assert len(task.probe_labels) == 40_000


def test_splits_of_fassl_differ_in_their_tails():
  orders = {
    tuple(load("cifar10_fassl", f"split={split}").data.labeled.class_order)
    for split in range(5)
  }
  assert len(orders) == 5


@pytest.mark.parametrize(
  "row",
  [
    *("simclr", "swav", "byol", "bcl_i", "bcl_d", "sdclr", "fassl"),
    *("fassl_uniform", "fassl_energy", "fassl_features", "supcon", "moco"),
    *("probe_supervised", "probe_untrained", "ldam_drw_ssp"),
  ],
)
@pytest.mark.parametrize(
  "name", ["cifar10_fassl", "cifar10_fassl_small", "digits_fassl"]
)
def test_rows_of_fassl_build(name, row, official):
  config = load(name, f"row={row}")
  task, stages = built(config)
  assert len(task.probe_labels) == 0 or config.method == "probe"
  assert stages[-1].steps > 0


def test_any_natural_set_builds():
  """All but test images train, and the probe sees the same."""
  task, stages = built(load("natural_fassl", "classes=10,size=8"))
  assert task.num_labeled == len(task.probe_labels) > 1200
  assert [stage.name for stage in stages[-2:]] == [
    "knn/probe",
    "cached_adam/probe",
  ]


@pytest.mark.parametrize(
  ("argument", "method", "source"),
  [
    ("", "linear", "train"),
    ("pool=more", "linear_pool", "folder:more"),
    ("pool=more,row=sslt", "sslt", "folder:more"),
    ("pool=found", "linear_pool", "found"),
    ("data=npz:x.npz,row=decoupling", "decoupling", "train"),
  ],
)
def test_own_pictures_on_pretrained_features(argument, method, source):
  config = load("own_pretrained", argument)
  config_check.check(config)
  assert config.method == method and config.model.tune == "head"
  assert config.data.unlabeled.source == source
  given = "npz:x.npz" if "npz" in argument else "folder:photos"
  assert config.data.source == given
