"""A split on disk: the same when read, refused when not what was written."""

import errno
import json
import os

import numpy as np
import pytest

from ltjax.data.splits import draw, record

LABELS = np.repeat([0, 1, 2], 40)
GOLDEN = "4c190a37caddbd9391ee0102ea4c23eb09756db034eb70897c0b153d4deb9682"


@pytest.fixture
def split():
  return draw.build(
    LABELS,
    num_classes=3,
    labeled={"max_count": 5, "rho": 5.0},
    unlabeled={"factor": 2.0},
    validation={"per_class": 2},
    seed=3,
  )


def test_save_and_load(split, tmp_path):
  path = tmp_path / "split.json"
  split.save(path)
  again = draw.Split.load(path)
  assert again.hash == split.hash
  for name in ("labeled", "unlabeled", "validation"):
    np.testing.assert_array_equal(getattr(again, name), getattr(split, name))
  assert again.labeled_counts == split.labeled_counts == (5, 2, 1)
  assert again.arguments == split.arguments
  assert again.unlabeled_from == "train"
  assert os.listdir(tmp_path) == ["split.json"]
  record_on_disk = json.loads(path.read_text())
  assert record_on_disk["hash"] == split.hash


def test_the_record_is_frozen(split):
  with pytest.raises(ValueError, match="read-only"):
    split.labeled[0] = 1
  with pytest.raises(AttributeError):
    split.labeled = np.zeros(1)


def test_the_record_does_not_share_memory_with_its_makers(split):
  fields = {
    name: getattr(split, name) for name in record.Split.__dataclass_fields__
  }
  mine = np.array(split.labeled)
  copy = record.Split(**fields | {"labeled": mine})
  mine[0] = 99
  assert copy.hash == split.hash


def test_every_field_is_hashed(split):
  fields = {
    name: getattr(split, name) for name in record.Split.__dataclass_fields__
  }
  changes = {
    "labeled": split.labeled[1:],
    "unlabeled": split.unlabeled[1:],
    "validation": split.validation[1:],
    "labeled_counts": (5, 2, 2),
    "unlabeled_counts": (),
    "validation_counts": (0, 0, 0),
    "unlabeled_from": "pool",
    "arguments": {},
    "fingerprint": "0",
    "irrelevant": np.array([1]),
    "probe": np.array([1]),
    "probe_counts": (0, 0, 1),
  }
  assert set(changes) == set(fields)
  hashes = {record.Split(**fields | {k: v}).hash for k, v in changes.items()}
  assert len(hashes | {split.hash}) == len(changes) + 1


def test_irrelevant_images_are_kept(split, tmp_path):
  other = np.arange(50) % 3
  settings = {"factor": 2.0, "relevance": 0.5, "irrelevant": "npz:other"}
  mixed = draw.build(
    LABELS,
    num_classes=3,
    labeled={"max_count": 5, "rho": 5.0},
    unlabeled=settings,
    validation={"per_class": 2},
    seed=3,
    irrelevant_labels=other,
  )
  assert len(mixed.irrelevant) == 8 and mixed.irrelevant.dtype == np.int64
  mixed.save(tmp_path / "split.json")
  again = record.Split.load(tmp_path / "split.json")
  assert again.hash == mixed.hash
  assert again.irrelevant.tolist() == mixed.irrelevant.tolist()
  record.check(again, LABELS, None, other)
  with pytest.raises(ValueError, match="120 training labels and 49 irrelevant"):
    record.check(again, LABELS, None, other[1:])
  with pytest.raises(
    ValueError,
    match=r"8 irrelevant images: set data.unlabeled.irrelevant .*'npz:other'",
  ):
    record.check(again, LABELS)
  rebuilt = draw.build(LABELS, irrelevant_labels=other, **again.arguments)
  assert rebuilt.hash == again.hash


def test_a_record_without_irrelevant_images_is_as_it_was(split, tmp_path):
  """The format before there were any: no such field, nor such settings."""
  path = tmp_path / "split.json"
  split.save(path)
  on_disk = json.loads(path.read_text())
  assert set(on_disk) == {
    "format",
    "hash",
    "labeled",
    "unlabeled",
    "validation",
    "labeled_counts",
    "unlabeled_counts",
    "validation_counts",
    "unlabeled_from",
    "arguments",
    "fingerprint",
  }
  assert "relevance" not in on_disk["arguments"]["unlabeled"]
  assert "class_order" not in on_disk["arguments"]["labeled"]
  # Written and hashed by the code before; it must stay readable.
  assert split.hash == GOLDEN
  assert record.Split.load(path).irrelevant.tolist() == []


def test_a_pool_and_irrelevant_images_have_other_fingerprints():
  some, others = np.arange(3), np.arange(4)
  prints = {
    record.fingerprint(some, others),
    record.fingerprint(some, None, others),
    record.fingerprint(some, others, others),
    record.fingerprint(some, None),
  }
  assert len(prints) == 4


def test_a_truncated_file_is_refused(split, tmp_path):
  path = tmp_path / "split.json"
  split.save(path)
  whole = path.read_bytes()
  for size in (0, 1, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match="split.json is damaged.*delete it"):
      record.Split.load(path)
  path.write_bytes(b"\xff" + whole)
  with pytest.raises(ValueError, match="is damaged"):
    record.Split.load(path)
  path.write_bytes(b"[" * 200000)
  with pytest.raises(ValueError, match="is damaged"):
    record.Split.load(path)


def test_a_tampered_file_is_refused(split, tmp_path):
  path = tmp_path / "split.json"
  split.save(path)
  good = json.loads(path.read_text())
  for change in (
    {"labeled": good["labeled"][:-1] + [119]},
    {"hash": "0" * 64},
    {"arguments": good["arguments"] | {"seed": 4}},
    {"more": 1},
  ):
    path.write_text(json.dumps(good | change))
    with pytest.raises(ValueError, match="was changed after it was written"):
      record.Split.load(path)
  del good["fingerprint"]
  path.write_text(json.dumps(good))
  with pytest.raises(ValueError, match="was changed"):
    record.Split.load(path)


def test_nonsense_with_a_right_hash_is_refused(split, tmp_path):
  path = tmp_path / "split.json"
  split.save(path)
  good = json.loads(path.read_text())
  for change in (
    {"labeled": ["x"]},
    {"labeled": [2**70]},
    {"labeled_counts": 7},
  ):
    fields = {
      k: v for k, v in (good | change).items() if k not in ("hash", "format")
    }
    bad = good | change | {"hash": record._digest(fields)}
    path.write_text(json.dumps(bad))
    with pytest.raises(ValueError, match="is damaged"):
      record.Split.load(path)


def test_other_files_are_refused(tmp_path):
  path = tmp_path / "summary.json"
  for text in ("{}", "[]", '{"format": "ltjax-split-0"}'):
    path.write_text(text)
    with pytest.raises(ValueError, match="is not a split file"):
      record.Split.load(path)
  with pytest.raises(FileNotFoundError, match="none.json"):
    record.Split.load(tmp_path / "none.json")


def test_a_full_disk_leaves_the_old_file(split, tmp_path, monkeypatch):
  path = tmp_path / "split.json"
  path.write_text("old")

  def full(_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(record.os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    split.save(path)
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["split.json"]


def test_check_accepts_the_same_labels_of_any_integer_type(split):
  draw.check(split, LABELS)
  draw.check(split, LABELS.astype(np.uint8))


def test_check_refuses_other_data(split):
  swapped = LABELS.copy()
  swapped[[0, -1]] = swapped[[-1, 0]]
  for labels, pool in ((swapped, None), (LABELS[:-1], None), (LABELS, LABELS)):
    with pytest.raises(ValueError, match="made from other data.*new workdir"):
      draw.check(split, labels, pool)


def test_check_tells_pools_apart():
  pool = np.repeat([0, 1, 2], 50)
  split = draw.build(
    LABELS,
    num_classes=3,
    labeled={"max_count": 5, "rho": 5.0},
    unlabeled={"source": "npz:p", "factor": 2.0},
    validation={},
    seed=3,
    pool_labels=pool,
  )
  draw.check(split, LABELS, pool)
  with pytest.raises(ValueError, match="120 training labels and 149 pool"):
    draw.check(split, LABELS, pool[1:])
  with pytest.raises(ValueError, match="other data"):
    draw.check(split, LABELS)
  # The border between the two is part of the fingerprint.
  assert record.fingerprint(np.r_[0, 1], np.r_[2]) != record.fingerprint(
    np.r_[0], np.r_[1, 2]
  )
