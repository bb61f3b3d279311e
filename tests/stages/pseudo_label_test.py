"""Pseudo labels: the argmax of `f, g` in evaluation mode, for all of U."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.devices import sharding
from ltjax.stages import pseudo_label


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True, batch_size=12)  # 40 = 3 * 12 + 4


@pytest.fixture(scope="module")
def state(learner):
  """Two heads that disagree, and statistics that are not those of a batch."""
  state = learner.init()
  rng = np.random.default_rng(1)
  return state.replace(
    batch_stats={
      "mean": jnp.array(rng.normal(size=toys.D).astype(np.float32)),
      "var": jnp.full(toys.D, 0.5),
    },
    head=jax.tree.map(lambda x: -x, state.balanced_head),
  )


def direct(learner, state, images):
  """The argmax of one evaluation-mode call with the balanced head."""
  _, logits, _ = learner.model.apply(
    {"backbone": state.backbone, "head": state.balanced_head},
    state.batch_stats,
    images,
    False,
  )
  return np.argmax(logits, -1)


@pytest.mark.parametrize("batch_size", [1, 7, 12, 40, 500])
def test_they_are_the_argmax_of_a_direct_call(learner, state, batch_size):
  """Also where the last batch is partial."""
  other = toys.learner(batch_size=batch_size)
  _, test = learner.task.transforms()
  images = learner.task.unlabeled_images
  found = pseudo_label.assign(other.predictor, state, images)
  assert found.shape == (toys.M,) and found.dtype == jnp.int32
  np.testing.assert_array_equal(found, direct(learner, state, test(images)))
  assert len(np.unique(found)) > 1


def test_the_train_transform_is_an_option(learner, state):
  """The authors' code labels augmented images."""
  images, key = learner.task.unlabeled_images, jax.random.key(9)
  found = pseudo_label.assign(learner.predictor, state, images, key=key)
  for batch, first in enumerate(range(0, toys.M, 12)):
    index = np.arange(first, first + 12)
    index[index >= toys.M] = 0
    augmented = learner.transform(jax.random.fold_in(key, batch), images[index])
    expected = direct(learner, state, augmented)[: toys.M - first]
    np.testing.assert_array_equal(found[first : first + 12], expected)


@pytest.mark.parametrize("transform", pseudo_label.TRANSFORMS)
def test_the_stage_changes_the_pseudo_labels_only(learner, state, transform):
  stage = toys.pseudo_label_stage(learner, transform=transform)
  assert stage.steps == 0
  after = stage.finish(state, None)
  key = learner.key("pseudo_label") if transform == "train" else None
  np.testing.assert_array_equal(
    after.pseudo_labels,
    pseudo_label.assign(
      learner.predictor, state, learner.task.unlabeled_images, key=key
    ),
  )
  toys.assert_same(after.replace(pseudo_labels=state.pseudo_labels), state)


def test_the_transforms_differ(learner, state):
  test, train = (
    toys.pseudo_label_stage(learner, transform=name).finish(state, None)
    for name in pseudo_label.TRANSFORMS
  )
  assert toys.differ(test.pseudo_labels, train.pseudo_labels)


def test_devices_share_the_images(learner, state):
  mesh = sharding.make_mesh(4)
  other = toys.learner(mesh=mesh, batch_size=7)
  images = learner.task.unlabeled_images
  np.testing.assert_array_equal(
    pseudo_label.assign(
      other.predictor,
      sharding.replicate(state, mesh),
      sharding.replicate(images, mesh),
    ),
    pseudo_label.assign(learner.predictor, state, images),
  )


def test_no_unlabeled_images_are_refused():
  with pytest.raises(ValueError, match="no unlabeled images") as caught:
    toys.pseudo_label_stage(toys.learner(unlabeled=(0, 0, 0, 0)))
  for way_out in (
    "data.unlabeled.factor",
    "data.unlabeled.source",
    "--config.method=decoupling",
  ):
    assert way_out in str(caught.value)
