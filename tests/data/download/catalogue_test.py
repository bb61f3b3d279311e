"""Facts about the named sets."""

import re

import pytest

from ltjax.data.download import catalogue


def test_archives():
  cifar10, cifar100 = (catalogue.ARCHIVES[f"cifar{n}"] for n in (10, 100))
  assert cifar10.filename == "cifar-10-python.tar.gz"
  assert cifar10.members == (
    "data_batch_1",
    "data_batch_2",
    "data_batch_3",
    "data_batch_4",
    "data_batch_5",
    "test_batch",
    "batches.meta",
  )
  assert cifar10.checksum == "md5:c58f30108f718f92721af3b95e74349a"
  assert cifar100.filename == "cifar-100-python.tar.gz"
  assert cifar100.members == ("train", "test", "meta")
  assert cifar100.checksum == "md5:eb9058c3a382ffc7106e4002c42a8d85"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_sets(name):
  home, sums = catalogue.IDX_SETS[name]
  assert home.endswith("/")
  assert len(set(sums)) == len(catalogue.IDX_STEMS) == 4
  assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in sums)


def test_mat_sets():
  assert list(catalogue.MAT_SETS["svhn"][1]) == [
    "train_32x32.mat",
    "test_32x32.mat",
  ]
  assert list(catalogue.MAT_SETS["svhn_extra"][1]) == ["extra_32x32.mat"]
  sums = []
  for home, files in catalogue.MAT_SETS.values():
    assert home.endswith("/")
    sums += files.values()
  assert len(set(sums)) == 3
  assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in sums)


def test_ways_out_for_house_numbers(tmp_path):
  ways = catalogue.ways_out("svhn", tmp_path)
  assert "get train_32x32.mat and test_32x32.mat from http" in ways[0]
  assert f"put them into {tmp_path}/svhn/" in ways[0]
  assert "tfds:svhn_cropped as the set" in ways[1]
  extra = catalogue.ways_out("svhn_extra", tmp_path)
  assert f"put it into {tmp_path}/svhn/" in extra[0] and len(extra) == 2


def test_fashion_names():
  assert len(set(catalogue.FASHION_NAMES)) == 10


def test_plain_idx_file_before_the_packed_one(tmp_path):
  assert catalogue.idx_file(tmp_path, "a") is None
  (tmp_path / "a.gz").write_bytes(b"x")
  assert catalogue.idx_file(tmp_path, "a") == tmp_path / "a.gz"
  (tmp_path / "a").touch()  # Empty: a half file is no file.
  assert catalogue.idx_file(tmp_path, "a") == tmp_path / "a.gz"
  (tmp_path / "a").write_bytes(b"x")
  assert catalogue.idx_file(tmp_path, "a") == tmp_path / "a"


@pytest.mark.parametrize(
  "name", ["cifar10", "cifar100", "mnist", "fashion_mnist"]
)
def test_ways_out_are_numbered_and_name_the_place(tmp_path, name):
  ways = catalogue.ways_out(name, tmp_path)
  assert [way[:5] for way in ways] == [
    f"  {i}. " for i in range(1, len(ways) + 1)
  ]
  assert str(tmp_path) in ways[0]
  assert sum("tfds:" + name in way for way in ways) == 1
  assert any("npm" in way for way in ways) == (name == "cifar10")
  assert any("apt install dataset" in w for w in ways) == name.startswith("f")
