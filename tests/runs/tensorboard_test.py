import builtins
import struct

import numpy as np
import pytest

from ltjax.runs import tensorboard, writers


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


class TestScalars:
  def test_train(self):
    assert tensorboard.scalars(
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
    assert tensorboard.scalars(metrics) == {
      f"accuracy/{name}": value for name, value in names.items()
    }
    assert tensorboard.scalars({**metrics, "head": "random"}) == {
      f"accuracy_random_head/{name}": value for name, value in names.items()
    }
    validation = tensorboard.scalars({**metrics, "split": "validation"})
    assert validation["accuracy/validation"] == 0.5
    assert validation["accuracy/validation_few"] == 0.2
    assert len(validation) == 5

  def test_pseudo(self):
    assert tensorboard.scalars(
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
    writer = tensorboard.TensorBoardWriter(tmp_path / "tb")
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
      tensorboard.TensorBoardWriter(tmp_path)
