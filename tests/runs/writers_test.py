import errno
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.runs import writers


def record(stage, step, **extra):
  return {"kind": "train", "position": [stage, step], **extra}


class TestJsonl:
  def test_one_object_a_line_readable_at_once(self, tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    writer = writers.JsonlWriter(path)
    writer.write({"loss": 0.5, "stage": "embedding"})
    assert path.read_text() == '{"loss": 0.5, "stage": "embedding"}\n'
    writer.write({"loss": 0.25})
    assert writers.read(path) == [
      {"loss": 0.5, "stage": "embedding"},
      {"loss": 0.25},
    ]
    writer.close()
    writer.close()

  def test_appends_to_what_is_there(self, tmp_path):
    path = tmp_path / "m.jsonl"
    for step in (1, 2):
      writer = writers.JsonlWriter(path)
      writer.write({"step": step})
      writer.close()
    assert writers.read(path) == [{"step": 1}, {"step": 2}]

  def test_arrays_become_plain_numbers(self, tmp_path):
    path = tmp_path / "m.jsonl"
    writer = writers.JsonlWriter(path)
    writer.write(
      {
        "a": np.float32(0.5),
        "b": jnp.asarray(2.0),
        "c": np.arange(3),
        "d": np.int64(7),
        "e": (1, None),
      }
    )
    writer.close()
    assert writers.read(path) == [
      {"a": 0.5, "b": 2.0, "c": [0, 1, 2], "d": 7, "e": [1, None]}
    ]

  @pytest.mark.parametrize(
    "value", [math.nan, math.inf, np.float32("nan"), np.array([1.0, np.inf])]
  )
  def test_refuses_numbers_that_are_not_finite(self, tmp_path, value):
    path = tmp_path / "m.jsonl"
    writer = writers.JsonlWriter(path)
    with pytest.raises(ValueError, match="not finite.*'loss'"):
      writer.write({"loss": value})
    writer.close()
    assert path.read_bytes() == b""

  def test_refuses_what_has_no_json_form(self, tmp_path):
    writer = writers.JsonlWriter(tmp_path / "m.jsonl")
    with pytest.raises(TypeError, match="type object, which has no JSON form"):
      writer.write({"loss": object()})
    writer.close()

  def test_a_full_disk_leaves_whole_lines(self, tmp_path):
    path = tmp_path / "m.jsonl"
    writer = writers.JsonlWriter(path)
    writer.write({"step": 1})
    real = writer._file

    class Full:
      """Takes four bytes, then the disk is full."""

      calls = 0

      def write(self, data):
        self.calls += 1
        if self.calls > 1:
          raise OSError(errno.ENOSPC, "No space left on device")
        return real.write(data[:4])

      def __getattr__(self, name):
        return getattr(real, name)

    writer._file = Full()
    with pytest.raises(OSError, match="cannot append.*Free some space") as info:
      writer.write({"step": 2})
    assert info.value.errno == errno.ENOSPC
    assert info.value.filename == str(path)
    assert path.read_text() == '{"step": 1}\n'
    writer._file = real
    writer.write({"step": 2})
    writer.close()
    assert writers.read(path) == [{"step": 1}, {"step": 2}]

  def test_finishes_a_line_written_in_parts(self, tmp_path):
    path = tmp_path / "m.jsonl"
    writer = writers.JsonlWriter(path)
    real = writer._file

    class Slow:
      def write(self, data):
        return real.write(data[:3])

      def __getattr__(self, name):
        return getattr(real, name)

    writer._file = Slow()
    writer.write({"stage": "embedding"})
    writer.close()
    assert path.read_text() == '{"stage": "embedding"}\n'


class TestRead:
  def test_a_missing_file_has_no_records(self, tmp_path):
    assert writers.read(tmp_path / "none.jsonl") == []

  @pytest.mark.parametrize("half", ["{", '{"a": 1', "1", '{"a": "é'])
  def test_leaves_out_a_half_last_line(self, tmp_path, half):
    path = tmp_path / "m.jsonl"
    # Cut within the two bytes of the last letter, where there is one.
    path.write_bytes(b'{"a": 0}\n' + half.encode()[: len(half)])
    assert writers.read(path) == [{"a": 0}]

  def test_keeps_a_whole_last_line_without_newline(self, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 0}\n{"a": 1}')
    assert writers.read(path) == [{"a": 0}, {"a": 1}]

  @pytest.mark.parametrize("bad", ["{", "", "[1]", "\x00\x00"])
  def test_names_a_damaged_line_in_the_middle(self, tmp_path, bad):
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 0}\n' + bad + '\n{"a": 1}\n')
    with pytest.raises(ValueError, match="m.jsonl is damaged: line 2 is not"):
      writers.read(path)

  @pytest.mark.parametrize("half", ['{"a": 1', '{"a": 1}'])
  def test_opening_repairs_the_last_line(self, tmp_path, half):
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 0}\n' + half)
    writer = writers.JsonlWriter(path)
    writer.write({"a": 2})
    writer.close()
    whole = [{"a": 1}] if half.endswith("}") else []
    assert writers.read(path) == [{"a": 0}, *whole, {"a": 2}]


class TestRewind:
  def fill(self, path):
    writer = writers.JsonlWriter(path)
    for stage, step in [(0, 5), (0, 10), (1, 0), (1, 3), (2, 1)]:
      writer.write(record(stage, step))
    return writer

  @pytest.mark.parametrize(
    "position, kept",
    [
      ([0, 4], []),
      ([0, 5], [[0, 5]]),
      ((0, 99), [[0, 5], [0, 10]]),
      ([1, 0], [[0, 5], [0, 10], [1, 0]]),
      (np.array([1, 2]), [[0, 5], [0, 10], [1, 0]]),
      ([2, 1], [[0, 5], [0, 10], [1, 0], [1, 3], [2, 1]]),
      (None, []),
    ],
  )
  def test_keeps_what_is_not_after_the_position(self, tmp_path, position, kept):
    path = tmp_path / "m.jsonl"
    writer = self.fill(path)
    records = writer.rewind(position)
    assert [r["position"] for r in records] == kept
    writer.write(record(9, 9))
    writer.close()
    assert [r["position"] for r in writers.read(path)] == [*kept, [9, 9]]
    assert os.listdir(tmp_path) == ["m.jsonl"]

  def test_repeating_the_steps_gives_the_same_bytes(self, tmp_path):
    path = tmp_path / "m.jsonl"
    writer = self.fill(path)
    writer.write(record(2, 2, loss=1 / 3, name="é"))
    whole = path.read_bytes()
    writer.rewind([1, 1])
    for stage, step in [(1, 3), (2, 1)]:
      writer.write(record(stage, step))
    writer.write(record(2, 2, loss=1 / 3, name="é"))
    writer.close()
    assert path.read_bytes() == whole

  def test_drops_a_half_line_and_keeps_one_without_position(self, tmp_path):
    path = tmp_path / "m.jsonl"
    writer = self.fill(path)
    path.write_text('{"kind": "note"}\n{"position": [0, 1]}\n{"posi')
    assert len(writer.rewind([0, 1])) == 2
    writer.close()
    assert path.read_text() == '{"kind": "note"}\n{"position": [0, 1]}\n'

  def test_a_failure_leaves_the_file_and_the_writer(
    self, tmp_path, monkeypatch
  ):
    path = tmp_path / "m.jsonl"
    writer = self.fill(path)
    before = path.read_bytes()

    def fail(source, target):
      raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
      writer.rewind([0, 5])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.jsonl"]
    writer.write(record(3, 0))
    writer.close()
    assert writers.read(path)[-1] == record(3, 0)


class TestOpenRun:
  def test_without_tensorboard(self, tmp_path):
    with writers.open_run(tmp_path, position=None, tensorboard=False) as writer:
      writer.write(record(0, 1, loss=1.0))
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


class TestMulti:
  def test_each_gets_each_record_and_is_closed(self):
    log = []

    class Recorder:
      def __init__(self, name, broken=False):
        self.name, self.broken = name, broken

      def write(self, item):
        log.append((self.name, json.dumps(item)))

      def close(self):
        log.append((self.name, "closed"))
        if self.broken:
          raise OSError("cannot close")

    writer = writers.MultiWriter(Recorder("a"), Recorder("b", broken=True))
    writer.write({"x": 1})
    with pytest.raises(OSError, match="cannot close"):
      writer.close()
    assert log[:2] == [("a", '{"x": 1}'), ("b", '{"x": 1}')]
    assert sorted(log[2:]) == [("a", "closed"), ("b", "closed")]
