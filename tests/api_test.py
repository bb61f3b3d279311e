"""The Python API, on the toys: one shared run, looked at from all sides."""

import os
import pathlib
import subprocess
import sys
import tempfile

import finished
import jax
import numpy as np
import pytest
import runs
import toys

import ltjax
from ltjax import api, evaluate
from ltjax.data.sources import given
from ltjax.report import page as report

NAMES = np.array(["hen", "cat", "dog", "ant"])  # not in alphabetic order
Y, Y_MORE, Y_TEST = (
  toys.labels_of(n) for n in (toys.LABELED, toys.UNLABELED, (5, 5, 5, 5))
)
X, X_MORE, X_TEST = (
  toys.pictures(y, seed) for seed, y in ((0, Y), (2, Y_MORE), (1, Y_TEST))
)
# Few steps of the toys' network.
SHORT = {
  "embedding.epochs": 4,
  "embedding.batch_size": 8,
  "data.flip": "off",  # a class is bright on one side
}
TWO = SHORT | {
  "embedding.epochs": 10,
  "classifier.epochs": 2,
  "classifier.batch_size": 8,
  "classifier.views": 1,
}


@pytest.fixture(scope="module", autouse=True)
def toy_network():
  with pytest.MonkeyPatch.context() as patch:
    runs.patch_model(patch)
    finished.one_device(patch)
    yield


@pytest.fixture
def quick(monkeypatch):
  """Leaves out reports: plots take longer than a run."""
  monkeypatch.setattr(report, "write", lambda path: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Decoupling with names of classes; look, but do not touch."""
  return ltjax.fit(
    "decoupling",
    X,
    NAMES[Y],
    test=(X_TEST, NAMES[Y_TEST]),
    workdir=tmp_path_factory.mktemp("api") / "run",
    settings=TWO,
    echo=lambda text: None,
  )


def fit(method="ce", **changes):
  """Trains on the toys; returns the model and what was printed."""
  lines = []
  arguments = {"test": (X_TEST, Y_TEST), "settings": SHORT} | changes
  made = ltjax.fit(method, X, Y, echo=lines.append, **arguments)
  return made, "\n".join(lines)


class TestTrained:
  def test_predicts_names(self, trained):
    assert trained.classes == ("ant", "cat", "dog", "hen")
    found = trained.predict(X_TEST)
    assert found.shape == (20,) and set(found) <= set(NAMES)
    last = trained.summary["result"]["last"]
    assert np.mean(found == NAMES[Y_TEST]) == last["accuracy"] > 0.5

  def test_evaluates_as_the_run_did(self, trained):
    last = trained.summary["result"]["last"]
    found = trained.evaluate(X_TEST, NAMES[Y_TEST])
    assert found["confusion"] == last["confusion"]
    assert found.items() <= last.items()  # to the last bit
    number = {name: c for c, name in enumerate(trained.classes)}
    numbers = [number[name] for name in NAMES[Y_TEST]]
    assert trained.evaluate(X_TEST, numbers) == found

  def test_groups_are_those_of_the_labeled_images(self, trained):
    assert trained.groups["many"] == (3, 1)  # hen 20, cat 10
    assert trained.groups["few"] == (0,)
    found = trained.evaluate(X_TEST, NAMES[Y_TEST])
    assert found["accuracy/few"] == found["per_class"][0]

  def test_batches_do_not_show(self, trained, monkeypatch):
    whole = trained.probabilities(X_TEST)
    assert whole.dtype == np.float32 and whole.shape == (20, 4)
    np.testing.assert_allclose(whole.sum(1), np.ones(20), rtol=1e-5)
    monkeypatch.setattr(api, "_BATCH_SIZE", 8)  # the last one has 4
    np.testing.assert_allclose(
      trained.probabilities(X_TEST), whole, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
      trained.probabilities(X_TEST[7:8]), whole[7:8], rtol=1e-4, atol=1e-6
    )

  def test_features_are_what_the_head_sees(self, trained):
    features = trained.features(X_TEST)
    assert features.dtype == np.float32 and features.shape == (20, toys.D)
    for head in ("balanced", "random"):
      name = {"balanced": "balanced_head", "random": "head"}[head]
      weights = trained._model.variables[name]
      logits = features @ weights["kernel"] + np.asarray(weights["bias"])[None]
      np.testing.assert_allclose(
        trained.probabilities(X_TEST, head=head),
        jax.nn.softmax(logits),
        rtol=1e-4,
        atol=1e-6,
      )
    # Decoupling trains the second head anew.
    assert not np.array_equal(
      trained.probabilities(X_TEST),
      trained.probabilities(X_TEST, head="random"),
    )

  def test_greyscale_needs_no_channel(self, trained):
    np.testing.assert_array_equal(
      trained.predict(X_TEST[..., 0]), trained.predict(X_TEST)
    )

  def test_no_images_give_no_labels(self, trained):
    assert trained.predict(X_TEST[:0]).shape == (0,)
    assert trained.features(X_TEST[:0]).shape == (0, toys.D)

  @pytest.mark.parametrize(
    ("call", "message"),
    [
      (lambda t: t.predict(X_TEST / 255), "pixels are float64; they must be"),
      (
        lambda t: t.predict(np.zeros((2, 8, 8, 1), np.uint8)),
        r"images: they are \(8, 8, 1\), and the images that the network",
      ),
      (
        lambda t: t.features(X_TEST[0]),
        r"images: they are .*alone is image\[None\]",
      ),
      (lambda t: t.predict(X_TEST, head="g"), "head is 'g'; choose one of"),
      (lambda t: t.evaluate(X_TEST, Y_TEST[:3]), r"shape \(3,\), but there"),
      (lambda t: t.evaluate(X_TEST, Y_TEST + 1), "label 4 of image 15 is out"),
      (
        lambda t: t.evaluate(X_TEST, ["cow"] * 20),
        "'cow' of image 0 is none of the 4 classes 'ant', 'cat'",
      ),
    ],
  )
  def test_what_does_not_fit(self, trained, call, message):
    with pytest.raises(ValueError, match=message):
      call(trained)

  def test_report_is_markdown(self, trained):
    assert trained.report().startswith("# decoupling, seed 0\n")
    assert (trained.workdir / "plots" / "confusion_matrix.png").exists()

  def test_says_what_it_is(self, trained):
    assert repr(trained).startswith(
      "<ltjax.Trained: Decoupling, 4 classes, test accuracy "
    )


class TestFolder:
  def test_saved_and_loaded_it_is_the_same(self, trained, tmp_path):
    folder = trained.save(tmp_path / "saved")
    again = ltjax.load(folder)
    assert again.classes == trained.classes
    assert again.summary == trained.summary
    np.testing.assert_array_equal(
      again.predict(X_TEST), trained.predict(X_TEST)
    )
    assert again.report() == trained.report()

  def test_nothing_is_overwritten(self, trained, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="is not empty; choose another folder"):
      trained.save(tmp_path)

  def test_an_untouched_folder_goes_with_its_model(self, quick):
    made, _ = fit()
    folder = made.workdir
    assert folder.is_dir()
    del made
    assert not folder.exists()

  def test_nothing_is_left_of_a_run_that_fails(self, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="only 40 samples"):
      fit(settings={"embedding.batch_size": 64})
    assert not any(tmp_path.iterdir())

  def test_a_finished_run_is_opened_and_of_other_images_refused(
    self, quick, tmp_path
  ):
    first, _ = fit(workdir=tmp_path)
    metrics = (tmp_path / "metrics.jsonl").read_bytes()
    second, text = fit(workdir=tmp_path)
    assert "is finished" in text
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    with pytest.raises(
      ValueError, match="holds a run with another config:\n  d"
    ):
      fit(workdir=tmp_path, test=(X_TEST[1:], Y_TEST[1:]))

  def test_command_line_runs_load(self, quick, tmp_path, monkeypatch):
    runs.place(tmp_path, monkeypatch)
    runs.run("run", method="supervised")
    made = ltjax.load("run")
    found = made.predict(X_TEST)
    assert found.dtype == np.int32  # of classes without names
    last = made.summary["result"]["last"]
    assert np.mean(found == Y_TEST) == last["accuracy"]

  def test_command_that_needs_the_images_says_so(self, trained):
    with pytest.raises(ValueError, match="were handed to ltjax.fit as arrays"):
      evaluate.evaluate(trained.workdir)

  def test_no_run(self, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
      ltjax.load(tmp_path)


class TestFit:
  def test_without_test_images_some_are_held_out_and_that_is_told(self, quick):
    made, text = fit(test=0.5)
    assert "50 % of each class are held out" in text
    assert made.summary["test_counts"] == [10, 5, 3, 2]
    assert made.summary["labeled_counts"] == [10, 5, 3, 2]
    found = made.predict(X_TEST)
    assert found.dtype == np.int32 and set(found) <= set(range(toys.C))

  def test_all_images_are_learned_from(self, quick):
    made, text = fit()
    assert made.summary["labeled_counts"] == list(toys.LABELED)
    assert made.summary["unlabeled_counts"] == [0] * toys.C
    assert "held out" not in text and "total" in text  # the table of classes

  def test_unlabeled_images_are_learned_from(self, quick):
    settings = TWO | {"loops": 1}
    settings |= {
      f"{block}.{name}": value
      for block in ("consistency", "refit")
      for name, value in {"epochs": 2, "batch_size": 8}.items()
    }
    settings["refit.views"] = 1
    made, _ = fit("sslt", unlabeled=(X_MORE, Y_MORE), settings=settings)
    assert made.summary["result"]["last"]["model"] == "SSLT loop 1"
    assert made.summary["unlabeled_counts"] == list(toys.UNLABELED)
    assert made.summary["pseudo_labels"][-1]["pseudo/accuracy"] > 0.5

  def test_a_method_that_has_no_use_for_them_says_so(self, quick):
    made, text = fit(unlabeled=X_MORE)
    assert "learns from no unlabeled images: they are left out" in text
    assert made.summary["unlabeled_counts"] == [0] * toys.C

  def test_validation_images_are_held_out(self, quick):
    made, _ = fit(validation=2, seed=3)
    config = made.summary["config"]
    assert config["seed"] == config["data"]["seed"] == 3
    assert made.summary["labeled_counts"] == [n - 2 for n in toys.LABELED]
    assert "validation_selected" in made.summary["result"]

  def test_whole_groups_are_held_out(self, quick):
    groups = np.arange(len(Y)) // 2  # Pairs of neighbors, of one class or two.
    made, text = fit(test=0.3, validation=2, groups=groups)
    counts = made.summary["labeled_counts"], made.summary["test_counts"]
    assert np.min(counts) > 0
    assert "20 in training, by the argument groups" in text
    assert "test part    " in text and "validation   " in text

  def test_a_config_is_taken_at_its_word(self, quick):
    config = toys.config(method="supervised", epochs=2)
    config.data.labeled.max_count = 3
    config.data.labeled.rho = 3.0
    config.data.unlabeled.factor = 0.0
    config.data.test_fraction = 0.4
    config.data.validation.per_class = 1
    config.data.seed = 5
    before = config.to_dict()
    settings = {"embedding.epochs": 3, "embedding.batch_size": 4}
    made, text = fit(config, test=None, settings=settings)
    assert "40 % of each class are held out" in text
    assert made.summary["test_counts"] == [8, 4, 2, 2]
    assert "validation_selected" in made.summary["result"]
    assert made.summary["config"]["data"]["seed"] == 5
    assert made.summary["labeled_counts"] == [3, 2, 1, 1]
    assert made.summary["config"]["embedding"]["epochs"] == 3
    assert config.to_dict() == before

  def test_schedules_follow_from_the_epochs_that_are_given(self, quick):
    changes = {"embedding.epochs": 80, "embedding.milestones": (0.5,)}
    config = fit_config("ldam_drw", changes)
    assert config.embedding.warmup_epochs == 2  # 5 of 200
    assert config.embedding.milestones == (0.5,)

  @pytest.mark.parametrize(
    ("changes", "message"),
    [
      ({"method": "lda"}, "row is 'lda'; choose one of .* 'ldam'"),
      ({"method": "sslt"}, "sslt learns from unlabeled images, too: give some"),
      ({"method": {"a": 1}}, "Unknown config field a"),
      ({"test": 0}, r"test is 0; it must be a pair .* share of the images in"),
      ({"test": X_TEST}, r"test is an array of shape \(20, 4, 4, 1\); it must"),
      ({"test": "some"}, "test is 'some'; it must be a pair"),
      ({"validation": 4}, "class 3 .* data.validation.per_class"),
      ({"seed": -1}, "seed is -1; it must be 0 or more"),
      ({"settings": {"embedding.epoch": 1}}, "has 'embedding.epoch', which is"),
      ({"settings": {"seed.epochs": 1}}, "has 'seed.epochs', which is no"),
      ({"settings": {"embedding.epochs": "many"}}, "cannot be casted to type"),
      ({"settings": {"embedding.epochs": 0}}, "embedding"),
      ({"settings": SHORT | {"embedding.batch_size": 50}}, "only 40 samples"),
      ({"unlabeled": X_MORE[:, :3]}, r"unlabeled images: they are \(3, 4, 1\)"),
    ],
  )
  def test_what_does_not_fit(self, quick, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
      fit(**{"workdir": tmp_path / "run"} | changes)
    assert not (tmp_path / "run" / "config.json").exists()


def fit_config(method, settings):
  """Returns the config that a method trains with."""
  arrays = given.make(X, Y, test=(X_TEST, Y_TEST))
  return api.configure(method, arrays, settings)


@pytest.mark.parametrize(
  ("size", "count", "name", "batch_size", "epochs"),
  [
    (8, 95, "resnet8", 32, 40),
    (8, 40, "resnet8", 16, 40),
    (32, 600, "resnet32", 64, 40),
    (32, 5001, "resnet32", 128, 200),
    (64, 5000, "resnet18", 128, 40),
  ],
)
def test_network_and_lengths_follow_from_the_set(
  monkeypatch, size, count, name, batch_size, epochs
):
  monkeypatch.setattr(jax, "device_count", lambda: 1)
  labels = np.arange(count) % 2
  images = np.zeros((count, size, size), np.uint8)
  arrays = given.make(images, labels, unlabeled=images[:1])
  config = api.configure("sslt", arrays, {})
  assert config.model.name == name
  assert config.embedding.batch_size == config.refit.batch_size == batch_size
  assert config.embedding.epochs == epochs
  assert config.data.pad == size // 8


@pytest.mark.parametrize("devices", [3, 4])
def test_batches_are_shared_by_all_devices(monkeypatch, devices):
  monkeypatch.setattr(jax, "device_count", lambda: devices)
  config = fit_config("ce", {})
  assert config.embedding.batch_size == {3: 15, 4: 16}[devices]


def test_import_is_light_and_finds_the_api():
  program = (
    "import sys, ltjax; light = 'jax' not in sys.modules and"
    " 'numpy' not in sys.modules; from ltjax import fit, load, Trained;"
    " print(light, fit.__module__, set(ltjax.__all__) <= set(dir(ltjax)))"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    env=os.environ | {"PYTHONPATH": str(pathlib.Path(api.__file__).parents[1])},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.stdout.split() == ["True", "ltjax.api", "True"], done.stderr
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    ltjax.nothing  # noqa: B018
