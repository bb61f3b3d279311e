import json

import finished

from ltjax import speed

SMALL = {"batch_size": 8, "image": 8, "steps": 2, "repeats": 2}


def test_measures_real_loops(monkeypatch):
  finished.one_device(monkeypatch)
  result = speed.measure(**SMALL)
  for name in (
    "bare",
    "ltjax",
    "pseudo_label",
    "bare_compile_seconds",
    "ltjax_compile_seconds",
    "refit_features_seconds",
    "refit_fit_seconds",
    "processor_ratio",
  ):
    assert result[name] > 0, name
  assert len(result["ratios"]) == 2
  assert min(result["ratios"]) <= result["ratio"] <= max(result["ratios"])
  assert {k: result[k] for k in SMALL} == SMALL
  assert result["refit_images"] == 16
  assert json.loads(json.dumps(result)) == result


class Clock:
  """A clock of wall time that only the loops move; processors take half."""

  def __init__(self):
    self.now = 0.0

  def wall(self):
    return self.now

  def processor(self):
    return self.now / 2

  def loop(self, *seconds):
    for s in seconds:
      self.now += s
      yield


def test_numbers_follow_from_the_turns(monkeypatch):
  finished.one_device(monkeypatch)
  clock = Clock()
  monkeypatch.setattr(speed.time, "perf_counter", clock.wall)
  monkeypatch.setattr(speed.time, "process_time", clock.processor)
  # The first turn compiles; the third is slow for both, as a busy machine is.
  monkeypatch.setattr(
    speed, "_bare", lambda *unused: clock.loop(7.0, 1.0, 4.0, 2.0)
  )
  monkeypatch.setattr(
    speed, "_epochs", lambda *unused: clock.loop(9.0, 1.25, 8.0, 2.0)
  )
  monkeypatch.setattr(speed, "_refit", lambda *unused: (3.0, 4.0))

  def assign(*unused):
    clock.now += 0.5

  monkeypatch.setattr(speed.pseudo_label, "assign", assign)
  result = speed.measure(**SMALL | {"repeats": 3})
  assert result["ratios"] == [0.8, 0.5, 1.0]
  assert result["ratio"] == 0.8
  assert result["processor_ratio"] == 1.0
  assert result["bare"] == 16 / 2.0
  assert result["ltjax"] == 16 / 2.0
  assert result["bare_compile_seconds"] == 5.0
  assert result["ltjax_compile_seconds"] == 7.0
  assert result["pseudo_label"] == 16 / 0.5
  assert result["refit_features_seconds"] == 3.0
  assert result["refit_fit_seconds"] == 4.0
