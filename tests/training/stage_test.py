"""A stage: what it counts, how its batch is called, what it leaves behind."""

import jax
import numpy as np
import pytest

from ltjax.devices import memory
from ltjax.training.stage import Stage, shapes_after


def stage(name="loop1/consistency", **changes):
  return Stage(name=name, finish=lambda state, trained: state, **changes)


def test_counts_its_steps_and_images():
  found = stage(epochs=3, steps_per_epoch=5, batch_size=2)
  assert (found.steps, found.images) == (15, 30)
  empty = stage("pseudo")
  assert (empty.steps, empty.images) == (0, 0)
  assert empty.report(None) == []


@pytest.mark.parametrize(
  ("name", "block", "field"),
  [
    ("loop1/consistency", "", "consistency.batch_size"),
    ("embedding", "", "embedding.batch_size"),
    ("sdclr", "pretrain", "pretrain.batch_size"),
  ],
)
def test_its_batch_size_is_called_as_in_the_config(name, block, field):
  found = stage(name, block=block, batch_size=96)
  assert found.batch == memory.Batch(f"Stage {name}", field, 96)


def test_its_batch_size_counts_samples_not_images():
  found = stage("moco", batch_size=96, images_per_sample=3)
  assert found.batch.size == 32


def test_shapes_after_stages_that_change_none_are_the_same():
  shapes = {"head": jax.ShapeDtypeStruct((4, 2), np.float32)}
  assert shapes_after([], shapes) is shapes
  assert shapes_after([stage(), stage("other")], shapes) is shapes


def test_shapes_after_stages_are_changed_in_their_order():
  stages = [
    stage(str(number), shapes=lambda before, n=number: (*before, n))
    for number in range(3)
  ]
  assert shapes_after(stages, ()) == (0, 1, 2)
  assert shapes_after(stages[:2], ("first",)) == ("first", 0, 1)
