import bench_toys
import jax
import numpy as np
import pytest

from benchmarks import loops, passes, subject


@pytest.fixture
def tiny(monkeypatch):
  return bench_toys.patch(monkeypatch)


@pytest.mark.parametrize(
  "make, factor",
  [
    (loops.bare, 3),
    (loops.epoch, 3),
    (loops.augmented_ahead, 3),
    (loops.consistency_epoch, 3),
    (loops.contrastive_epoch, 6),
  ],
)
def test_compiles_once_and_trains(make, factor, tiny):
  made = make(subject.make(model="any", **bench_toys.SMALL), turns=2)
  traces = tiny.traces
  assert traces >= 1
  for _ in range(2):
    jax.block_until_ready(made.run())
  assert tiny.traces == traces  # The turns ran what was compiled before.
  assert made.images == 8
  assert made.flops == factor * bench_toys.FORWARD
  assert made.program.seconds > 0 and made.program.memory_bytes > 1000
  assert made.program.made_of["kernels"] > 1
  assert made.program.made_of["xla_flops"] > 0


def test_a_turn_is_an_epoch(tiny):
  made = loops.epoch(subject.make(model="any", **bench_toys.SMALL), turns=2)
  assert [int(made.run().step) for _ in range(2)] == [2, 4]


def test_augmented_ahead_goes_on_as_an_epoch(tiny):
  what = subject.make(model="any", **bench_toys.SMALL)
  made = loops.augmented_ahead(what, turns=2)
  first, second = made.run(), made.run()
  assert int(second.step) == 4 and np.isfinite(second.totals["loss"])
  del first


def test_the_bare_loop_steps_on(tiny):
  what = subject.make(model="any", **bench_toys.SMALL)
  made = loops.bare(what, turns=2)
  _, stats, _ = made.run()
  np.testing.assert_array_equal(stats["seen"], [3.0])
  # What it was made from is left as it was.
  np.testing.assert_array_equal(what.state.batch_stats["seen"], [1.0])


def test_passes(tiny):
  what = subject.make(model="any", **bench_toys.SMALL)
  labels = passes.pseudo_labels(what)
  assert labels.images == 8 and labels.flops == bench_toys.FORWARD
  assert labels.run().shape == (8,)
  cache = passes.refit_features(what)
  assert cache.images == 80 and cache.run().shape == (80, bench_toys.FEATURES)
  fitted = passes.refit(what)
  assert fitted.images == 10 * 8 and fitted.flops == 0
  first, second = fitted.run(), fitted.run()  # It can be done again.
  assert int(first.step) == int(second.step) == 20
  np.testing.assert_array_equal(first.params["kernel"], second.params["kernel"])
  assert (first.params["kernel"] != what.state.balanced_head["kernel"]).any()
