"""A frozen backbone: any method on features that are computed once."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import tiny_backbone
import toys

from ltjax import evaluate, train
from ltjax.augment import ensemble
from ltjax.data.files import tensors
from ltjax.evaluation import metrics
from ltjax.methods import frozen
from ltjax.models import pretrained
from ltjax.runs import trained as trained_lib
from ltjax.training import inference


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  runs.write_set(runs.SET)
  tiny_backbone.register(monkeypatch)
  return tmp_path


def config(folder, **changes):
  settings = {
    "model__name": tiny_backbone.NAME,
    "model__weights": tiny_backbone.save(folder),
    "model__tune": "head",
    "features__cache": str(folder / "features"),
  }
  return runs.config(**(settings | changes))


def run(folder, name="run", **changes):
  train.train(config(folder, **changes), name, echo=lambda text: None)
  return folder / name


@pytest.mark.parametrize(
  "changes",
  [
    {"method": "sslt", "model__tune": "feature_adapter", "features__views": 2},
    {"method": "linear", "loss__name": "logit_adjustment"},
    {"method": "linear_pool", "loss__name": "logit_adjustment"},
    {"method": "label_propagation", "propagation__neighbors": 5},
  ],
)
def test_a_run_leaves_a_network_that_takes_images(place, changes):
  folder = run(place, **changes)
  computed, recorded, _ = evaluate.evaluate(folder)
  assert evaluate.differences(computed, recorded) == []
  trained = trained_lib.load(folder)
  with np.load(runs.SET) as data:
    images, labels = data["x_test"], data["y_test"]
  found = trained.predictor()(images).argmax(1)
  assert np.mean(found == labels) == pytest.approx(recorded["accuracy"])
  assert changes["method"] == "sslt" or recorded["accuracy"] > 0.4


def test_weights_are_read_once(place, monkeypatch):
  read, real = [], tensors.read
  monkeypatch.setattr(
    tensors, "read", lambda path: read.append(path) or real(path)
  )
  pretrained._read.cache_clear()
  run(place, method="linear", linear__l2=0.1)
  assert len(read) == 1
  file = pathlib.Path(tiny_backbone.save(place, seed=1))
  file = file.replace(place / "tiny-0.npz")
  kept = pretrained.read(file)
  assert pretrained.read(file) is kept and len(read) == 2
  for name, tensor in tiny_backbone.tensors(1).items():
    np.testing.assert_array_equal(kept[name], tensor)


def test_the_pool_is_learned_from_in_the_same_way_again(place):
  made = [run(place, name, method="linear_pool") for name in ("one", "two")]
  assert runs.outcome(made[0]) == runs.outcome(made[1])


def test_features_are_computed_once_and_shared(place, monkeypatch):
  run(place, "first", method="linear", linear__l2=0.1)
  passes = []
  real = inference.Predictor.features

  def features(self, state, images, *, key=None, view=None):
    if self.model.image_shape == (toys.SIZE, toys.SIZE, 1):
      passes.append(len(images))
    return real(self, state, images, key=key, view=view)

  monkeypatch.setattr(inference.Predictor, "features", features)
  run(place, "second", method="decoupling")
  assert passes == []
  run(place, "third", method="decoupling", features__views=1)
  assert passes == [sum(toys.LABELED) + sum(toys.UNLABELED) // 2]
  other = {"model__weights": tiny_backbone.save(place, seed=1)}
  run(place, "fourth", method="decoupling", **other)
  assert len(passes) > 1


@pytest.mark.parametrize("method", ["sslt", "mean_teacher"])
def test_a_part_of_a_backbone_is_trained_on_images(place, method):
  folder = run(place, method=method, model__tune="last_block")
  computed, recorded, _ = evaluate.evaluate(folder)
  assert evaluate.differences(computed, recorded) == []
  variables = trained_lib.load(folder).variables
  published = tiny_backbone.tensors()
  kernel = variables["batch_stats"]["frozen"]["stem_conv"]["kernel"]
  np.testing.assert_array_equal(kernel, published["params.stem_conv.kernel"])
  mean = variables["batch_stats"]["stats"]["stem_bn"]["mean"]
  known = published["batch_stats.stem_bn.mean"]
  np.testing.assert_allclose(mean, known, rtol=1e-5)
  kernel = variables["backbone"]["block_conv"]["kernel"]
  assert np.max(np.abs(kernel - published["params.block_conv.kernel"])) > 1e-3


@pytest.mark.parametrize("views", ["flip", "crops"])
@pytest.mark.parametrize("tune", ["head", "last_block"])
def test_views_for_testing_are_averaged(place, views, tune, monkeypatch):
  """The same by kept features, by the predictor and by the trained model."""
  monkeypatch.setattr(ensemble, "_SHARE", 0.6)
  changes = {"eval__views": views, "data__flip": "on", "loops": 1}
  changes |= (
    {"method": "linear", "linear__l2": 0.1}
    if tune == "head"
    else {"method": "supervised", "embedding__epochs": 1}
  )
  folder = run(place, model__tune=tune, **changes)
  computed, recorded, task = evaluate.evaluate(folder)
  assert evaluate.differences(computed, recorded) == []
  trained = trained_lib.load(folder)
  assert trained.views.name == views
  images = np.asarray(task.test_images)
  found = trained.predictor()(images)
  right = found.argmax(1) == task.test_labels
  assert np.mean(right) == pytest.approx(recorded["accuracy"])
  variables, logits = trained.variables, []
  params = {
    "backbone": variables["backbone"],
    "head": variables["balanced_head"],
  }
  for seen in slow_views(images, views):
    x = jnp.float32(seen) / 255
    applied = trained.model.apply(params, variables["batch_stats"], x, False)
    logits.append(np.asarray(applied[1], np.float64))
  odds = np.exp(np.mean(logits, axis=0))
  expected = odds / odds.sum(1, keepdims=True)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
  again = metrics.classification(found, task.test_labels, groups=task.groups)
  assert recorded["ece"] == pytest.approx(again["ece"], rel=1e-3)


def slow_views(images, views):
  """The images of 4 x 4 pixels as they are seen, windows of 2."""
  if views == "flip":
    return [images, images[:, :, ::-1]]
  places = [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)]
  return [images[:, y : y + 2, x : x + 2] for y, x in places]


def test_views():
  features = jnp.arange(24, dtype=jnp.float32).reshape(3, 4, 1, 2)
  np.testing.assert_array_equal(frozen.plain(features), features[:, :1])
  seen = [set() for _ in range(3)]
  for seed in range(40):
    found = frozen.drawn(jax.random.key(seed), features)
    assert found.shape == (3, 1, 1, 2)
    for number, row in enumerate(np.asarray(found)[:, 0, 0]):
      seen[number].add(tuple(row.tolist()))
  for number in range(3):
    own = np.asarray(features)[number, 1:, 0]
    assert seen[number] == {tuple(row.tolist()) for row in own}
  alone = frozen.drawn(jax.random.key(0), features[:, :1])
  np.testing.assert_array_equal(alone, features[:, :1])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"method": "linear", "model__tune": "all"}, "model.tune is 'all'; choose"),
    ({"method": "linear", "linear__folds": 1}, "linear.folds is 1"),
    (
      {"method": "label_propagation", "loss__name": "logit_adjustment"},
      "loss.name is 'logit_adjustment'; choose",
    ),
    (
      {"method": "label_propagation", "propagation__neighbors": 60},
      "propagation.neighbors is 60, and there are 60 images",
    ),
    (
      {"method": "label_propagation", "propagation__alpha": 1.0},
      "propagation.alpha is 1",
    ),
    ({"method": "glmc"}, "method=glmc needs images, and model.tune=head"),
    ({"pretrain__name": "moco"}, "pretrain.name=moco needs images"),
    ({"method": "linear", "loss__name": "ldam"}, "cosine"),
    ({"method": "linear", "linear__l2": -1.0}, "linear.l2 is -1"),
    ({"eval__views": "flip", "data__flip": "off"}, "eval.views is 'flip'"),
    ({"eval__views": "ten"}, "eval.views is 'ten'"),
    ({"features__views": -1}, "features.views is -1; it must be 0 or more"),
  ],
)
def test_bad_settings(place, changes, message):
  with pytest.raises(ValueError, match=message):
    run(place, **changes)
