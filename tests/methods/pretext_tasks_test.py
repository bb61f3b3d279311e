"""Every pretext task is built from its block of the config."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.methods import pretext_tasks
from ltjax.self_supervised import teacher


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def given(name, **changes):
  if name == "moco":
    changes = {"pretrain__queue": 40} | changes
  return toys.config(pretrain__name=name, **changes)


@pytest.mark.parametrize("name", pretext_tasks.NAMES)
def test_a_stage_of_the_block(learner, name):
  config = given(name, pretrain__epochs=3, pretrain__batch_size=10)
  stage = pretext_tasks.make(learner, config)
  assert (stage.name, stage.epochs, stage.batch_size) == ("pretrain", 3, 10)
  assert stage.steps_per_epoch == 4
  arrays, stream = stage.prepare(learner.init())
  np.testing.assert_array_equal(np.sort(stream(0).ravel()), np.arange(40))
  assert len(arrays["images"]) in (40, 80)
  assert stage.report(learner.init()) == []


# For each stage the settings that reach it, but for its name in the config.
_FIELDS = {
  "moco": {
    **{"dim": 5, "queue": 16, "ema": 0.5, "temperature": 0.7},
    "key_batch_norm": "ema",
  },
  "rotation": {"rotations": "four"},
  "contrastive": {
    **{"dim": 5, "hidden": 7, "temperature": 0.7, "focal_gamma": 1.5},
    **{"temperature_schedule": "cosine", "temperature_low": 0.3},
    **{"temperature_high": 0.9, "temperature_period": 9.0},
  },
  "swav": {
    **{"dim": 5, "hidden": 7, "prototypes": 9, "temperature": 0.3},
    **{"epsilon": 0.2, "marginal": "power", "marginal_exponent": 0.5},
    **{"freeze": 0.2, "code_queue": 16, "queue_start": 0.5},
  },
}


@pytest.mark.parametrize("module", _FIELDS)
def test_settings_reach_the_stage(learner, module, monkeypatch):
  made, fields = {}, _FIELDS[module]
  monkeypatch.setattr(
    getattr(pretext_tasks, module),
    "make",
    lambda name, model, setup, **x: made.update(x, setup=setup),
  )
  name = {"contrastive": "simclr"}.get(module, module)
  changes = {f"pretrain__{field}": value for field, value in fields.items()}
  pretext_tasks.make(
    learner, given(name, pretrain__learning_rate=0.2, **changes)
  )
  chosen = dataclasses.asdict(made["settings"])
  assert {field: chosen[field] for field in fields} == fields
  setup = made["setup"]
  assert setup.recipe.learning_rate == 0.2 and setup.seed == learner.seed


@pytest.mark.parametrize("name", ["simclr", "supcon", "sdclr"])
def test_contrastive_tasks_differ(learner, name, monkeypatch):
  made = {}
  monkeypatch.setattr(
    pretext_tasks.contrastive, "make", lambda *_, **x: made.update(x)
  )
  pretext_tasks.make(learner, given(name, pretrain__prune=0.5))
  expected = pretext_tasks.contrastive.Settings(kind=name, prune=0.5)
  assert made["settings"] == expected


def test_byol_is_a_student_of_equal_weights(learner, monkeypatch):
  made = {}
  monkeypatch.setattr(
    pretext_tasks.student_teacher, "make", lambda *_, **x: made.update(x)
  )
  settings = {
    **{"ema": 0.5, "ema_schedule": "cosine", "hidden": 9},
    "teacher_batch_norm": "ema",
  }
  changes = {f"student__{field}": value for field, value in settings.items()}
  pretext_tasks.make(learner, given("byol", **changes))
  assert made["inherit"] is False
  chosen = made["settings"]
  assert chosen == teacher.Settings(score="uniform", **settings)


def test_labels_of_unlabeled_images_are_not_given(learner):
  config = given("simclr", pretrain__data="all")
  found = pretext_tasks.setup_of(learner, config, name="pretrain")
  labels = np.asarray(found.labels)
  np.testing.assert_array_equal(labels[:40], learner.task.labels)
  np.testing.assert_array_equal(labels[40:], -1)
  assert len(found.images) == 80
  np.testing.assert_array_equal(found.counts, toys.LABELED)
  assert found.counts.dtype == jnp.float32


@pytest.mark.parametrize(
  "name, changes, message",
  [
    ("supervised", {"pretrain__data": "all"}, "'supervised' needs labels"),
    ("simclr", {"pretrain__batch_size": 1}, "batch_size is 1; .* 2 or more"),
    ("moco", {"pretrain__queue": 48}, "queue is 48, .* only 40 .* negatives"),
  ],
)
def test_bad_settings(learner, name, changes, message):
  with pytest.raises(ValueError, match=message):
    pretext_tasks.make(learner, given(name, **changes))
