"""ArrayRecord files: found by name, read by number, broken ones named."""

import pathlib

from array_record.python import array_record_module
import numpy as np
import pytest

from ltjax.data.files import array_records, examples


def write(path, *records):
  path.parent.mkdir(parents=True, exist_ok=True)
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for record in records:
    if isinstance(record, dict):
      record = examples.encode(record)
    writer.write(record)
  writer.close()
  return path


def names(parts):
  return {part: [file.name for file in files] for part, files in parts.items()}


# -- Which shards.


def touch(folder, *files):
  for name in files:
    (folder / name).touch()


def test_a_folder_has_parts_in_either_manner_of_naming(tmp_path):
  ours = [f"train-0000{i}-of-00002.array_record" for i in range(2)]
  tfds = [f"pets-test.array_record-0000{i}-of-00002" for i in range(2)]
  touch(tmp_path, *reversed(ours), *tfds, "pets-extra.arrayrecord", "x.json")
  assert names(array_records.find(str(tmp_path))) == {
    "train": ours,
    "test": tfds,
    "pets-extra": ["pets-extra.arrayrecord"],
  }


def test_names_that_tell_no_part_are_all_for_training(tmp_path):
  touch(tmp_path, "b.array_record", "a.arrayrecord")
  found = names(array_records.find(str(tmp_path)))
  assert found == {"train": ["a.arrayrecord", "b.array_record"]}
  one = array_records.find(str(tmp_path / "b.array_record"))
  assert names(one) == {"train": ["b.array_record"]}


def test_a_pattern_chooses(tmp_path):
  files = [f"p-unlabelled.array_record-0000{i}-of-00003" for i in range(3)]
  touch(tmp_path, *files, "p-train.array_record-00000-of-00001")
  found = array_records.find(f"{tmp_path}/*unlabelled*-0000[12]-of*")
  assert names(found) == {"train": files[1:]}


def test_shards_that_are_not_there(tmp_path):
  for path in (tmp_path, tmp_path / "nowhere", tmp_path / "*.array_record"):
    with pytest.raises(FileNotFoundError, match="no ArrayRecord files"):
      array_records.find(str(path))
  touch(tmp_path, "train-00001-of-00003.array_record")
  with pytest.raises(FileNotFoundError, match="1 of the 3 shards of 'train'"):
    array_records.find(str(tmp_path))


# -- What is in them.


def test_records_lie_one_shard_behind_the_other():
  files = [pathlib.Path(name) for name in "abc"]
  records = array_records.Records(files, [2, 1, 3])
  assert len(records) == 6
  assert [tuple(record) for record in records] == [
    *(("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1), ("c", 2))
  ]
  assert records[np.int64(2)] == array_records.Record("b", 0)
  assert records[4:] == [records[4], records[5]]
  for index in (6, -1):
    with pytest.raises(IndexError):
      records[index]
  assert str(records[5]) == "c, record 2"


def test_a_record_has_a_picture_a_label_and_a_name(tmp_path):
  shard = write(
    tmp_path / "a.array_record",
    {"image": b"JPEG", "label": 3, "file_name": b"cats/1.jpg"},
    {"image": b"PNG"},
    {"label": 2**40, "image": b""},
  )
  first, second, third = (array_records.Record(str(shard), i) for i in range(3))
  assert array_records.count(shard) == 3
  assert first.picture() == (b"JPEG", f"{shard}, record 0 (cats/1.jpg)")
  assert first.label() == 3
  assert second.picture() == (b"PNG", f"{shard}, record 1")
  assert second.label() == -1
  assert third.label() == 2**31 - 1  # out of any range, for who checks it


@pytest.mark.parametrize(
  "content, read, error",
  [
    ({"label": 1}, "picture", r"record 0: it has no picture, only .*'label'"),
    ({"image": 1}, "picture", "has no picture"),
    ({"label": b"cat"}, "label", "label is b'cat', not an integer"),
    (b"\x0a\x7fcut", "label", "record 0: not a tf.train.Example .*the middle"),
  ],
)
def test_records_of_another_kind(content, read, error, tmp_path):
  record = array_records.Record(
    str(write(tmp_path / "a.array_record", content)), 0
  )
  with pytest.raises(ValueError, match=error):
    getattr(record, read)()


def test_damaged_files(tmp_path):
  shard = write(
    tmp_path / "a.array_record", *[np.random.default_rng(0).bytes(9000)] * 30
  )
  data = bytearray(shard.read_bytes())
  data[70_000:140_000] = bytes(70_000)
  shard.write_bytes(data)
  with pytest.raises(ValueError, match=r"a.array_record, record 12: cannot be"):
    array_records.Record(str(shard), 12).features()
  for content in (b"", b"junk" * 100):
    other = tmp_path / "b.array_record"
    other.write_bytes(content)
    with pytest.raises(ValueError, match="b.array_record: it holds no records"):
      array_records.count(other)
  with pytest.raises(ValueError, match="record 99: cannot be read"):
    array_records.Record(str(shard), 99).features()
