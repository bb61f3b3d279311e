import jax.numpy as jnp
import pytest

from benchmarks import clock


def test_spread_and_ratios():
  assert clock.spread([3.0, 1.0, 2.0]) == {
    "median": 2.0,
    "min": 1.0,
    "max": 3.0,
  }
  # Turn by turn: 4 / 2, 9 / 3, 1 / 4.
  assert clock.ratios([2.0, 3.0, 4.0], [4.0, 9.0, 1.0]) == {
    "median": 2.0,
    "min": 0.25,
    "max": 3.0,
  }
  with pytest.raises(ValueError):
    clock.ratios([1.0], [1.0, 2.0])


def test_seconds_are_those_of_the_call(monkeypatch):
  now = {"wall": 10.0, "processor": 5.0}
  monkeypatch.setattr(clock.time, "perf_counter", lambda: now["wall"])
  monkeypatch.setattr(clock.time, "process_time", lambda: now["processor"])

  def run():
    now["wall"] += 3.0
    now["processor"] += 1.0
    return jnp.ones(2), None

  assert clock.seconds(run) == (3.0, 1.0)
