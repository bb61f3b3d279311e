"""The table: the shapes of a run, found without running it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import toys

from ltjax import memory_table
from ltjax.devices import memory, sharding
from ltjax.training import fit, memory_check
from ltjax.training.stage import shapes_after


def outlined(learner):
  predictor = memory_table.Outlined(learner.predictor)
  return dataclasses.replace(learner, predictor=predictor)


def shape(tree):
  return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


WITH_STEPS = [c for c in toys.CASES if c not in toys.WITHOUT_STEPS]


@pytest.mark.parametrize("case", WITH_STEPS)
def test_outlines_are_what_a_run_prepares(case, monkeypatch):
  """All stages of a case run, and each reads what its outline says."""
  learner = toys.learner(probe=case == "probe")
  stages = toys.stages(case, outlined(learner), loops=1)
  # The real ones go from one to the next without training.
  state, found = learner.init(), {}
  for stage in toys.stages(case, learner, loops=1):
    if stage.steps:
      train = stage.init(state)
      found[stage.name] = shape((train, stage.prepare(state)[0]))
      state = stage.finish(state, train)
    else:
      state = stage.finish(state, None)
  initial = jax.eval_shape(learner.init)
  outlines = {}
  for number, stage in enumerate(stages):
    if stage.steps:
      before = shapes_after(stages[:number], initial)
      arrays, _ = memory_table._reads(stage, before, learner)
      outlines[stage.name] = shape((jax.eval_shape(stage.init, before), arrays))
  assert found and outlines == found


def rows(case="sslt", learner=None, **settings):
  learner = outlined(learner or toys.learner())
  stages = toys.stages(case, learner, loops=1)
  return memory_table.rows(stages, learner, **settings)


def test_each_stage_with_steps_has_a_row_and_so_has_the_evaluation():
  learner = toys.learner()
  names = [
    ("embedding", "embedding.batch_size", 8),
    ("classifier", "classifier.batch_size", 8),
    ("loop1/consistency", "consistency.batch_size", 8),
    ("loop1/refit", "refit.batch_size", 8),
    ("evaluation", "eval.batch_size", 12),
  ]
  found = rows(learner=learner)
  assert [(r.name, r.batch.field, r.batch.size) for r in found] == names
  there = memory.in_use(jax.devices()[0])
  estimate = {row.name: row.estimate for row in found}
  labels = 4 * (toys.N + toys.M)
  new = estimate["loop1/consistency"].data - estimate["embedding"].data
  assert abs(new - labels) <= labels
  # Two views of 6 floats, and a label, of each labeled image.
  cached = estimate["classifier"].data - estimate["embedding"].data
  assert cached >= 2 * toys.N * toys.D * 4
  assert abs(there - estimate["embedding"].data) < 10_000
  # The memory of predictions, once in the model and once in training.
  memory_bytes = 4 * toys.C * (toys.N + toys.M)
  assert estimate["loop1/consistency"].state > 2 * memory_bytes
  assert all(e.temporaries > 0 for e in estimate.values())


def test_devices_share_the_batch_and_the_memory():
  one = rows(learner=toys.learner())
  four = rows(learner=toys.learner(mesh=sharding.make_mesh(4)))
  for a, b in zip(one, four, strict=True):
    assert b.batch.multiple == 4
    if a.name == "loop1/consistency":
      saved = a.estimate.state - b.estimate.state
      assert saved == 2 * 3 / 4 * 4 * toys.C * (toys.N + toys.M)


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_the_program_is_that_of_the_run(steps_per_call, monkeypatch):
  """The same step, of the same shapes: XLA's number is the same."""
  learner, told = toys.learner(), []
  real = memory_check.check

  def check(estimate, batch, most):
    told.append((batch.what, estimate.temporaries))
    real(estimate, batch, most)

  found = rows("supervised", learner, steps_per_call=steps_per_call)
  monkeypatch.setattr(memory_check, "check", check)
  (stage,) = toys.stages("supervised", learner)
  train = stage.init(learner.init())
  read = stage.prepare(learner.init())
  settings = {"mesh": learner.mesh, "steps_per_call": steps_per_call}
  next(fit.fit(stage, train, *read, **settings))
  assert told == [("Stage embedding", found[0].estimate.temporaries)]


def test_equal_stages_are_compiled_once(monkeypatch):
  count, real = [], memory.temporaries

  def temporaries(lowered, **settings):
    count.append(lowered)
    return real(lowered, **settings)

  monkeypatch.setattr(memory, "temporaries", temporaries)
  learner = outlined(toys.learner())
  stages = toys.stages("sslt", learner, loops=3)
  assert len(memory_table.rows(stages, learner)) == 9
  # Embedding, classifier, consistency, refit and the evaluation.
  assert len(count) == 5


def test_the_table_tells_what_does_not_fit_and_what_would():
  found = rows("supervised")
  text = memory_table.table(found, None).splitlines()
  assert text[0].split() == [
    *("memory", "on", "a", "device"),
    *("data", "state", "temporaries", "peak"),
  ]
  assert [line.split()[0] for line in text[1:3]] == ["embedding", "evaluation"]
  assert text[-1].split() == ["the", "device", "has", "unknown"]
  peak = max(row.estimate.peak for row in found)
  assert text[-2].split() == ["largest", *memory.text(peak).split()]
  assert len(memory_table.table(found, peak).splitlines()) == len(text)
  tight = memory_table.table(found, found[0].estimate.resting + 1)
  assert "Stage embedding does not fit on the device" in tight


def test_features_are_shapes_only():
  learner = outlined(toys.learner())
  images = jax.ShapeDtypeStruct((10**9, 4, 4, 1), jnp.uint8)

  class Many:
    def __len__(self):
      return images.shape[0]

  out = jax.eval_shape(
    lambda state: learner.predictor.features(state, Many()),
    jax.eval_shape(learner.init),
  )
  assert out.shape == (10**9, toys.D) and out.dtype == jnp.float32
