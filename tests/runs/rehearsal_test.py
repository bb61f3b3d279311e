"""The rehearsal: what a run will compile, compiled before it begins."""

import dataclasses

import jax
import numpy as np
import programs
import pytest
import runs
import toys

from ltjax import train
from ltjax.data.host import host_images
from ltjax.devices import memory, sharding
from ltjax.report import page
from ltjax.runs import rehearsal
from ltjax.training import fit


def rehearse(learner, stages, state=None, **settings):
  lines = []
  count = rehearsal.rehearse(
    stages,
    learner.init() if state is None else state,
    learner.predictor,
    mesh=learner.mesh,
    show=lines.append,
    **settings,
  )
  return count, [line for line in lines if line.startswith("Compiling")]


def on_host(learner):
  """The same learner, its images read batch by batch."""
  images = host_images.ArrayImages(np.asarray(learner.task.images))
  task = dataclasses.replace(learner.task, images=images)
  return dataclasses.replace(learner, task=task)


@pytest.mark.parametrize(
  "method, steps_per_call", [("sslt", 3), ("decoupling", 1)]
)
def test_a_run_compiles_nothing_large_afterwards(
  method, steps_per_call, tmp_path
):
  """One device and a step at a time: see conformance_test.py, all methods."""
  learner = toys.learner(mesh=sharding.make_mesh(4))
  if steps_per_call == 1:
    learner = on_host(learner)
  stages = toys.stages(method, learner, epochs=1)
  settings = {"steps_per_call": steps_per_call}
  with programs.compilations() as found:
    count, lines = rehearse(learner, stages, **settings)
  step = "3 steps" if steps_per_call == 3 else "a step"
  assert count == len(lines) == sum(programs.large(found).values())
  assert lines[0] == f"Compiling {step} of stage embedding, batch 8 ..."
  # The second loop has the programs of the first.
  assert not any("loop2" in line for line in lines)
  with programs.compilations() as found:
    toys.execute(tmp_path, learner, stages, **settings)
  assert not programs.large(found)


def test_only_what_is_left_is_rehearsed_and_only_if_due(tmp_path):
  learner = toys.learner()
  stages = toys.stages("decoupling", learner, epochs=1)
  told = []

  class Told(toys.Killer):
    def message(self, text):
      if text.startswith("Compiling"):
        told.append(text)

  def run(when, kill_at=10**9):
    settings = {"predictor": learner.predictor, "rehearse": when}
    progress = Told(kill_at)
    toys.execute(tmp_path, learner, stages, progress=progress, **settings)

  with pytest.raises(toys.Killed):
    run("auto", kill_at=stages[0].steps + 2)  # on a CPU
  assert not told
  run("always")
  assert told and not any("embedding" in text for text in told)
  assert any("of stage classifier" in text for text in told)


def test_when_it_is_due():
  mesh = toys.one_device()
  assert [rehearsal.due(w, mesh) for w in ("auto", "always", "never")] == [
    *(False, True, False)
  ]

  class Accelerators:
    devices = np.array([type("Device", (), {"platform": "gpu"})])

  assert rehearsal.due("auto", Accelerators())
  assert not rehearsal.due("never", Accelerators())


def test_a_checked_run_finds_its_programs_on_disk(tmp_path, monkeypatch):
  runs.place(tmp_path, monkeypatch)
  monkeypatch.setattr(page, "write", lambda folder: None)  # plots take long
  cache = tmp_path / "cache"
  cache.mkdir()
  old = jax.config.jax_compilation_cache_dir
  reset = jax.experimental.compilation_cache.compilation_cache.reset_cache

  def large():
    return {
      path.name
      for path in cache.glob("*-cache")
      if f"jit({path.name.split('-')[0][4:]})" in programs.LARGE
    }

  lines = []
  jax.config.update("jax_compilation_cache_dir", str(cache))
  try:
    reset()
    jax.clear_caches()
    train.check(runs.config(method="decoupling"), echo=lines.append)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", runs.SET}
    compiled = large()
    jax.clear_caches()
    runs.run("run", method="decoupling")
    assert compiled and large() == compiled
  finally:
    jax.config.update("jax_compilation_cache_dir", old)
    reset()
  assert (
    lines[-1] == f"All {(len(lines) - 1) // 2} programs of this run compile."
  )


def broken(text):
  class Call:
    def lower(self, *unused, **unused_too):
      raise programs.exhausted(text)

  return Call()


def test_a_fault_names_the_program_and_the_way_out(monkeypatch):
  learner = toys.learner()
  (stage,) = toys.stages("supervised", learner)
  text = "INTERNAL: no such tile\nand more"
  monkeypatch.setattr(fit, "compiled", lambda *unused: broken(text))
  with pytest.raises(rehearsal.CompilationError) as caught:
    rehearse(learner, [stage])
  assert str(caught.value).startswith(
    "XLA cannot compile a step of stage embedding, batch 8 (JAX"
    f" {jax.__version__}): INTERNAL: no such tile Nothing was trained."
  )
  assert "--config.run.rehearse=never" in str(caught.value)
  # Afterwards the predictor is as it was.
  assert learner.predictor._compile is None


def test_what_does_not_fit_is_told_before_the_first_stage(monkeypatch):
  learner = toys.learner()
  stages = toys.stages("decoupling", learner)
  real = memory.check

  def check(needed, batch, most):
    real(needed, batch, 0 if "classifier" in batch.what else most)

  monkeypatch.setattr(memory, "check", check)
  with pytest.raises(memory.OutOfMemoryError, match="Stage classifier"):
    rehearse(learner, stages)


def test_a_pass_that_xla_cannot_place_names_its_batch(monkeypatch):
  learner = toys.learner()

  class Features:
    def lower(self, *unused, **unused_too):
      raise programs.exhausted()

  monkeypatch.setattr(learner.predictor, "_features", Features())
  with pytest.raises(memory.OutOfMemoryError, match="A pass over 20 images"):
    rehearse(learner, toys.stages("supervised", learner))
