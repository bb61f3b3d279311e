import json

import bench_toys
import pytest

from benchmarks import budget as budgets
from benchmarks import cards, clock, loops, measure, peak


def test_real_loops(monkeypatch):
  bench_toys.patch(monkeypatch)
  said = []
  result = measure.measure(
    model="any",
    **bench_toys.SMALL,
    repeats=1,
    peak_sizes=(8,),
    only=tuple(measure.LOOPS),
    say=lambda line, so_far: said.append((line, so_far)),
  )
  assert json.loads(json.dumps(result)) == result
  assert list(result["loops"]) == list(measure.LOOPS)
  # A figure at a time, each with all that was known then.
  assert [len(so_far["loops"]) for _, so_far in said] == [
    *(1, 2, 2, 3, 4, 5, 6, 7, 8, 8)
  ]
  assert said[0][0].startswith("bare step: ") and "turn 1 of 1" in said[-1][0]
  assert result["loops"]["epoch"]["made_of"]["kernels"] > 1
  for name, row in result["loops"].items():
    assert row["images_per_second"]["median"] > 0, name
    assert row["compile_seconds"] >= 0, name
    assert ("mfu" in row) == (name != "refit"), name
  assert result["ltjax_over_bare"]["median"] > 0
  assert result["peers"] == {} and result["process"]["host_bytes"] > 0
  assert result["batch_size"] == 4 and len(result["mesh"]) == 1


class Peer:
  def __init__(self, *seconds):
    self._seconds = iter(seconds)
    self.how = {"tried": []}

  def make(self, say, budget):
    row = {"layout": "contiguous", "images_per_second": 16.0}
    self.how["tried"].append(row)
    say(row)
    budget.check()
    self.how = row

  def turn(self, budget):
    budget.check()
    return next(self._seconds)


def test_numbers_follow_from_the_turns(monkeypatch):
  bench_toys.patch(monkeypatch)
  # Seconds of each turn of each loop; two, to warm up, do not count.
  times = {"bare": [9, 9, 1.0, 4.0, 2.0], "epoch": [9, 9, 1.25, 8.0, 2.0]}
  times["pseudo_label"] = [7.0, 9, 0.5, 0.5, 1.0]
  taken = {name: iter(values) for name, values in times.items()}

  def stub(name, seconds):
    program = seconds and loops.Program(None, seconds, 5, {"kernels": 3})
    return lambda subject, turns: loops.Loop(
      name, subject.count, lambda: name, 100, program
    )

  for name, seconds in (("bare", 2.0), ("epoch", 3.0), ("pseudo_label", None)):
    monkeypatch.setitem(measure.LOOPS, name, stub(name, seconds))

  def seconds(run):
    wall = next(taken[run()])
    return wall, wall / 2

  monkeypatch.setattr(clock, "seconds", seconds)
  found = {"flops_per_second": 1600.0, "size": 8, "sizes": [8]}
  monkeypatch.setattr(peak, "measure", lambda **unused: dict(found))
  monkeypatch.setattr(cards, "peak", lambda device, dtype: 3200.0)
  result = measure.measure(
    model="any",
    **bench_toys.SMALL,
    repeats=3,
    only=("epoch", "bare", "pseudo_label"),
    peers={"other": Peer(50.0, 50.0, 2.5, 4.0, 8.0)},
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
  assert rows["epoch"]["mfu_of_card"] == 0.125
  assert rows["epoch"]["compile_seconds"] == 3.0
  # Where only the first turn tells, compilation is what it took longer.
  assert rows["pseudo_label"]["compile_seconds"] == 6.5
  other = result["peers"]["other"]
  assert other["ratio"] == {"median": 2.0, "min": 0.5, "max": 4.0}
  assert other["images_per_second"]["median"] == 2.0
  assert other["how"]["layout"] == "contiguous" and "stopped" not in result


class Counted(budgets.Budget):
  """Lasts for so many looks at it."""

  def __init__(self, looks):
    super().__init__(7)
    self.looks = looks

  @property
  def left(self):
    self.looks -= 1
    return max(self.looks, 0)


@pytest.mark.parametrize(
  "looks, loops_made, turns, peer",
  [
    (1, ["bare"], 1, None),
    (2, ["bare", "epoch"], 1, 16.0),  # In the midst of what the peer tries.
    (6, ["bare", "epoch"], 1, 4.0),  # After its turns to warm up.
    # In the second round, which then does not count.
    (10, ["bare", "epoch"], 1, 2.0),
  ],
)
def test_what_was_measured_is_kept(looks, loops_made, turns, peer, monkeypatch):
  bench_toys.patch(monkeypatch)
  for name in measure.COMPARED:
    program = loops.Program(None, 1.0, 5, {"kernels": 3})
    loop = loops.Loop(name, 8, lambda: None, 100, program)
    monkeypatch.setitem(measure.LOOPS, name, lambda *_, loop=loop: loop)
  monkeypatch.setattr(
    peak, "measure", lambda **unused: {"flops_per_second": 1.0}
  )
  result = measure.measure(
    model="any",
    **bench_toys.SMALL,
    only=measure.COMPARED,
    peers={"other": Peer(9.0, 2.0, 4.0, 5.0)},
    budget=Counted(looks + 1),
  )
  assert result["stopped"] == "7 s are over"
  assert list(result["loops"]) == loops_made
  assert all(row["turns"] == turns for row in result["loops"].values())
  if peer:
    speed = result["peers"]["other"]["images_per_second"]
    assert speed == {"median": peer, "min": peer, "max": peer}


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"repeats": 0}, "--repeats is 0; it must be 1 or more."),
    ({"only": ("bare", "epohc")}, "--only is 'bare,epohc'; choose from bare, "),
    ({"only": ()}, "--only is ''"),
    ({"batch_norm": "no_pass"}, "--batch_norm is 'no_pass'; choose two_pass"),
    ({"only": ("bare",), "peers": {"x": Peer()}}, "add it to --only"),
  ],
)
def test_mistakes(changes, error):
  with pytest.raises(ValueError, match=error):
    measure.measure(**bench_toys.SMALL | changes)
