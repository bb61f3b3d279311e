"""What a stage needs: compiled once, refused in time, told in plain words."""

from jax import monitoring
import numpy as np
import programs
import pytest
import toys

from ltjax.data.host import host_images
from ltjax.devices import memory, sharding
from ltjax.training import fit


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


def test_a_stage_is_refused_by_its_block_and_what_is_saved_stays(tmp_path):
  learner = toys.learner()
  stages = toys.stages("decoupling", learner, epochs=1)
  checked, real = [], memory.check

  def check(needs, batch, most):
    checked.append(batch.what)
    # A device that has enough for the first stage, not for the second.
    real(needs, batch, 0 if "classifier" in batch.what else most)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(memory, "check", check)
    with pytest.raises(memory.OutOfMemoryError) as caught:
      toys.execute(tmp_path / "run", learner, stages)
  assert checked == ["Stage embedding", "Stage classifier"]
  assert "Stage classifier does not fit" in str(caught.value)
  assert "--config.classifier.batch_size" in str(caught.value)
  # The same command goes on where there is more.
  state, rows = toys.execute(tmp_path / "run", learner, stages)
  expected, whole = toys.execute(tmp_path / "whole", learner, stages)
  toys.assert_same(state, expected)
  assert rows == whole


def test_a_pass_that_runs_out_names_its_own_batch(monkeypatch):
  learner = toys.learner()

  def features(*unused, augment):
    raise programs.exhausted()

  monkeypatch.setattr(learner.predictor, "_features", features)
  with pytest.raises(memory.OutOfMemoryError) as caught:
    learner.predictor.features(learner.init(), learner.task.test_images)
  text = str(caught.value)
  assert text.startswith("A pass over 20 images does not fit on the device")
  assert "--config.eval.batch_size" in text


def test_steps_that_run_out_all_the_same_are_told_in_the_same_words(
  monkeypatch,
):
  learner = toys.learner()
  (stage,) = toys.stages("supervised", learner)
  real = fit.program

  def program(*args, **settings):
    call, shapes = real(*args, **settings)

    def fails(*unused):
      raise programs.exhausted()

    fails.lower = call.lower
    return fails, shapes

  monkeypatch.setattr(fit, "program", program)
  state = learner.init()
  arguments = stage.init(state), *stage.prepare(state)
  with pytest.raises(memory.OutOfMemoryError) as caught:
    next(fit.fit(stage, *arguments, mesh=learner.mesh))
  assert "Stage embedding does not fit on the device (RESOURCE" in str(
    caught.value
  )
  assert "--config.embedding.batch_size (it is 8 now)" in str(caught.value)


def test_a_semi_supervised_step_counts_in_labeled_images():
  """Its batch has unlabeled images beside."""
  learner = toys.learner()
  (stage,) = toys.stages("pi_model", learner)
  assert (stage.batch.field, stage.batch.size) == ("semi.batch_size", 8)
  assert stage.batch_size == 16


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
