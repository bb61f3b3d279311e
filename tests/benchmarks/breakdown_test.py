import json

import bench_toys
import jax
import pytest

from benchmarks import breakdown, clock, loops, subject

SHAPE = {k: v for k, v in bench_toys.SMALL.items() if k != "steps"}


def test_pieces(monkeypatch):
  bench_toys.patch(monkeypatch)

  def seconds(run):
    jax.block_until_ready(run())
    return 2.0, 0.0

  def epoch(subject, turns):
    return loops.Loop("epoch", subject.count, lambda: None)

  monkeypatch.setattr(clock, "seconds", seconds)
  monkeypatch.setattr(loops, "epoch", epoch)
  monkeypatch.setattr(
    breakdown.peak,
    "measure",
    lambda dtype: {"flops_per_second": 5e9, "size": 8},
  )
  result = breakdown.measure(model="tiny", **SHAPE, repeats=1)
  assert json.loads(json.dumps(result)) == result
  (row,) = result["convolutions"]
  assert row["input"] == [4, 8, 8, 3] and row["kernel"] == [3, 3, 3, 5]
  assert row["count"] == 1 and "input gradient" not in row  # It is the first.
  operations = 4 * 64 * 27 * bench_toys.FEATURES * 2
  for way in ("forward", "kernel gradient"):
    assert row[way] == {"seconds": 2.0, "flops_per_second": operations / 2}
  assert result["step"] == 2.0 / breakdown.STEPS
  assert result["pieces"] == {
    "augmentation": 2.0,
    "optimizer": 2.0,
    "dispatch": 2.0,
    "convolutions, forward": 2.0,
    "convolutions, input gradient": 0,
    "convolutions, kernel gradient": 2.0,
    "rest of the network": -2.0,
  }
  text = breakdown.text(result)
  assert "tiny, float32, a step of 4 images of 8x8x3 on cpu" in text
  assert "8x8, 3x3, 3 to 5, stride 1" in text
  assert "Matrix products of 8 reach 5 GFLOP/s." in text


def test_mistakes():
  with pytest.raises(ValueError, match="--repeats is 0"):
    breakdown.measure(model="resnet8", **SHAPE, repeats=0)


def test_the_second_run_of_a_piece_compiles_nothing(monkeypatch, caplog):
  bench_toys.patch(monkeypatch)
  what = subject.make(model="any", **bench_toys.SMALL)
  first, second = [], []

  def compilations():
    lines = [r.getMessage() for r in caplog.records]
    caplog.clear()
    return [line for line in lines if "XLA compilation" in line]

  def twice(run):
    jax.block_until_ready(run())
    first.extend(compilations())
    jax.block_until_ready(run())
    second.extend(compilations())
    return 1.0

  with jax.log_compiles():
    breakdown._pieces(what, twice)
  assert first and not second
