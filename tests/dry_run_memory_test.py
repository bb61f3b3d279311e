"""The table: the shapes of a run, found without running it."""

import functools

import jax
import jax.numpy as jnp
import programs
import pytest
import toys

from ltjax import dry_run
from ltjax.devices import memory, sharding
from ltjax.training import fit
from ltjax.training.stage import shapes_after


def shape(tree):
  return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


WITH_STEPS = [c for c in toys.CASES if c not in toys.WITHOUT_STEPS]


# Shared, so that its programs are compiled once.
learner_of = functools.cache(toys.learner)


@pytest.mark.parametrize("case", WITH_STEPS)
def test_outlines_are_what_a_run_prepares(case):
  """All stages of a case run, and each reads what its outline says."""
  learner = learner_of(probe=case == "probe")
  stages = toys.stages(case, dry_run.outlined(learner), loops=1)
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
      arrays, _ = dry_run.reads(stage, before, learner)
      outlines[stage.name] = shape((jax.eval_shape(stage.init, before), arrays))
  assert found and outlines == found


def rows(case="sslt", learner=None, **settings):
  """Returns (name, batch, bytes of data, of state, of temporaries)."""
  learner = dry_run.outlined(learner or toys.learner())
  stages = toys.stages(case, learner, loops=1)
  settings = {"steps_per_call": 0} | settings
  found = dry_run._programs(stages, learner, **settings)
  return [(*row[:4], row[4]()) for row in found]


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
  assert [(n, batch.field, batch.size) for n, batch, *_ in found] == names
  there = memory.in_use(jax.devices()[0])
  data, state = ({row[0]: row[i] for row in found} for i in (2, 3))
  labels = 4 * (toys.N + toys.M)
  new = data["loop1/consistency"] - data["embedding"]
  assert abs(new - labels) <= labels
  # Two views of 6 floats, and a label, of each labeled image.
  cached = data["classifier"] - data["embedding"]
  assert cached >= 2 * toys.N * toys.D * 4
  assert abs(there - data["embedding"]) < 10_000
  # The memory of predictions, once in the model and once in training.
  memory_bytes = 4 * toys.C * (toys.N + toys.M)
  assert state["loop1/consistency"] > 2 * memory_bytes
  assert all(row[4] > 0 for row in found)


def test_devices_share_the_memory():
  one = rows(learner=toys.learner())
  four = rows(learner=toys.learner(mesh=sharding.make_mesh(4)))
  saved = {a[0]: a[3] - b[3] for a, b in zip(one, four, strict=True)}
  assert saved["loop1/consistency"] == 2 * 3 / 4 * 4 * toys.C * (
    toys.N + toys.M
  )


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_the_program_is_that_of_the_run(steps_per_call, monkeypatch):
  """The same step, of the same shapes: XLA's number is the same."""
  learner, told = toys.learner(), []

  def check(needs, batch, most):
    told.append((batch.what, needs.temporaries))

  found = rows("supervised", learner, steps_per_call=steps_per_call)
  monkeypatch.setattr(memory, "check", check)
  (stage,) = toys.stages("supervised", learner)
  train = stage.init(learner.init())
  read = stage.prepare(learner.init())
  settings = {"mesh": learner.mesh, "steps_per_call": steps_per_call}
  next(fit.fit(stage, train, *read, **settings))
  assert told == [("Stage embedding", found[0][4])]


def table(case, most=None, loops=1):
  learner = dry_run.outlined(toys.learner())
  stages = toys.stages(case, learner, loops=loops)
  return list(dry_run.memory_table(stages, learner, most))


def test_equal_stages_are_compiled_once(monkeypatch):
  count, real = [], memory.temporaries

  def temporaries(lowered, **settings):
    count.append(lowered)
    return real(lowered, **settings)

  monkeypatch.setattr(memory, "temporaries", temporaries)
  # A head, 9 rows, the largest, and the limit.
  assert len(table("sslt", loops=3)) == 12
  # Embedding, classifier, consistency, refit and the evaluation.
  assert len(count) == 5


def test_the_table_tells_what_does_not_fit_and_what_to_lower():
  lines = table("supervised")
  assert lines[0].split() == [
    *("memory", "on", "a", "device"),
    *("data", "state", "temporaries", "peak"),
  ]
  assert [line.split()[0] for line in lines[1:3]] == ["embedding", "evaluation"]
  assert lines[-1].split() == ["the", "device", "has", "unknown"]
  peaks = [line.split()[-2:] for line in lines[1:3]]
  assert lines[-2].split()[0] == "largest"
  assert lines[-2].split()[1:] == max(peaks, key=lambda x: float(x[0]))
  assert len(table("supervised", memory.GIB)) == len(lines)
  tight = table("supervised", 1000)
  assert "Stage embedding does not fit on the device" in tight[-2]
  assert "--config.embedding.batch_size" in tight[-2]
  assert "--config.eval.batch_size" in tight[-1]


def test_what_xla_refuses_to_compile_has_no_row_but_an_error(monkeypatch):
  def temporaries(lowered, **settings):
    raise programs.exhausted()

  monkeypatch.setattr(memory, "temporaries", temporaries)
  lines = table("supervised")
  assert len(lines) == 5
  assert "Stage embedding does not fit on the device (RESOURCE" in lines[-2]


def test_features_are_shapes_only():
  learner = dry_run.outlined(toys.learner())
  images = jax.ShapeDtypeStruct((10**9, 4, 4, 1), jnp.uint8)

  class Many:
    def __len__(self):
      return images.shape[0]

  out = jax.eval_shape(
    lambda state: learner.predictor.features(state, Many()),
    jax.eval_shape(learner.init),
  )
  assert out.shape == (10**9, toys.D) and out.dtype == jnp.float32
