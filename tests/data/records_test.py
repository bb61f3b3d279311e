"""Pictures turned into ArrayRecord files are the same pictures."""

import os
import shutil

import numpy as np
import pictures
import pytest

from ltjax.data import records
from ltjax.data.files import array_records
from ltjax.data.host import image_files
from ltjax.data.sources import labeled, record_labels, unlabeled

COUNTS = {"train": (7, 5, 3), "test": (2, 2, 2)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  root = tmp_path_factory.mktemp("tree")
  return pictures.write_tree(root / "pictures", **COUNTS)


def reader(files):
  return image_files.ImageFiles(files, size=8)


def same(found, wanted):
  np.testing.assert_array_equal(found.train_labels, wanted.train_labels)
  np.testing.assert_array_equal(found.test_labels, wanted.test_labels)
  np.testing.assert_array_equal(
    np.asarray(found.train_images), np.asarray(wanted.train_images)
  )
  np.testing.assert_array_equal(
    np.asarray(found.test_images), np.asarray(wanted.test_images)
  )
  assert (found.mean, found.std) == (wanted.mean, wanted.std)
  assert found.class_names == wanted.class_names


def load(name, **settings):
  return labeled.load(name, image_size=8, pictures=reader, **settings)


def test_a_folder_in_shards_is_the_same_set(
  tree, tmp_path, monkeypatch, capsys
):
  assert records.main([str(tree), str(tmp_path / "out"), "--shards=4"]) == 0
  assert "15 train, 6 test pictures are in" in capsys.readouterr().out
  assert sorted(os.listdir(tmp_path / "out")) == [
    record_labels.NAME,
    *(f"test-0000{i}-of-00004.array_record" for i in range(4)),
    *(f"train-0000{i}-of-00004.array_record" for i in range(4)),
  ]
  monkeypatch.setattr(array_records.Record, "label", None)  # the index knows
  found = load(f"arrayrecord:{tmp_path / 'out'}")
  assert found.class_names == ("n00", "n01", "n02")
  same(found, load(f"folder:{tree}"))


def test_lists_in_shards_are_the_same_set(tree, tmp_path):
  lines = {"train": ["n02/00001", "n00/00000"], "test": ["n00/00001"]}
  for part, names in lines.items():
    content = [f"{part}/{n}.JPEG {int(n[1:3])}\n" for n in names]
    (tmp_path / f"{part}.txt").write_text("".join(content))
  source = f"list:{tmp_path}"
  records.write(source, tmp_path / "out", root=str(tree))
  # Two pictures give two shards, not eight.
  assert len(list((tmp_path / "out").glob("train-*"))) == 2
  found = load(f"arrayrecord:{tmp_path / 'out'}")
  same(found, load(source, root=str(tree)))


def test_a_set_without_test_part_gets_one(tree, tmp_path):
  records.write(tree / "train", tmp_path / "out")
  found = load(f"arrayrecord:{tmp_path / 'out'}", test_fraction=0.4, seed=3)
  assert len(found.test_labels) == 6
  same(found, load(f"folder:{tree / 'train'}", test_fraction=0.4, seed=3))


def test_shards_serve_as_a_pool(tree, tmp_path):
  records.write(tree, tmp_path / "out")
  settings = {"image_shape": (8, 8, 3), "pictures": reader}
  pool = unlabeled.load_pool(f"arrayrecord:{tmp_path / 'out'}", **settings)
  wanted = unlabeled.load_pool(f"folder:{tree / 'train'}", **settings)
  np.testing.assert_array_equal(
    np.asarray(pool.images), np.asarray(wanted.images)
  )
  assert np.bincount(pool.labels).tolist() == [7, 5, 3]


def test_pictures_need_a_size():
  for load_it in (
    lambda name: labeled.load(name),
    lambda name: unlabeled.load_pool(name, image_shape=(8, 8, 3)),
  ):
    with pytest.raises(ValueError, match="arrayrecord:x: set data.image_size"):
      load_it("arrayrecord:x")


def test_a_broken_picture_is_named(tree, tmp_path):
  (tmp_path / "in" / "cats").mkdir(parents=True)
  (tmp_path / "in" / "cats" / "7.JPEG").write_bytes(pictures.jpegs(0)[0][:99])
  records.write(tmp_path / "in", tmp_path / "out")
  train, _, _ = record_labels.read_set(str(tmp_path / "out"))[:3]
  with pytest.raises(
    image_files.host_images.BrokenImageError,
    match=r"train-00000-of-00001.array_record, record 0 \(cats/7.JPEG\): not a",
  ):
    reader(train.files).read(np.array([0]))


# -- What goes wrong.


def test_nothing_is_left_of_a_set_that_was_not_finished(
  tree, tmp_path, monkeypatch
):
  real = records._write_shard

  def fail(path, *rest):
    if "test" in path.name:
      path.write_bytes(b"half")
      raise OSError(28, "No space left on device", str(path))
    real(path, *rest)

  monkeypatch.setattr(records, "_write_shard", fail)
  with pytest.raises(OSError, match="No space left"):
    records.write(tree, tmp_path / "out")
  assert not os.listdir(tmp_path / "out")


def test_a_shard_that_lacks_pictures_is_no_success(tree, tmp_path, monkeypatch):
  monkeypatch.setattr(records.array_records, "count", lambda path: 1)
  with pytest.raises(OSError, match="not all pictures were written"):
    records.write(tree, tmp_path / "out", shards=2)
  assert not os.listdir(tmp_path / "out")


def test_mistakes(tree, tmp_path, capsys):
  for shards in (0, 100_000):
    with pytest.raises(ValueError, match="it must be 1 to 99999"):
      records.write(tree, tmp_path / "out", shards=shards)
  records.write(tree, tmp_path / "out")
  assert records.main([str(tree), str(tmp_path / "out")]) == 1
  assert "holds shards already" in capsys.readouterr().err
  assert records.main([str(tmp_path / "nowhere"), str(tmp_path / "b")]) == 1
  assert "no such folder" in capsys.readouterr().err


def test_other_parts_are_not_lost_in_silence(tree, tmp_path, capsys):
  tree = shutil.copytree(tree, tmp_path / "set")
  (tree / "unlabeled").mkdir()
  (tree / "unlabeled" / "1.jpg").touch()
  (tree / "train" / "2.heic2").touch()
  assert records.main([str(tree), str(tmp_path / "out")]) == 0
  told = capsys.readouterr().err
  assert "unlabeled: 1 picture without a class, not used" in told
  assert "1 .heic2 (train/2.heic2)" in told
  shutil.copytree(tree / "test", tree / "val")
  with pytest.raises(ValueError, match="has validation and test pictures"):
    records.write(tree, tmp_path / "other")
