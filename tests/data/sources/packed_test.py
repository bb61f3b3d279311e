"""Packs: written from a small set, read in its place, and what damages them."""

import json
import pickle

import numpy as np
import pytest

from ltjax import config as configs
from ltjax import pack
from ltjax.data.download import catalogue
from ltjax.data.sources import labeled
from ltjax.devices import sharding
from ltjax.methods import build

CONFIG = """
from ltjax import config as configs

def get_config(arg=None):
  config = configs.default()
  config.data.source = "cifar10"
  config.data.labeled.max_count = int(arg or 4)
  config.data.labeled.rho = 2.0
  config.data.unlabeled.factor = 1.0
  config.model.name = "resnet8"
  return config
"""
TRAIN = 120  # Images, 12 of each class.


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  """Returns a folder with a small set, and one with its pack."""
  whole, out = (tmp_path_factory.mktemp(n) for n in ("whole", "out"))
  archive = catalogue.ARCHIVES["cifar10"]
  folder = whole / archive.folder
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name in (*archive.train, *archive.test):
    count = TRAIN // len(archive.train)
    batch = {
      b"data": rng.integers(0, 256, (count, 3072), np.uint8),
      b"labels": [i % 10 for i in range(count)],
    }
    (folder / name).write_bytes(pickle.dumps(batch))
  names = {b"label_names": [b"class%d" % i for i in range(10)]}
  (folder / archive.meta).write_bytes(pickle.dumps(names))
  config = whole / "config.py"
  config.write_text(CONFIG)
  flags = [f"--data_dir={whole}", f"--out={out}", "--split_seeds=0,1"]
  assert pack.main([f"--config={config}", f"--config={config}:5", *flags]) == 0
  return whole, out


def built(folder, most=4, seed=0, image_size=0):
  config = configs.default()
  config.data.source = "cifar10"
  config.data.labeled.max_count = most
  config.data.labeled.rho = 2.0
  config.data.unlabeled.factor = 1.0
  config.data.seed = seed
  config.data.image_size = image_size
  return build.build_task(config, sharding.make_mesh(1), str(folder))


@pytest.mark.parametrize("most, seed, size", [(4, 1, 0), (5, 0, 8)])
def test_a_pack_stands_for_its_set(places, most, seed, size):
  ours, theirs = (built(place, most, seed, size) for place in places)
  assert ours.split.hash == theirs.split.hash
  for name in ("images", "labels", "test_images", "test_labels"):
    np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_other_configs_are_told_what_is_missing(places):
  with pytest.raises(ValueError, match=r"were not packed.*config\.py, split 1"):
    built(places[1], seed=2)


def test_a_pack_is_smaller_than_its_set(places):
  data = labeled.load("cifar10", data_dir=str(places[1]))
  record = json.loads((places[1] / "cifar10-pack/pack.json").read_text())
  assert len(record["train"]) < TRAIN == len(data.train_images)
  assert len(record["packed_for"]) == len(record["split_hashes"]) == 4


@pytest.mark.parametrize(
  "name, change, error",
  [
    ("train_000.webp", lambda b: b[:-1], "train_000.webp: wrong checksum"),
    ("pack.json", lambda b: b.replace(b"class3", b"class4"), "wrong checksum"),
    ("pack.json", lambda b: b[:-1], "not a pack's record"),
    ("pack.json", lambda b: b.replace(b"pack-1", b"pack-9"), "of the format"),
    ("test_000.webp", None, "test_000.webp: No such file"),
  ],
)
def test_damage_is_told(places, name, change, error):
  path = catalogue.pack_folder(places[1], "cifar10") / name
  content = path.read_bytes()
  try:
    path.unlink()
    if change:
      path.write_bytes(change(content))
    with pytest.raises(ValueError, match=error):
      labeled.load("cifar10", data_dir=str(places[1]))
  finally:
    path.write_bytes(content)


@pytest.mark.parametrize(
  "text, error",
  [
    ("no/config.py", "there is no such Python file"),
    ("configs/digits_sslt.py", "data.source is 'digits'; packed are cifar10"),
  ],
)
def test_what_cannot_be_packed(text, error, tmp_path, capsys):
  assert pack.main([f"--config={text}", f"--out={tmp_path}"]) == 1
  assert error in capsys.readouterr().err


def test_a_pack_is_not_packed_again(places, tmp_path, capsys):
  config = f"--config={places[0] / 'config.py'}"
  flags = [f"--data_dir={places[1]}", f"--out={tmp_path}"]
  assert pack.main([config, *flags]) == 1
  assert "is itself a pack" in capsys.readouterr().err
