"""Labels of shards: from the index, or read once and then from the index."""

import json

import numpy as np
import pytest

from ltjax.data.files import array_records, examples
from ltjax.data.sources import record_labels

TRAIN = "pets-train.array_record-0000{}-of-00002"
TEST = "pets-test.array_record-00000-of-00001"
VALIDATION = "pets-validation.array_record-00000-of-00001"


def write(path, labels):
  """Writes a shard as TFDS does; a label None is left out."""
  from array_record.python import array_record_module

  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for label in labels:
    features = {"image": b"JPEG", "id": b"7"}
    if label is not None:
      features["label"] = label
    writer.write(examples.encode(features))
  writer.close()


@pytest.fixture
def folder(tmp_path):
  """A set as TFDS prepares it: class names in a file, no index."""
  result = tmp_path / "pets" / "1.0.0"
  result.mkdir(parents=True)
  write(result / TRAIN.format(0), [2, 0])
  write(result / TRAIN.format(1), [1])
  write(result / TEST, [-1, -1])
  write(result / VALIDATION, [0, 1])
  (result / "label.labels.txt").write_text("cat\ndog\nfish\n")
  return result


@pytest.fixture
def unread(monkeypatch):
  """Forbids reading records."""

  def label(record):
    raise AssertionError(f"{record} is read")

  return lambda: monkeypatch.setattr(array_records.Record, "label", label)


def test_labels_are_read_once(folder, unread, capsys):
  train, test, classes = record_labels.read_set(str(folder))[:3]
  assert train.labels.tolist() == [2, 0, 1] and train.labels.dtype == np.int32
  assert [file.position for file in train.files] == [0, 1, 0]
  # The labels of the test part are secret: the validation part takes its place.
  assert test.labels.tolist() == [0, 1]
  assert classes == ("cat", "dog", "fish")
  assert "Reading the labels of 2 shards, once" in capsys.readouterr().err
  unread()
  again, test, classes = record_labels.read_set(str(folder))[:3]
  assert again.labels.tolist() == [2, 0, 1] and test.labels.tolist() == [0, 1]
  assert classes == ("cat", "dog", "fish")
  assert capsys.readouterr().err == ""
  assert not list(folder.glob(".*"))


def test_a_changed_shard_is_read_again(folder):
  record_labels.read_set(str(folder))
  write(folder / TRAIN.format(1), [1, 1, 0])
  train, _, _ = record_labels.read_set(str(folder))[:3]
  assert train.labels.tolist() == [2, 0, 1, 1, 0]


def test_a_folder_that_cannot_be_written(folder, unread, monkeypatch, tmp_path):
  real = record_labels.write

  def write(place, *content):
    if place == folder:
      raise PermissionError(13, "read-only", str(place))
    real(place, *content)

  monkeypatch.setattr(record_labels, "write", write)
  data_dir = str(tmp_path / "data")
  record_labels.read_set(str(folder), data_dir)
  assert not (folder / record_labels.NAME).exists()
  unread()
  train, _, classes = record_labels.read_set(str(folder), data_dir)[:3]
  assert train.labels.tolist() == [2, 0, 1] and len(classes) == 3


def test_nowhere_to_write_is_no_reason_to_fail(folder, monkeypatch):
  def write(*unused):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(record_labels, "write", write)
  for _ in range(2):
    train, _, _ = record_labels.read_set(str(folder), str(folder / "data"))[:3]
    assert train.labels.tolist() == [2, 0, 1]


def test_without_names_classes_are_numbers(folder):
  (folder / "label.labels.txt").unlink()
  train, test, classes = record_labels.read_set(f"{folder}/*train*")[:3]
  assert test is None and classes == ("0", "1", "2")


def test_a_pool_may_lack_labels(tmp_path):
  write(tmp_path / "more.array_record", [None, 4, None])
  pool = record_labels.read_pool(str(tmp_path))
  assert pool.labels.tolist() == [-1, 4, -1]
  with pytest.raises(
    ValueError, match=r"record 0: it has no label, and neither have 1 others"
  ):
    record_labels.read_set(str(tmp_path))


def test_more_classes_than_names(folder):
  (folder / "label.labels.txt").write_text("cat\ndog\n")
  with pytest.raises(ValueError, match="label 2 of image 0 is out of range"):
    record_labels.read_set(str(folder))


def test_a_monstrous_label_costs_no_memory(tmp_path):
  write(tmp_path / "a.array_record", [0, 2**60])
  with pytest.raises(ValueError, match="label 2147483647 of image 1 is out"):
    record_labels.read_set(str(tmp_path))


@pytest.mark.parametrize(
  "content",
  [
    "{",
    "[]",
    "{}",
    '{"format": "other"}',
    '{"format": "ltjax-labels-1", "classes": [], "shards": {"a": {}}}',
    '{"format": "ltjax-labels-1", "classes": [],'
    ' "shards": {"a": {"bytes": 1, "labels": ["cat"]}}}',
  ],
)
def test_a_damaged_index_is_named(content, folder):
  (folder / record_labels.NAME).write_text(content)
  with pytest.raises(ValueError, match=r"labels.json: damaged.* Remove it"):
    record_labels.read_set(str(folder))


def test_the_file_is_what_the_module_says(folder):
  record_labels.read_set(f"{folder}/*train*")
  content = json.loads((folder / record_labels.NAME).read_text())
  size = (folder / TRAIN.format(1)).stat().st_size
  assert content["format"] == "ltjax-labels-1"
  assert content["shards"][TRAIN.format(1)] == {"bytes": size, "labels": [1]}
