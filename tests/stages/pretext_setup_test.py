"""What all stages of pre-training are given reaches their steps."""

import jax
import toys

from ltjax.stages import pretext_setup


def test_a_step_reads_the_images_as_they_were_given():
  learner = toys.learner()
  made = toys.pretrain(lambda name, model, setup: setup, learner, "pretrain")
  assert isinstance(made, pretext_setup.Setup)
  arrays = made.arrays({"head": 1})
  assert arrays["images"] is made.images and len(made.images) == toys.N
  assert arrays["labels"] is learner.task.labels
  assert arrays["counts"].tolist() == list(toys.LABELED)
  assert arrays["head"] == {"head": 1} and len(arrays) == 4


def test_stages_begin_without_an_online_probe():
  learner = toys.learner()
  stage = toys.moco_stage(learner)
  assert (
    "online_accuracy" not in jax.eval_shape(stage.init, learner.init()).totals
  )
