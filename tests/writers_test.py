import builtins
import errno
import json
import math
import os
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import writers


def record(stage, step, **extra):
  return {"kind": "train", "position": [stage, step], **extra}


def events(directory):
  """Reads every event file of a folder, oldest first: an own, slow reader."""
  from tensorboardX.proto import event_pb2

  found = []
  for path in sorted(directory.iterdir(), key=lambda p: p.stat().st_mtime_ns):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack("<Q", data[:8])
      found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
      data = data[16 + length :]
  return found


def points(directory):
  """`(tag, step, value)` of what TensorBoard would show, purges applied."""
  shown = []
  for event in events(directory):
    if event.HasField("session_log"):
      shown = [point for point in shown if point[1] < event.step]
    shown += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
  return shown


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


class TestScalars:
  def test_train(self):
    assert writers.scalars(
      {
        "kind": "train",
        "stage": "loop1/consistency",
        "position": [4, 10],
        "epoch": 2,
        "epochs": 3,
        "loss": 1.5,
        "cross_entropy": 1.0,
        "consistency": 0.5,
        "accuracy": np.float32(0.25),
        "learning_rate": 0.1,
        "images_per_second": 900.0,
      }
    ) == {
      "losses/total": 1.5,
      "losses/xe": 1.0,
      "losses/consistency": 0.5,
      "accuracy/train": 0.25,
      "monitors/lr": 0.1,
      "monitors/images_per_second": 900.0,
    }

  def test_eval(self):
    metrics = {
      "kind": "eval",
      "model": "SSLT loop 1",
      "head": "balanced",
      "split": "test",
      "epoch": None,
      "accuracy": 0.5,
      "balanced_accuracy": 0.4,
      "geometric_mean": 0.3,
      "accuracy/few": 0.2,
      "ece": 0.1,
      "per_class": [0.1],
      "confusion": [[1]],
    }
    names = {
      "test": 0.5,
      "balanced": 0.4,
      "geometric_mean": 0.3,
      "few": 0.2,
      "ece": 0.1,
    }
    assert writers.scalars(metrics) == {
      f"accuracy/{name}": value for name, value in names.items()
    }
    assert writers.scalars({**metrics, "head": "random"}) == {
      f"accuracy_random_head/{name}": value for name, value in names.items()
    }
    validation = writers.scalars({**metrics, "split": "validation"})
    assert validation["accuracy/validation"] == 0.5
    assert validation["accuracy/validation_few"] == 0.2
    assert len(validation) == 5

  def test_pseudo(self):
    assert writers.scalars(
      {
        "kind": "pseudo",
        "loop": 1,
        "pseudo/accuracy": 0.5,
        "pseudo/precision/few": 0.25,
        "pseudo/count": [1, 2],
        "pseudo/accuracy/few": None,
        "finite": True,
      }
    ) == {"pseudo/accuracy": 0.5, "pseudo/precision/few": 0.25}


class TestTensorBoard:
  def test_events_over_all_stages(self, tmp_path):
    writer = writers.TensorBoardWriter(tmp_path / "tb")
    assert not (tmp_path / "tb").exists()
    writer.write(record(0, 5, loss=2.0))
    writer.write(record(1, 5, loss=1.0, learning_rate=0.5))
    writer.write({"kind": "eval", "head": "balanced", "accuracy": 0.5})
    writer.close()
    writer.close()
    assert points(tmp_path / "tb") == [
      ("losses/total", 1, 2.0),
      ("losses/total", 2, 1.0),
      ("monitors/lr", 2, 0.5),
      ("accuracy/test", 2, 0.5),
    ]

  def test_a_resumed_run_shows_each_step_once(self, tmp_path):
    with writers.open_run(tmp_path, position=None, tensorboard=True) as writer:
      for step, loss in [(1, 3.0), (2, 2.0), (3, 9.0)]:
        writer.write(record(0, step, loss=loss))
    with writers.open_run(
      tmp_path, position=[0, 2], tensorboard=True
    ) as writer:
      writer.write({"kind": "pseudo", "position": [0, 2], "pseudo/f": 0.5})
      writer.write(record(0, 3, loss=1.0))
    assert points(tmp_path / "tensorboard") == [
      ("losses/total", 1, 3.0),
      ("losses/total", 2, 2.0),
      ("pseudo/f", 2, 0.5),
      ("losses/total", 3, 1.0),
    ]
    lines = writers.read(tmp_path / "metrics.jsonl")
    assert [r["position"][1] for r in lines] == [1, 2, 2, 3]

  def test_a_run_begun_anew_purges_everything(self, tmp_path):
    for loss in (3.0, 2.0):
      with writers.open_run(
        tmp_path, position=None, tensorboard=True
      ) as writer:
        writer.write(record(0, 1, loss=loss))
    assert points(tmp_path / "tensorboard") == [("losses/total", 1, 2.0)]
    assert len(writers.read(tmp_path / "metrics.jsonl")) == 1

  def test_missing_package_names_the_extra(self, tmp_path, monkeypatch):
    real = builtins.__import__

    def no_tensorboard(name, *args, **kwargs):
      if name.startswith("tensorboardX"):
        raise ImportError(name)
      return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_tensorboard)
    with pytest.raises(ModuleNotFoundError, match=r"ltjax\[tensorboard\]"):
      writers.TensorBoardWriter(tmp_path)

  def test_is_optional(self, tmp_path):
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
