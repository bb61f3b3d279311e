"""Official archives, small ones in the same formats."""

import dataclasses
import gzip
import hashlib
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from ltjax.data.download import catalogue
from ltjax.data.sources import official

SIZE = 4  # Images per batch.


def _batches(name):
  """Returns member -> content as pickled, and the images in reading order."""
  archive = catalogue.ARCHIVES[name]
  generator = np.random.default_rng(0)
  contents, pixels = {}, {}
  for member in (*archive.train, *archive.test):
    images = generator.integers(0, 256, (SIZE, 32, 32, 3)).astype(np.uint8)
    pixels[member] = images
    labels = generator.integers(0, 10, SIZE).tolist()
    batch = {
      b"data": images.transpose(0, 3, 1, 2).reshape(SIZE, 3072),
      b"filenames": [b"a.png"] * SIZE,
      b"batch_label": member.encode(),
    }
    if name == "cifar10":
      batch[b"labels"] = labels
    else:
      batch[b"fine_labels"] = labels
      batch[b"coarse_labels"] = [0] * SIZE
    contents[member] = batch
  count = 10 if name == "cifar10" else 100
  key = b"label_names" if name == "cifar10" else b"fine_label_names"
  names = [f"class{i}".encode() for i in range(count)]
  contents[archive.meta] = {key: names, b"coarse_label_names": [b"x"]}
  return contents, pixels


def _write_folder(root, name, contents, protocol=2):
  folder = root / catalogue.ARCHIVES[name].folder
  folder.mkdir()
  for member, content in contents.items():
    (folder / member).write_bytes(pickle.dumps(content, protocol))
  return folder


def _pack(root, name, monkeypatch):
  """Packs the folder as the official archive, and adapts its checksum."""
  archive = catalogue.ARCHIVES[name]
  path = root / archive.filename
  with tarfile.open(path, "w:gz") as tar:
    tar.add(root / archive.folder, archive.folder)
  for member in (root / archive.folder).iterdir():
    member.unlink()
  (root / archive.folder).rmdir()
  checksum = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
  changed = dataclasses.replace(archive, checksum=checksum)
  monkeypatch.setitem(catalogue.ARCHIVES, name, changed)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, monkeypatch, name, packed):
  contents, pixels = _batches(name)
  _write_folder(tmp_path, name, contents)
  if packed:
    _pack(tmp_path, name, monkeypatch)
  train, test, names = official.read_cifar(name, str(tmp_path))[:3]
  archive = catalogue.ARCHIVES[name]
  want = np.concatenate([pixels[member] for member in archive.train])
  np.testing.assert_array_equal(train[0], want)
  np.testing.assert_array_equal(test[0], pixels[archive.test[0]])
  key = b"labels" if name == "cifar10" else b"fine_labels"
  want = sum((contents[member][key] for member in archive.train), [])
  assert train[1].tolist() == want and train[1].dtype == np.int32
  assert test[1].tolist() == contents[archive.test[0]][key]
  assert names[:2] == ("class0", "class1")
  assert len(names) == (10 if name == "cifar10" else 100)


def test_cifar_with_a_batch_that_runs_code(tmp_path):
  mark = tmp_path / "ran"

  class Evil:
    def __reduce__(self):
      return os.system, (f"touch {mark}",)

  contents, _ = _batches("cifar10")
  contents["data_batch_2"][b"labels"] = Evil()
  _write_folder(tmp_path, "cifar10", contents)
  with pytest.raises(
    ValueError, match="cifar-10-batches-py/data_batch_2: .*asks"
  ):
    official.read_cifar("cifar10", str(tmp_path))
  assert not mark.exists()


@pytest.mark.parametrize(
  "member, change, message",
  [
    ("data_batch_1", {b"data": np.zeros((4, 9), "u1")}, "must be uint8"),
    ("test_batch", {b"data": np.zeros((4, 3072))}, "must be uint8"),
    ("test_batch", {b"data": [1]}, "must be uint8"),
    ("test_batch", {b"labels": [0, 1]}, "labels have shape"),
    ("test_batch", {b"labels": [0, 1, 2, 10]}, "label 10 of image 3"),
    ("test_batch", {b"labels": [0.5] * 4}, "not integers"),
    ("batches.meta", {b"label_names": [1]}, "list of texts"),
  ],
)
def test_cifar_batches_are_checked(tmp_path, member, change, message):
  contents, _ = _batches("cifar10")
  contents[member].update(change)
  _write_folder(tmp_path, "cifar10", contents)
  with pytest.raises(ValueError, match=f"{member}: .*{message}"):
    official.read_cifar("cifar10", str(tmp_path))


def test_cifar_truncated_batch(tmp_path):
  folder = _write_folder(tmp_path, "cifar10", _batches("cifar10")[0])
  path = folder / "data_batch_5"
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match="data_batch_5: not a whole pickle"):
    official.read_cifar("cifar10", str(tmp_path))


def test_cifar_truncated_archive(tmp_path, monkeypatch):
  _write_folder(tmp_path, "cifar10", _batches("cifar10")[0])
  _pack(tmp_path, "cifar10", monkeypatch)
  path = tmp_path / "cifar-10-python.tar.gz"
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match="wrong checksum .*truncated"):
    official.read_cifar("cifar10", str(tmp_path))


def _write_idx(path, array, zipped):
  content = struct.pack(">BBBB", 0, 0, 8, array.ndim)
  content += struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
  if zipped:
    path = path.with_name(path.name + ".gz")
    content = gzip.compress(content)
  path.write_bytes(content)


def _idx_set(root, name, *, zipped=False, **changed):
  generator = np.random.default_rng(0)
  arrays = {
    "train-images-idx3-ubyte": generator.integers(0, 256, (5, 28, 28)),
    "train-labels-idx1-ubyte": np.array([0, 9, 3, 3, 1]),
    "t10k-images-idx3-ubyte": generator.integers(0, 256, (2, 28, 28)),
    "t10k-labels-idx1-ubyte": np.array([7, 0]),
  }
  arrays |= {k.replace("_", "-"): v for k, v in changed.items()}
  (root / name).mkdir()
  for stem, array in arrays.items():
    _write_idx(root / name / stem, np.uint8(array), zipped)
  return arrays


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx(tmp_path, monkeypatch, name, zipped):
  monkeypatch.setattr(catalogue, "DEBIAN_FASHION_MNIST", tmp_path / "none")
  arrays = _idx_set(tmp_path, name, zipped=zipped)
  train, test, names = official.read_idx(name, str(tmp_path))[:3]
  np.testing.assert_array_equal(
    train[0][..., 0], arrays["train-images-idx3-ubyte"]
  )
  assert train[0].dtype == np.uint8 and test[0].shape == (2, 28, 28, 1)
  assert train[1].tolist() == [0, 9, 3, 3, 1] and test[1].tolist() == [7, 0]
  assert train[1].dtype == np.int32
  assert len(names) == 10
  assert names[9] == ("9" if name == "mnist" else "ankle-boot")


@pytest.mark.parametrize(
  "changed, message",
  [
    ({"train_labels_idx1_ubyte": np.zeros(4)}, "there are 5 images"),
    ({"t10k_labels_idx1_ubyte": np.array([0, 10])}, "label 10 of image 1"),
    ({"t10k_images_idx3_ubyte": np.zeros(2)}, r"shape \(2,\), not \[N, H, W\]"),
  ],
)
def test_idx_files_are_checked(tmp_path, changed, message):
  _idx_set(tmp_path, "mnist", **changed)
  with pytest.raises(ValueError, match=f"ubyte: .*{message}"):
    official.read_idx("mnist", str(tmp_path))


def test_digits():
  train, test, names = official.read_digits()[:3]
  assert train[0].shape == (1297, 8, 8, 1) and train[0].dtype == np.uint8
  assert test[0].shape == (500, 8, 8, 1)
  assert np.bincount(test[1]).tolist() == [50] * 10
  counts = [128, 132, 127, 133, 131, 132, 131, 129, 124, 130]
  assert np.bincount(train[1]).tolist() == counts
  assert train[1].dtype == test[1].dtype == np.int32
  assert names == tuple("0123456789")
  # 16 is white, and 8 rounds to the middle.
  assert train[0].max() == 255
  assert set(np.unique(train[0])) == {round(i * 255 / 16) for i in range(17)}


def test_digits_is_a_partition_and_always_the_same():
  from sklearn import datasets

  first, second = official.read_digits(), official.read_digits()
  for a, b in zip(first[:2], second[:2]):
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
  whole = np.rint(datasets.load_digits().images * 255 / 16).astype(np.uint8)
  both = np.concatenate([first[0][0], first[1][0]])[..., 0]
  assert sorted(x.tobytes() for x in both) == sorted(x.tobytes() for x in whole)
