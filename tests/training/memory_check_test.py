"""The guard: compiles once, refuses in time, translates XLA's words."""

import dataclasses

import jax
from jax import monitoring
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.data.host import host_images
from ltjax.devices import memory, sharding
from ltjax.training import fit, memory_check, prefetch

WIDTH = 64


@jax.jit
def layers(weights, index, arrays):
  x = arrays["images"][index]
  return weights + jnp.sum(jnp.tanh(jnp.tanh(x @ weights) @ weights))


def arguments(size=64):
  return (
    jnp.ones((WIDTH, WIDTH)),
    jnp.arange(size, dtype=jnp.int32),
    {"images": jnp.ones((500, WIDTH))},
  )


def make(call=layers, size=64, **settings):
  return memory_check.Guard(
    call,
    memory.Batch("Stage toy", "toy.batch_size", size),
    **({"states": 1, "index": 1, "mesh": toys.one_device()} | settings),
  )


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("where", ["device", "host"])
@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_nothing_is_compiled_twice(devices, where, steps_per_call, monkeypatch):
  """The program that is looked at is the one that runs."""
  learner = toys.learner(mesh=sharding.make_mesh(devices))
  stage = toys.embedding_stage(learner)
  state = learner.init()
  train = stage.init(state)
  arrays, stream = stage.prepare(state)
  if where == "host":
    images = host_images.ArrayImages(np.asarray(arrays["images"]))
    arrays["images"] = images
  compiled, real = [], memory.temporaries

  def listen(event, duration, **unused):
    if event.endswith("backend_compile_duration"):
      compiled.append(event)

  def temporaries(lowered, **settings):
    needed = real(lowered, **settings)
    assert len(compiled) >= 1
    compiled.clear()
    return needed

  settings = {"mesh": learner.mesh, "steps_per_call": steps_per_call}
  ticks = fit.fit(stage, train, arrays, stream, **settings)
  monkeypatch.setattr(memory, "temporaries", temporaries)
  monitoring.register_event_duration_secs_listener(listen)
  try:
    assert len(list(ticks)) >= 4
  finally:
    monitoring.unregister_event_duration_listener(listen)
  # Neither by the first call nor by a later one.
  assert compiled == []


def test_what_fits_runs():
  call = make()
  np.testing.assert_array_equal(call(*arguments()), layers(*arguments()))


def test_what_does_not_fit_is_refused_before_it_runs(monkeypatch):
  monkeypatch.setattr(memory, "in_use", lambda device: 0)  # of other tests
  ran = []

  class Call:
    lower = staticmethod(layers.lower)

    def __call__(self, *args):
      ran.append(args)

  estimate, _ = make(size=400)._estimate(arguments(400), {})
  assert estimate.data == 500 * WIDTH * 4 + 400 * 4
  assert estimate.state == WIDTH**2 * 4
  limit = (estimate.peak - estimate.temporaries // 2) / memory.GIB
  with pytest.raises(memory_check.OutOfMemoryError) as caught:
    make(Call(), 400, limit_gib=limit)(*arguments(400))
  assert not ran
  text = str(caught.value)
  assert "Stage toy does not fit" in text and " fits (it is 400 now)" in text
  size = int(text.split("--config.toy.batch_size=")[1].split()[0])
  assert 100 <= size < 250
  # And with what it advises it does run.
  call = make(Call(), size=size, limit_gib=limit)
  call(*arguments(size))
  assert len(ran) == 1


def test_rows_of_the_host_shrink_with_the_batch():
  learner = toys.learner()
  images = host_images.ArrayImages(np.zeros((9, 4, 4, 1), np.uint8))
  index = np.arange(8, dtype=np.int32)
  (rows,) = prefetch.ahead({"images": images}, [index], learner.mesh)
  args = (jnp.zeros(3), jnp.asarray(index), rows)
  _, smaller, less = make()._at(4, args)
  assert smaller.shape == (4,)
  assert less["images"].shape == (9, 4, 4, 1)
  assert jax.tree.leaves(less)[0].shape == (4, 4, 4, 1)
  many = (args[0], jnp.zeros((5, 8), jnp.int32), {"images": jnp.zeros((9, 2))})
  _, smaller, same = make()._at(4, many)
  assert smaller.shape == (5, 4) and same["images"].shape == (9, 2)


def raising(text):
  class Call:
    lower = staticmethod(layers.lower)

    def __call__(self, *args):
      raise jax.errors.JaxRuntimeError(text)

  return Call()


def test_what_runs_out_all_the_same_is_told_in_the_same_words():
  text = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes."
  with pytest.raises(memory_check.OutOfMemoryError) as caught:
    make(raising(text))(*arguments())
  assert "which the device did not have" in str(caught.value)
  assert "--config.toy.batch_size=32 should fit" in str(caught.value)
  assert text in str(caught.value.__cause__)


def test_other_errors_are_passed_on():
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL: other"):
    make(raising("INTERNAL: other"))(*arguments())


def test_a_stage_is_refused_by_its_block_and_what_is_saved_stays(tmp_path):
  learner = toys.learner()
  stages = toys.stages("decoupling", learner, epochs=1)
  estimate = {}
  real = memory_check.check

  def check(needed, batch, most):
    estimate[batch.what] = needed
    real(needed, batch, most)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(memory_check, "check", check)
    toys.execute(tmp_path / "whole", learner, stages)
  peaks = {k: e.peak for k, e in estimate.items() if k.startswith("Stage")}
  assert len(peaks) == 2
  # A device that has enough for the first stage, not for the second.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      memory_check,
      "check",
      lambda needed, batch, most: real(
        needed, batch, 0 if "classifier" in batch.what else most
      ),
    )
    with pytest.raises(memory_check.OutOfMemoryError) as caught:
      toys.execute(tmp_path / "run", learner, stages)
  assert "Stage classifier does not fit" in str(caught.value)
  assert "--config.classifier.batch_size" in str(caught.value)
  # The same command goes on where there is more.
  state, rows = toys.execute(tmp_path / "run", learner, stages)
  expected, whole = toys.execute(tmp_path / "whole", learner, stages)
  toys.assert_same(state, expected)
  assert rows == whole


def test_a_pass_over_images_is_refused_by_its_own_batch():
  learner = toys.learner()
  limited = dataclasses.replace(learner)
  limited.predictor._memory_limit_gib = 1e-6
  with pytest.raises(memory_check.OutOfMemoryError) as caught:
    limited.predictor.features(learner.init(), learner.task.test_images)
  text = str(caught.value)
  assert text.startswith("A pass over 20 images does not fit on the device")
  assert "--config.eval.batch_size" in text


def test_a_semi_supervised_step_counts_in_labeled_images(monkeypatch):
  """Its batch has unlabeled images beside, and is of one size."""
  learner = toys.learner()
  (stage,) = toys.stages("pi_model", learner)
  assert (stage.batch.field, stage.batch.size) == ("semi.batch_size", 8)
  assert stage.batch_size == 16
  state = learner.init()
  monkeypatch.setattr(memory, "limit", lambda device, gib: 3 * memory.GIB)
  monkeypatch.setattr(memory, "in_use", lambda device: 0)
  monkeypatch.setattr(
    memory, "temporaries", lambda lowered, **unused: 4 * memory.GIB
  )
  with pytest.raises(memory_check.OutOfMemoryError) as caught:
    next(
      fit.fit(
        stage, stage.init(state), *stage.prepare(state), mesh=learner.mesh
      )
    )
  # Not compiled at 5: its temporaries are taken to grow with the batch.
  assert "--config.semi.batch_size=5 should fit (it is 8 now)" in str(
    caught.value
  )


def test_the_block_of_a_stage_is_where_its_batch_size_is():
  learner = toys.learner()
  names = {}
  for method in ("pseudo_label", "sslt", "mean_teacher"):
    for stage in toys.stages(method, learner, loops=1):
      if stage.steps:
        names[stage.name] = stage.batch.field
  assert names == {
    "embedding": "embedding.batch_size",
    "pseudo/embedding": "pseudo.batch_size",
    "classifier": "classifier.batch_size",
    "loop1/consistency": "consistency.batch_size",
    "loop1/refit": "refit.batch_size",
    "semi": "semi.batch_size",
  }
