"""TFDS sets, read without TensorFlow and without a network."""

import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ltjax.data.download import prepare
from ltjax.data.sources import labeled, tfds_sets


def test_mocked_cifar10(tmp_path):
  with tfds.testing.mock_data(num_examples=7):
    data = labeled.load("tfds:cifar10", data_dir=str(tmp_path))
  assert data.train_images.shape == (7, 32, 32, 3)
  assert data.train_images.dtype == np.uint8
  assert data.test_images.shape == (7, 32, 32, 3)
  assert data.train_labels.dtype == np.int32
  assert data.num_classes == 10
  # The constants of the field hold, however the set was fetched.
  assert data.mean == (0.4914, 0.4822, 0.4465)
  assert data.flip is True


@pytest.mark.parametrize(
  "name, flip", [("mnist", False), ("mnist:3.*.*", False), ("beans", True)]
)
def test_names_with_version_and_mixed_sizes(tmp_path, name, flip):
  with tfds.testing.mock_data(num_examples=4):
    data = labeled.load(f"tfds:{name}", data_dir=str(tmp_path), image_size=10)
  assert data.image_shape == (10, 10, 1 if name[0] == "m" else 3)
  assert data.flip is flip
  assert (data.mean == (0.1307,)) == name.startswith("mnist")


def test_no_tensorflow_is_imported(tmp_path):
  code = (
    "import sys\n"
    "import tensorflow_datasets as tfds\n"
    "from ltjax.data.sources import labeled\n"
    "with tfds.testing.mock_data(num_examples=2):\n"
    f"  labeled.load('tfds:mnist', data_dir={str(tmp_path)!r})\n"
    "assert not {'tensorflow', 'torch'} & set(sys.modules)\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_set_is_prepared(tmp_path, monkeypatch):
  calls = []

  def refuse(name, data_dir):
    calls.append((name, data_dir))
    raise FileNotFoundError("no TensorFlow")

  monkeypatch.setattr(prepare, "prepare", refuse)
  with pytest.raises(FileNotFoundError, match="no TensorFlow"):
    labeled.load("tfds:cifar10", data_dir=str(tmp_path))
  assert calls == [("tfds:cifar10", str(tmp_path))]


def test_not_image_classification(tmp_path):
  with pytest.raises(
    ValueError, match="tfds:imdb_reviews is not an image .* by"
  ):
    labeled.load("tfds:imdb_reviews", data_dir=str(tmp_path))


class _Builder:
  """A TFDS builder with chosen examples and splits."""

  def __init__(self, splits, *, prepared=True):
    self.splits, self.prepared = splits, prepared
    self.info = types.SimpleNamespace(
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(),
          "label": tfds.features.ClassLabel(names=["a", "b"]),
        }
      ),
      supervised_keys=("image", "label"),
      splits=splits,
    )

  def as_data_source(self, split):
    if not self.prepared:
      raise NotImplementedError
    return self.splits[split]


def _examples(count, label, size=4):
  image = np.full((size, size, 3), label, np.uint8)
  return [{"image": image, "label": label}] * count


def _read(monkeypatch, builder, image_size=None):
  monkeypatch.setattr(prepare, "tfds_builder", lambda name, root: builder)
  return tfds_sets.read("some", data_dir=None, image_size=image_size)


def test_validation_stands_in_for_a_missing_test_split(monkeypatch):
  splits = {"train": _examples(3, 0), "validation": _examples(2, 1)}
  train, test, names = _read(monkeypatch, _Builder(splits))[:3]
  assert train[1].tolist() == [0] * 3 and test[1].tolist() == [1] * 2
  assert (test[0] == 1).all()
  assert names == ("a", "b")
  splits["test"] = _examples(1, 0)
  assert _read(monkeypatch, _Builder(splits))[1][1].tolist() == [0]


def test_no_test_split_at_all(monkeypatch):
  assert _read(monkeypatch, _Builder({"train": _examples(3, 0)}))[1] is None


def test_prepared_on_the_way(monkeypatch):
  builder = _Builder({"train": _examples(3, 1)}, prepared=False)

  def run(name, data_dir):
    assert name == "tfds:some"
    builder.prepared = True

  monkeypatch.setattr(prepare, "prepare", run)
  assert _read(monkeypatch, builder)[0][1].tolist() == [1] * 3


def test_mixed_sizes(monkeypatch):
  builder = _Builder({"train": _examples(1, 0) + _examples(1, 1, size=5)})
  with pytest.raises(ValueError, match="image 1 is .*Set image_size"):
    _read(monkeypatch, builder)
  assert _read(monkeypatch, builder, 3)[0][0].shape == (2, 3, 3, 3)


def test_labels_are_checked(monkeypatch):
  # TFDS writes -1 where the label of a test image is hidden.
  builder = _Builder({"train": [{**_examples(1, 0)[0], "label": -1}]})
  with pytest.raises(ValueError, match="tfds:some: labels: label -1"):
    _read(monkeypatch, builder)
