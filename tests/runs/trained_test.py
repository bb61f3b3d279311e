import json
import shutil

import finished
import jax
import numpy as np
import pytest
import runs
import toys

from ltjax import evaluate, models, train
from ltjax.checkpoints import integrity
from ltjax.checkpoints import manager as checkpoints
from ltjax.devices import sharding
from ltjax.methods import build
from ltjax.report import page
from ltjax.runs import trained


def change(run, **fields):
  path = run / "model.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def drop_description(run):
  """Makes the variables forget what they belong to, as an old run's do."""
  path = run / "model" / "0" / "_CHECKPOINT_METADATA"
  meta = json.loads(path.read_text())
  del meta["custom_metadata"]["description"]
  path.write_text(json.dumps(meta))
  (path.parent / integrity.NAME).unlink()


@pytest.fixture
def run(tmp_path):
  return finished.copy(tmp_path)


def test_description_says_what_the_config_and_the_data_said():
  text = (finished.run() / "model.json").read_text()
  description = json.loads(text)
  assert description["model"] == finished.config().model.to_dict()
  assert description["classes"] == list("0123456789")
  assert description["image_shape"] == [8, 8, 1]
  # Digits are normalised by their own moments.
  assert 0.25 < description["mean"][0] < 0.35
  assert 0.3 < description["std"][0] < 0.4
  assert sorted(description) == [
    "classes",
    "decoding",
    "image_shape",
    "mean",
    "model",
    "std",
  ]


def test_loaded_variables_are_those_of_the_last_checkpoint():
  loaded = trained.load(finished.run())

  def target(record):
    del record
    task = build.build_task(finished.config(), mesh, None)
    learner = build.build_learner(finished.config(), task, mesh)
    return {"model": jax.eval_shape(learner.init), "train": None}

  mesh = sharding.make_mesh(1)
  tree, _ = checkpoints.read(finished.run() / "checkpoints", target)
  state = tree["model"]
  for name, value in loaded.variables.items():
    wanted = jax.tree.leaves(getattr(state, name))
    got = jax.tree.leaves(value)
    assert len(got) == len(wanted) > 0
    for a, b in zip(got, wanted, strict=True):
      np.testing.assert_array_equal(a, b)
  assert sorted(loaded.variables) == [
    "backbone",
    "balanced_head",
    "batch_stats",
    "head",
  ]


def test_transform_normalises_bytes():
  loaded = trained.load(finished.run())
  mean, std = loaded.description["mean"][0], loaded.description["std"][0]
  images = np.array([[[[0], [255]]]], np.uint8)
  np.testing.assert_allclose(
    np.asarray(loaded.transform(images)).ravel(),
    [-mean / std, (1 - mean) / std],
    rtol=1e-6,
  )


def test_predictor_is_the_network_in_evaluation_mode():
  loaded = trained.load(finished.run())
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
  for head, name in (("balanced", "balanced_head"), ("random", "head")):
    probabilities = loaded.predictor(head)(images)
    assert probabilities.shape == (3, 10)
    np.testing.assert_allclose(probabilities.sum(1), np.ones(3), rtol=1e-5)
    # By hand: features, then the linear head, then a softmax.
    weights = {k: np.asarray(v) for k, v in loaded.variables[name].items()}
    logits = features_of(loaded, images) @ weights["kernel"] + weights["bias"]
    odds = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(
      probabilities, odds / odds.sum(1, keepdims=True), rtol=1e-4, atol=1e-6
    )
  assert not np.allclose(
    loaded.predictor("balanced")(images), loaded.predictor("random")(images)
  )


def features_of(loaded, images):
  params = {
    "backbone": loaded.variables["backbone"],
    "head": loaded.variables["head"],
  }
  features, _, _ = loaded.model.apply(
    params, loaded.variables["batch_stats"], loaded.transform(images), False
  )
  return np.asarray(features)


def test_loading_changes_no_file(run):
  before = finished.contents(run)
  trained.load(run)
  assert finished.contents(run) == before


def test_no_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
    trained.load(tmp_path / "nowhere")


def test_folder_without_a_run(tmp_path):
  with pytest.raises(FileNotFoundError, match="holds no run: it has no config"):
    trained.load(tmp_path)


def test_unfinished_run(run):
  (run / "summary.json").unlink()
  with pytest.raises(ValueError, match="not finished. Run the same training"):
    trained.load(run)


def test_missing_description_and_the_advice_to_write_it_again(run, monkeypatch):
  before = finished.contents(run)
  (run / "model.json").unlink()
  with pytest.raises(ValueError, match="model.json is missing; delete summary"):
    trained.load(run)
  # The advice: delete summary.json, run the same training command again.
  (run / "summary.json").unlink()
  monkeypatch.setattr(page, "write", lambda path: None)
  finished.one_device(monkeypatch)
  train.train(finished.config(), str(run), echo=lambda text: None)
  after = finished.contents(run)
  for name in ("model.json", "summary.json", "metrics.jsonl"):
    assert after[name] == before[name]
  whole, again = trained.load(finished.run()), trained.load(run)
  assert integrity.fingerprint(whole.variables) == integrity.fingerprint(
    again.variables
  )


@pytest.mark.parametrize(
  "text, reason",
  [
    ("{", "cannot be read"),
    ("[]", "does not describe a model"),
    ("{}", "no 'model'"),
    ("\ufeff{}", "cannot be read"),
  ],
)
def test_description_that_is_none(run, text, reason):
  (run / "model.json").write_text(text)
  with pytest.raises(ValueError, match=reason):
    trained.load(run)


@pytest.mark.parametrize(
  "fields, reason",
  [
    ({"classes": [1, 2]}, "are not all names"),
    ({"classes": ["a"]}, "2 classes or more"),
    ({"image_shape": [8, 8, 1.0]}, "not of whole numbers"),
    ({"image_shape": [8, 8, 3]}, "must have 3 channels"),
    ({"image_shape": [8, 8]}, "does not describe a model"),
    ({"mean": [float("nan")]}, "must be finite"),
    ({"std": [0.0]}, "std above 0"),
    ({"std": []}, "does not describe a model"),
    ({"mean": ["x"]}, "does not describe a model"),
    ({"model": {"name": "resnet9"}}, "model.name is 'resnet9'"),
    ({"model": {"nome": "resnet8"}}, "nome"),
  ],
)
def test_description_of_no_model(run, fields, reason):
  change(run, **fields)
  with pytest.raises(ValueError, match=reason) as caught:
    trained.load(run)
  assert "delete summary.json and run the same" in str(caught.value)


@pytest.mark.parametrize(
  "fields",
  [
    {"classes": list("1023456789")},  # Plausible, and wrong.
    {"mean": [0.4]},
    {"image_shape": [16, 16, 1]},
    {"classes": list("0123456789x")},
  ],
)
def test_description_that_was_edited(run, fields):
  change(run, **fields)
  before = finished.contents(run)
  with pytest.raises(ValueError, match="does not belong to the variables"):
    trained.load(run)
  assert finished.contents(run) == before


def test_variables_of_another_model(run):
  drop_description(run)
  assert trained.load(run).classes == tuple("0123456789")
  change(run, classes=list("0123456789x"))
  with pytest.raises(ValueError, match="is of another model or data set"):
    trained.load(run)


def test_missing_variables(run):
  shutil.rmtree(run / "model")
  with pytest.raises(ValueError, match="There is no checkpoint in .*model"):
    trained.load(run)
  assert not (run / "model").exists()


def test_damaged_variables_are_named_and_kept(run):
  # The largest file holds the parameters: change one byte in its middle.
  path = max(
    (p for p in (run / "model").rglob("*") if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0xFF
  path.write_bytes(data)
  before = finished.contents(run)
  with pytest.raises(ValueError, match="is damaged .*To make it whole, delete"):
    trained.load(run)
  assert finished.contents(run) == before


def test_damaged_record(run):
  (run / "model" / "0" / "_CHECKPOINT_METADATA").write_text("{")
  with pytest.raises(ValueError, match="is damaged"):
    trained.load(run)


def test_head_names_are_fields_of_the_variables():
  loaded = trained.load(finished.run())
  assert set(trained.HEADS.values()) < set(loaded.variables)
  assert isinstance(loaded.model, models.Model)


@pytest.fixture(scope="module")
def ncm_run(tmp_path_factory):
  """A run of the toys whose head g is of another structure than g'."""
  folder = tmp_path_factory.mktemp("ncm")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(page, "write", lambda path: None)
    finished.one_device(patch)
    runs.patch_model(patch)
    source = runs.write_set(folder / runs.SET)
    summary, _ = runs.run(
      folder / "run",
      source=f"npz:{source}",
      method="decoupling",
      classifier__kind="ncm",
    )
  return folder / "run", summary


@pytest.fixture
def toy_model(monkeypatch):
  runs.patch_model(monkeypatch)
  finished.one_device(monkeypatch)


def test_a_head_of_another_structure_is_described(ncm_run, toy_model):
  folder, summary = ncm_run
  description = json.loads((folder / "model.json").read_text())
  shapes = {"centroids": [toys.C, toys.D], "mean": [toys.D]}
  assert description["balanced_head"] == shapes
  loaded = trained.load(folder)
  found = loaded.variables["balanced_head"]
  assert {name: list(value.shape) for name, value in found.items()} == shapes
  row, recorded, _ = evaluate.evaluate(
    folder, split="test", head="balanced", data_dir=None
  )
  assert recorded is not None and row["model"] == "NCM"
  assert row == summary["result"]["last"] | row
  assert evaluate.differences(row, recorded) == []
  images = toys.pictures(toys.labels_of((5, 5, 5, 5)), 1)
  accuracy = np.mean(
    loaded.predictor("balanced")(images).argmax(1)
    == toys.labels_of((5, 5, 5, 5))
  )
  assert accuracy == row["accuracy"]


@pytest.mark.parametrize(
  "head, reason",
  [
    (5, "does not describe a model"),
    ("linear", "does not describe a model"),
    ({"mean": 6}, "does not describe a model"),
    ({"mean": [0]}, r"balanced_head has 'mean' of shape \[0\]"),
    ({"mean": ["6"]}, "balanced_head has 'mean' of shape"),
    ({"mean": [6]}, "does not belong to the variables"),
  ],
)
def test_a_head_described_wrongly(run, head, reason):
  change(run, balanced_head=head)
  with pytest.raises(ValueError, match=reason):
    trained.load(run)
