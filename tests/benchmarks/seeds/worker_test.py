"""The process of the seeds' benchmark: one and the same training, both ways."""

import dataclasses
import io
import json
import operator

import chex
import jax
import numpy as np
import pytest
import toys

from benchmarks import subject
from benchmarks.seeds import worker as seeds_worker
from ltjax import models

SETTINGS = {
  "model": "toy",
  "batch_size": 8,
  "image": toys.SIZE,
  "dtype": "float32",
  "steps": 2,
  "channels": 1,
}


@pytest.fixture
def toy(monkeypatch):
  monkeypatch.setattr(models, "create", lambda *a, **k: toys.model())
  monkeypatch.setattr(subject, "NUM_CLASSES", toys.C)
  real = subject.make

  def make(**settings):
    """With views that compile fast, and that differ by key all the same."""
    return dataclasses.replace(
      real(**settings), transform=lambda key, x: toys.two_views(key, x)[0]
    )

  monkeypatch.setattr(subject, "make", make)


# As an accelerator does it, too: an epoch in one call.
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_vmapped_training_is_that_of_each_seed_in_turn(
  toy, monkeypatch, backend
):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  ways = seeds_worker.ways(seeds=3, **SETTINGS)
  for turn in (1, 2):
    apart, together = ways["in turn"](), ways["vmapped"]()
    assert [int(state.step) for state in apart] == [2 * turn] * 3
    np.testing.assert_array_equal(together.step, [2 * turn] * 3)
    for seed, state in enumerate(apart):
      mine = jax.tree.map(operator.itemgetter(seed), toys.host(together))
      chex.assert_trees_all_close(toys.host(state), mine, rtol=1e-4, atol=1e-5)
  # Another key draws other noise, so that another network comes out.
  assert toys.differ(apart[0].params, apart[1].params)


def test_each_line_is_answered(monkeypatch):
  done = []

  def ways(**settings):
    done.append(settings)
    return {way: lambda way=way: done.append(way) for way in ("a", "b")}

  monkeypatch.setattr(seeds_worker, "ways", ways)
  answers = io.StringIO()
  seeds_worker.serve(io.StringIO('{"seeds": 2}\nb\na\nb\n'), answers)
  assert done == [{"seeds": 2}, "b", "a", "b"]
  assert answers.getvalue() == "{}\n{}\n{}\n"


def test_a_mistake_is_answered(toy):
  answers = io.StringIO()
  settings = json.dumps(SETTINGS | {"seeds": 1, "batch_size": 0})
  seeds_worker.serve(io.StringIO(settings + "\na\n"), answers)
  assert json.loads(answers.getvalue()) == {
    "error": "--batch_size is 0; it must be 1 or more."
  }
