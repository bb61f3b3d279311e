"""The method `probe`: its protocols on one embedding, and what they write."""

import dataclasses

import numpy as np
import pytest
import toys

from ltjax import methods
from ltjax.evaluation import knn


def stages(learner, **changes):
  settings = toys.config(method="probe", **changes)
  return methods.stages(learner, settings)


def evaluations(rows):
  return [row for row in rows if row["kind"] == "eval"]


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory):
  """All protocols after a little pre-training, the short ones whole."""
  learner = toys.learner(validation=3, probe=True)
  state, rows = toys.execute(
    tmp_path_factory.mktemp("probe"),
    learner,
    stages(
      learner,
      pretrain__name="rotation",
      pretrain__epochs=20,
      probe__protocols="knn_pool,knn,sdclr_full,custom,sdclr_fewshot",
      probe__neighbors=5,
    ),
    steps_per_call=100,
  )
  return learner, state, rows


def test_each_protocol_has_its_rows_by_its_name(all_of_them):
  _, _, rows = all_of_them
  found = [(row["model"], row["split"]) for row in evaluations(rows)]
  names = ("knn_pool@5", "knn@5", "sdclr_full", "custom", "sdclr_fewshot")
  assert found == [
    (f"SSP, {name}", split)
    for name in names
    for split in ("test", "validation")
  ]
  for row in evaluations(rows):
    assert row["model"].startswith(f"SSP, {row['protocol']}")
    assert row["head"] == "balanced"
    assert 0 <= row["group_mean"] <= 1 and row["group_std"] >= 0
  told = {r["protocol"]: r for r in rows if r["kind"] == "probe"}
  assert {name: row["images"] for name, row in told.items()} == {
    "sdclr_full": toys.N + toys.M,
    "custom": toys.N,
    "sdclr_fewshot": min(toys.LABELED) * toys.C,
  }
  assert told["sdclr_full"]["selection"] == "validation"
  assert told["custom"]["selection"] == "last"
  assert told["sdclr_fewshot"]["batch_size"] == 16  # of 128
  assert told["sdclr_fewshot"]["epoch"] % 5 == 0
  for row in evaluations(rows):
    if row["protocol"] in told:
      assert row["selection"] == told[row["protocol"]]["selection"]
    else:
      assert row["neighbors"] == 5


def test_the_embedding_is_good_under_each(all_of_them):
  _, _, rows = all_of_them
  for row in evaluations(rows):
    if row["protocol"] in ("knn_pool", "sdclr_full", "sdclr_fewshot"):
      assert row["accuracy"] >= 0.7, row["model"]


def test_the_last_classifier_stays(all_of_them):
  learner, state, rows = all_of_them
  again = learner.evaluate(state, model="x", head="balanced")
  last = [r for r in evaluations(rows) if r["protocol"] == "sdclr_fewshot"]
  for row, expected in zip(again, last, strict=True):
    assert row["confusion"] == expected["confusion"]


def test_test_images_pass_the_embedding_once_for_all_protocols(tmp_path):
  learner, passes = toys.learner(), []
  features = learner.predictor.features

  def counted(state, images, **settings):
    passes.append(images)
    return features(state, images, **settings)

  learner.predictor.features = counted
  toys.execute(tmp_path, learner, stages(learner))
  assert sum(x is learner.task.test_images for x in passes) == 1


def test_neighbors_are_those_of_the_plain_images(all_of_them):
  learner, state, rows = all_of_them
  task = learner.task
  features = [
    learner.predictor.features(state, images)
    for images in (task.test_images, task.images[: toys.N])
  ]
  classes = knn.classify(
    *features, task.labels, neighbors=5, num_classes=toys.C
  )
  (row,) = [
    r
    for r in evaluations(rows)
    if r["protocol"] == "knn" and r["split"] == "test"
  ]
  confusion = np.zeros((toys.C, toys.C), int)
  np.add.at(confusion, (task.test_labels, classes), 1)
  assert row["confusion"] == confusion.tolist()


def test_the_embedding_stays_as_it_is(tmp_path):
  learner = toys.learner()
  before = toys.host(learner.init())
  after, rows = toys.execute(tmp_path, learner, stages(learner))
  toys.assert_same(after.backbone, before.backbone)
  toys.assert_same(after.batch_stats, before.batch_stats)
  toys.assert_same(after.head, before.head)
  assert toys.differ(after.balanced_head, before.balanced_head)
  titles = [row["model"] for row in evaluations(rows)]
  assert titles == ["Untrained, knn@10", "Untrained, sdclr_fewshot"]


def test_another_rate_than_the_papers_is_in_the_title():
  learner = toys.learner()
  (stage,) = stages(
    learner, probe__protocols="sdclr_fewshot", probe__sdclr_learning_rate=0.5
  )
  told, row = stage.report(learner.init())
  assert told["learning_rate"] == 0.5
  assert row["model"] == "Untrained, sdclr_fewshot (learning rate 0.5)"
  assert row["protocol"] == "sdclr_fewshot"


@pytest.mark.parametrize("name", ["cached_adam", "simclr", "byol"])
def test_the_long_protocols_fit_the_toy_without_waste(name):
  """Not run: what they would do."""
  learner = toys.learner(probe=True)
  (stage,) = stages(learner, probe__protocols=name)
  assert stage.name == f"{name}/probe" and stage.steps_per_epoch == 1
  assert stage.batch_size == toys.N + toys.M
  arrays, stream = stage.prepare(learner.init())
  assert len(arrays["features"]) == stage.batch_size * (
    1 if name == "cached_adam" else 10
  )
  assert stream(0).shape == (1, stage.batch_size)


def test_few_shot_images_are_of_the_split_not_of_the_run():
  def labels_and_features(learner, **changes):
    (stage,) = stages(learner, probe__protocols="sdclr_fewshot", **changes)
    # Of one network, so that features tell images apart.
    arrays, _ = stage.prepare(toys.learner().init())
    return np.asarray(arrays["features"])

  one = labels_and_features(toys.learner())
  another_run = labels_and_features(toys.learner(seed=1))
  another_split = labels_and_features(toys.learner(), data__seed=1)
  np.testing.assert_array_equal(one, another_run)
  assert not np.array_equal(one, another_split)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"protocols": "knn,simcl"}, "'simcl'.* Did you mean 'simclr'"),
    ({"protocols": "knn"}, "ends with 'knn'"),
    ({"protocols": "sdclr_full"}, "sdclr_full .*data.probe.images=train"),
    ({"neighbors": 0}, "probe.neighbors is 0; it must be 1 or more"),
    ({"neighbors": 41}, "neighbors is 41, but .* only 40 images"),
    ({"shots": 5}, "shots is 5, but d has only 4 labeled images"),
    ({"protocols": "custom", "shots": 2}, "shots is 2, but nothing reads it"),
    (
      {"protocols": "sdclr_fewshot", "neighbors": 5},
      "neighbors is 5, but nothing .* protocol knn",
    ),
    (
      {"protocols": "custom", "sdclr_learning_rate": 1.0},
      "sdclr_learning_rate is 1.0, but nothing",
    ),
    ({"images": "pool"}, "images is 'pool', but nothing .* protocol custom"),
    ({"views": 3}, "views is 3, but nothing reads"),
    ({"select": "validation"}, "select is 'validation', but nothing reads"),
    (
      {"protocols": "custom", "select": "validation"},
      "no validation images: set --config.data.validation.per_class",
    ),
    (
      {"protocols": "custom", "batch_size": 64},
      "probe.batch_size is 64, but .* 40 samples",
    ),
  ],
)
def test_settings_that_do_not_fit(changes, message):
  named = {f"probe__{name}": value for name, value in changes.items()}
  with pytest.raises(ValueError, match=message):
    stages(toys.learner(), **named)


def test_a_class_without_labels_is_named():
  learner = toys.learner()
  labels = np.asarray(learner.task.labels).copy()
  labels[labels == 3] = 0
  task = dataclasses.replace(learner.task, labels=labels)
  learner = dataclasses.replace(learner, task=task)
  with pytest.raises(ValueError, match="knn needs .* class; d has none"):
    stages(learner)


def test_custom_reads_few_shots_and_the_pool(tmp_path):
  learner = toys.learner(probe=True)
  for images, size in (("few_shot", 12), ("pool", toys.N + toys.M)):
    (stage,) = stages(
      learner,
      probe__protocols="custom",
      probe__images=images,
      probe__shots=3 if images == "few_shot" else 0,
      probe__views=0,
    )
    arrays, _ = stage.prepare(learner.init())
    assert len(arrays["features"]) == size
