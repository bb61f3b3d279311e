import json

import bench_toys
import pytest

from ltjax.benchmarks import clock, loops, measure, peak


def test_real_loops(monkeypatch):
  bench_toys.patch(monkeypatch)
  result = measure.measure(
    model="any", **bench_toys.SMALL, repeats=1, peak_sizes=(8,)
  )
  assert json.loads(json.dumps(result)) == result
  assert list(result["loops"]) == list(measure.LOOPS)
  for name, row in result["loops"].items():
    assert row["images_per_second"]["median"] > 0, name
    assert row["compile_seconds"] >= 0, name
    assert ("mfu" in row) == (name != "refit"), name
  assert result["ltjax_over_bare"]["median"] > 0
  assert result["peers"] == {} and result["process"]["host_bytes"] > 0
  assert result["batch_size"] == 4 and len(result["mesh"]) == 1


class Peer:
  how = {"layout": "contiguous"}

  def __init__(self, *seconds):
    self._seconds = iter(seconds)

  def turn(self):
    return next(self._seconds)


def test_numbers_follow_from_the_turns(monkeypatch):
  bench_toys.patch(monkeypatch)
  # Seconds of each turn of each loop; the first, to warm up, does not count.
  times = {"bare": [9.0, 1.0, 4.0, 2.0], "epoch": [9.0, 1.25, 8.0, 2.0]}
  times["pseudo_label"] = [7.0, 0.5, 0.5, 1.0]
  taken = {name: iter(values) for name, values in times.items()}

  def stub(name, seconds):
    return lambda subject, turns: loops.Loop(
      name, subject.count, lambda: name, 100, seconds, 5
    )

  for name, seconds in (("bare", 2.0), ("epoch", 3.0), ("pseudo_label", None)):
    monkeypatch.setitem(measure.LOOPS, name, stub(name, seconds))

  def seconds(run):
    wall = next(taken[run()])
    return wall, wall / 2

  monkeypatch.setattr(clock, "seconds", seconds)
  found = {"flops_per_second": 1600.0, "size": 8, "sizes": [8]}
  monkeypatch.setattr(peak, "measure", lambda **unused: dict(found))
  result = measure.measure(
    model="any",
    **bench_toys.SMALL,
    repeats=3,
    only=("epoch", "bare", "pseudo_label"),
    peers={"other": Peer(50.0, 2.5, 4.0, 8.0)},
  )
  assert result["ltjax_over_bare"] == {"median": 0.8, "min": 0.5, "max": 1.0}
  assert result["processor_ratio"]["median"] == 0.8
  rows = result["loops"]
  assert list(rows) == ["bare", "epoch", "pseudo_label"]
  assert rows["epoch"]["images_per_second"] == {
    "median": 4.0,
    "min": 1.0,
    "max": 6.4,
  }
  assert rows["epoch"]["flops_per_second"] == 400.0
  assert rows["epoch"]["mfu"] == 0.25
  assert rows["epoch"]["compile_seconds"] == 3.0
  # Where only the first turn tells, compilation is what it took longer.
  assert rows["pseudo_label"]["compile_seconds"] == 6.5
  other = result["peers"]["other"]
  assert other["ratio"] == {"median": 2.0, "min": 0.5, "max": 4.0}
  assert other["images_per_second"]["median"] == 2.0
  assert other["how"] == Peer.how


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"repeats": 0}, "--repeats is 0; it must be 1 or more."),
    ({"only": ("bare", "epohc")}, "--only is 'bare,epohc'; choose from bare, "),
    ({"only": ()}, "--only is ''"),
    ({"only": ("bare",), "peers": {"x": Peer()}}, "add it to --only"),
  ],
)
def test_mistakes(changes, error):
  with pytest.raises(ValueError, match=error):
    measure.measure(**bench_toys.SMALL | changes)
