import dataclasses
import json

import finished
import jax
import numpy as np
import pytest

from ltjax.data.files import decoding as decodings
from ltjax.methods import build
from ltjax.runs import finished as reopened


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  finished.one_device(monkeypatch)


def test_model_and_data_of_the_run():
  before = finished.contents(finished.run())
  run = reopened.reopen(finished.run())
  assert finished.contents(finished.run()) == before
  assert run.config.data.source == "digits"
  assert run.trained.classes == run.task.class_names
  split = json.loads((finished.run() / "split.json").read_text())
  assert run.task.split.hash == split["hash"] == run.summary["split_hash"]


def test_state_holds_the_saved_variables():
  run = reopened.reopen(finished.run())
  state = run.state()
  for name in ("backbone", "batch_stats", "head", "balanced_head"):
    pairs = zip(
      jax.tree.leaves(getattr(state, name)),
      jax.tree.leaves(run.trained.variables[name]),
      strict=True,
    )
    for ours, saved in pairs:
      np.testing.assert_array_equal(ours, saved)
  assert state.pseudo_labels.shape == (0,) and state.memory.shape == (0, 10)


def test_no_run(tmp_path):
  with pytest.raises(FileNotFoundError, match="does not exist"):
    reopened.reopen(tmp_path / "gone")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("summary.json", "is not finished"),
    ("model.json", "model.json is missing"),
    ("split.json", "there is no split file"),
  ],
)
def test_a_file_that_is_gone(tmp_path, name, message):
  run = finished.copy(tmp_path)
  (run / name).unlink()
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    reopened.reopen(run)


def test_pixels_of_another_range_than_the_model_saw(monkeypatch):
  real = reopened.build.build_task

  def build_task(*args):
    decoding = decodings.Decoding(3, 4012)
    return dataclasses.replace(real(*args), decoding=decoding)

  monkeypatch.setattr(reopened.build, "build_task", build_task)
  with pytest.raises(ValueError, match="None ... None, .* gives 3 ... 4012"):
    reopened.reopen(finished.run())


def test_a_run_of_an_earlier_version(tmp_path):
  """Which lacks the settings that came later."""
  folder = finished.copy(tmp_path)
  config = json.loads((folder / "config.json").read_text())
  del config["posthoc"], config["classifier"]["batch_norm"]
  (folder / "config.json").write_text(json.dumps(config))
  run = reopened.reopen(folder)
  assert run.config.posthoc.name == "none"
  assert run.config.classifier.batch_norm == "frozen"


def test_a_config_that_is_none(tmp_path):
  folder = finished.copy(tmp_path)
  (folder / "config.json").write_text("[]")
  with pytest.raises(ValueError, match="config.json holds no config"):
    reopened.reopen(folder)


def test_probabilities_are_by_the_views_that_predict_averages():
  run = reopened.reopen(finished.run())
  plain, labels = run.probabilities("test")
  np.testing.assert_array_equal(labels, run.task.test_labels)
  run.config.eval.views = "crops"
  found, _ = run.probabilities("test")
  assert np.abs(found - plain).max() > 1e-3
  learner = build.build_learner(run.config, run.task, run.mesh)
  views = learner.predictor.views
  trained = dataclasses.replace(run.trained, views=views)
  by_predict = trained.predictor("balanced")(np.asarray(run.task.test_images))
  np.testing.assert_allclose(found, by_predict, atol=1e-5)
