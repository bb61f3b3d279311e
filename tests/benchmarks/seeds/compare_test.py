"""The benchmark of several seeds: who is asked for what, and what is told."""

import pytest

from benchmarks import clock
from benchmarks.seeds import compare as seeds
from ltjax.launch import machine_shares


@pytest.fixture
def children(monkeypatch):
  """Children who take no time; the clock counts what was asked instead."""
  made, asked = [], []

  class Child:
    def __init__(self, place, settings):
      self.place, self.settings = place, settings
      made.append(self)

    def __enter__(self):
      return self

    def __exit__(self, *unused):
      made.remove(self)

    def ask(self, way):
      asked.append((self.place.name, self.settings["seeds"], way))

    def wait(self):
      pass

  def seconds(run):
    before = len(asked)
    run()
    return float(len(asked) - before), 0.0

  monkeypatch.setattr(seeds, "_Child", Child)
  monkeypatch.setattr(clock, "seconds", seconds)
  return made, asked


def on(monkeypatch, platform, where):
  """Sets the machine; `for_runs` has so many places."""
  monkeypatch.setattr(machine_shares, "devices", lambda: (platform, 1))
  monkeypatch.setattr(
    machine_shares,
    "for_runs",
    lambda runs, at_once=0, option="": [
      machine_shares.Place(f"place {i}")
      for i in range(min(at_once or where, where))
    ],
  )


def test_on_a_cpu_processes_share_the_cores(children, monkeypatch):
  made, asked = children
  on(monkeypatch, "cpu", 2)
  result = seeds.measure(seeds=3, repeats=1, steps=4, batch_size=10)
  turn = [
    ("the whole machine", 3, "in turn"),
    ("the whole machine", 3, "vmapped"),
    ("place 0", 1, "in turn"),
    ("place 1", 1, "in turn"),
    ("place 0", 1, "in turn"),  # The third, when a place was free.
  ]
  assert asked == turn * 2 and not made  # All have ended.
  # 3 seeds of 4 steps of 10 images; three children were asked for the last.
  speeds = {way: spread["median"] for way, spread in result["ways"].items()}
  assert speeds == {"in turn": 120, "vmapped": 120, "processes": 40}
  assert result["fastest"] == "in turn" and result["platform"] == "cpu"
  assert result["seeds"] == 3 and result["repeats"] == 1


def test_on_gpus_all_processes_share_the_memory(children, monkeypatch):
  made, asked = children
  on(monkeypatch, "gpu", 100)
  seeds.measure(seeds=2, repeats=1)
  names = ["place 0", "place 0", "place 1", "place 2"]
  assert [name for name, *_ in asked] == names * 2


def test_on_a_tpu_there_is_one_process(children, monkeypatch):
  made, asked = children
  on(monkeypatch, "tpu", 1)
  result = seeds.measure(seeds=2, repeats=2)
  assert len(asked) == 6 and list(result["ways"]) == ["in turn", "vmapped"]


@pytest.mark.parametrize("name", ["seeds", "repeats"])
def test_nothing_to_measure_is_an_error(name):
  with pytest.raises(ValueError, match=f"--{name} is 0; it must be 1 or more"):
    seeds.measure(**({"seeds": 2} | {name: 0}))


def test_text():
  result = {
    "seeds": 4,
    "model": "resnet8",
    "dtype": "float32",
    "batch_size": 128,
    "image": 32,
    "platform": "cpu",
    "repeats": 3,
    "steps": 8,
    "ways": {
      "in turn": {"median": 1234.56, "min": 1000.0, "max": 1300.0},
      "vmapped": {"median": 100.0, "min": 90.0, "max": 110.0},
    },
    "fastest": "in turn",
  }
  assert seeds.text(result) == (
    "4 seeds of resnet8, float32, batches of 128 images of 32x32x3, on cpu;"
    " images/s of all seeds, medians of 3 turns of 8 steps each:\n"
    "in turn           1,234.6 (1,000.0 to 1,300.0)\n"
    "vmapped             100.0 (90.0 to 110.0)\n"
    "Fastest: in turn."
  )


def test_a_real_child_tells_its_mistake():
  settings = {"model": "resnet8", "batch_size": 0, "image": 8, "steps": 1}
  settings |= {"dtype": "float32", "seeds": 1}
  with seeds._Child(machine_shares.WHOLE, settings) as child:
    child.ask("in turn")
    with pytest.raises(ValueError, match="--batch_size is 0; it must be 1 or"):
      child.wait()
    # It has ended: whoever asks again is told so.
    child.ask("in turn")
    with pytest.raises(ValueError, match="whole machine ended with exit code"):
      child.wait()
