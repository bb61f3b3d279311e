"""Self-supervised pre-training as a beginning of any method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax import methods
from ltjax.methods import pretraining


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


def config(name, **changes):
  if name == "moco":
    changes = {"pretrain__queue": 40, "pretrain__dim": 3} | changes
  return toys.config(pretrain__name=name, **changes)


def test_none_is_no_stage(learner):
  assert list(pretraining.stages(learner, config("none"))) == []
  names = [
    s.name for s in methods.stages(learner, toys.config(method="decoupling"))
  ]
  assert names == ["embedding", "classifier"]


@pytest.mark.parametrize("name", ["rotation", "moco"])
@pytest.mark.parametrize("data, images", [("labeled", 40), ("all", 80)])
def test_stage_of_the_config(learner, name, data, images):
  (stage,) = pretraining.stages(
    learner, config(name, pretrain__data=data, pretrain__batch_size=10)
  )
  assert (stage.name, stage.epochs, stage.batch_size) == ("pretrain", 2, 10)
  assert stage.steps_per_epoch == images // 10
  state = learner.init()
  arrays, stream = stage.prepare(state)
  np.testing.assert_array_equal(arrays["images"], learner.task.images[:images])
  # Each image once an epoch.
  np.testing.assert_array_equal(np.sort(stream(0).ravel()), np.arange(images))
  assert stage.report(state) == []


def test_decoupling_starts_from_the_embedding(learner, tmp_path):
  """The next stage sees the new embedding and the fresh heads."""
  made = methods.stages(learner, config("rotation", method="decoupling"))
  assert [stage.name for stage in made] == [
    "pretrain",
    "embedding",
    "classifier",
  ]
  seen, starts = [], []
  state, rows = toys.execute(tmp_path, learner, toys.watched(made, seen))
  fresh = toys.host(learner.init())
  starts = made[1].init(jax.tree.map(jnp.asarray, seen[0]))
  toys.assert_same(starts.params["backbone"], seen[0].backbone)
  toys.assert_same(starts.batch_stats, seen[0].batch_stats)
  assert toys.differ(starts.params["backbone"], fresh.backbone)
  toys.assert_same(starts.params["head"], fresh.head)
  kinds = [(row["kind"], row.get("stage")) for row in rows]
  assert kinds[:2] == [("train", "pretrain")] * 2
  assert {"loss", "accuracy"} <= rows[0].keys()
  assert state.balanced_head["bias"].shape == (toys.C,)


@pytest.mark.parametrize(
  "name, changes, message",
  [
    (
      "rotatoin",
      {},
      "choose one of none, rotation, moco, .*fassl. Did you mean 'rot",
    ),
    ("rotation", {"pretrain__data": "unlabeled"}, "choose one of labeled, all"),
    ("rotation", {"pretrain__rotations": "two"}, "choose one of one, four"),
    ("rotation", {"pretrain__epochs": 0}, "pretrain.epochs is 0"),
    ("moco", {"pretrain__queue": 48}, "queue is 48, .* only 40 .* negatives"),
    ("moco", {"pretrain__queue": 36}, "such as 32 or 40"),
    ("moco", {"pretrain__batch_size": 1}, "needs 2 or more"),
    ("moco", {"pretrain__schedule": "steps"}, "pretrain.schedule is"),
  ],
)
def test_bad_settings(learner, name, changes, message):
  with pytest.raises(ValueError, match=message):
    methods.stages(learner, config(name, method="supervised", **changes))


def test_all_images_are_more_than_the_labeled_ones():
  learner = toys.learner(unlabeled=(0,) * toys.C)
  block = config("rotation", pretrain__data="all", method="supervised")
  with pytest.raises(ValueError, match="pretrain.data is 'all', but there are"):
    methods.stages(learner, block)
