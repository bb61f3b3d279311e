import json
import subprocess
import types

import jax
import numpy as np
import pytest

from ltjax import loss_settings
from ltjax.benchmarks import (
  growing_losses,
  growing_sets,
  growth,
  scaling,
)

SETS = [
  *growing_sets.streams(10**5),
  *growing_sets.bookkeeping(10**5),
  *growing_sets.images(10**5),
]
LOSSES = [*growing_losses.classes(10_000), *growing_losses.prototypes(10_000)]


@pytest.mark.parametrize("case", SETS, ids=lambda case: case.name)
def test_sets(case):
  assert len(case.sizes) >= 3 and case.sizes[0] >= 10
  size = 10 if case.variable == "classes" else 2048
  work = case.make(size)
  assert work.memory_bytes > 0
  first, second = work.run(), work.run()  # It can be done again.
  if case.variable in ("index entries", "classes"):
    assert first.shape[1] == growing_sets.BATCH
    np.testing.assert_array_equal(first, second)


def test_the_memory_is_written_in_place():
  (case,) = [c for c in SETS if c.name.startswith("memory")]
  small, large = (case.make(size) for size in (256, 512))
  touched = np.asarray(small.run())
  assert (touched != 0).any(1).sum() == growing_sets.BATCH
  # One copy of it, not two.
  assert large.memory_bytes - small.memory_bytes == 256 * 10 * 4
  assert case.limit == 0.0


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
def test_losses(case):
  work = case.make(6)
  assert work.memory_bytes > 0
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(work.run()))


def test_every_loss_is_there():
  names = {case.name for case in LOSSES}
  assert {f"loss {name}" for name in loss_settings.NAMES} <= names


def test_devices_of_a_cpu_take_another_process(monkeypatch):
  (case,) = growing_sets.devices(10_000)
  assert case.sizes == (1, 2, 4)
  asked = {}

  def run(command, *, env, **unused):
    asked.update(command=command, count=env["JAX_NUM_CPU_DEVICES"])
    row = {
      "images": 100,
      "images_per_second": {"median": 50.0},
      "memory_bytes": 7,
    }
    return types.SimpleNamespace(stdout=json.dumps({"loops": {"epoch": row}}))

  monkeypatch.setattr(subprocess, "run", run)
  work = case.make(2)
  assert asked["count"] == "2" and "--devices=2" in asked["command"]
  assert work == growth.Done(seconds=2.0, memory_bytes=7)
  assert list(growing_sets.devices(1)) == []


def test_measures_what_was_chosen(monkeypatch):
  case = growth.Case(
    "nothing", "rows", (1, 2), lambda n: growth.Work(lambda: n, 2**20)
  )
  monkeypatch.setitem(scaling.CASES, "streams", lambda largest: iter([case]))
  result = scaling.measure(only=("streams",), repeats=1)
  assert json.loads(json.dumps(result)) == result
  assert [row["name"] for row in result["rows"]] == ["nothing"]
  assert result["machine"]["device"] == "cpu"


def test_text():
  row = {
    "name": "split",
    "variable": "images",
    "sizes": [1000, 20_000],
    "seconds": [0.001, 0.25],
    "memory_bytes": [2**20, 3 * 2**20],
    "exponent": 1.84,
    "memory_exponent": 0.366,
    "limit": 1.0,
    "as_it_should": False,
  }
  header, line = scaling.text({"rows": [row]}).splitlines()
  assert line.split() == (
    "split 1,000 to 20,000 images 1 250 1.84 1 3.0 0.37 grows too fast".split()
  )
  assert header.endswith("exponent")
  calm = scaling.text({"rows": [row | {"as_it_should": True}]})
  assert "too fast" not in calm


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"only": ("x",)}, "--only is 'x'; choose from streams, bookkeeping"),
    ({"largest": 10}, "--largest is 10; it must be 100000 or more."),
    ({"repeats": 0}, "--repeats is 0"),
  ],
)
def test_mistakes(changes, error):
  with pytest.raises(ValueError, match=error):
    scaling.measure(**changes)
