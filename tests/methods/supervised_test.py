"""Supervised training: any loss, any sampler, one stage."""

import pytest
import toys

from ltjax import methods


def run(folder, learner=None, **changes):
  learner = learner or toys.learner()
  config = toys.config(method="supervised", **changes)
  stages = methods.stages(learner, config)
  return toys.execute(folder, learner, stages)


def test_its_one_stage():
  stages = methods.stages(
    toys.learner(), toys.config(method="supervised", embedding__epochs=7)
  )
  assert [(s.name, s.epochs, s.steps_per_epoch) for s in stages] == [
    ("embedding", 7, 5)
  ]


def test_its_head_is_the_one_to_test(tmp_path):
  state, rows = run(tmp_path)
  toys.assert_same(state.head, state.balanced_head)
  (row,) = [row for row in rows if row["kind"] == "eval"]
  assert (row["model"], row["head"]) == ("CE", "balanced")


def test_with_the_defaults_it_is_the_first_stage_of_decoupling(tmp_path):
  """Cross-entropy, random sampling: bit for bit the same network."""
  state, _ = run(tmp_path / "a")
  learner = toys.learner()
  stages = methods.stages(learner, toys.config(method="decoupling"))
  other, _ = toys.execute(tmp_path / "b", learner, stages[:1])
  toys.assert_same(
    state.replace(balanced_head=None), other.replace(balanced_head=None)
  )


# Each differs from plain cross-entropy in the network it ends with.
CHOICES = {
  "focal": {"loss__name": "focal"},
  "class weights": {"loss__weights": "inverse"},
  "deferred weights": {"loss__weights": "inverse", "loss__defer": 0.5},
  "logit adjustment": {"loss__name": "logit_adjustment"},
  "VS": {"loss__name": "vs"},
  "sigmoid": {"loss__name": "sigmoid"},
  "class-balanced": {"sampler__name": "class_balanced"},
  "deferred sampling": {
    "sampler__name": "class_balanced",
    "sampler__defer": 0.5,
  },
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_has_an_effect(name, tmp_path):
  plain, _ = run(tmp_path / "plain")
  state, rows = run(tmp_path / "chosen", **CHOICES[name])
  assert toys.differ(plain.backbone, state.backbone)
  assert [row["model"] for row in rows if row["kind"] == "eval"] != ["CE"]


def test_deferred_weights_begin_late(tmp_path):
  """Until then the run is plain cross-entropy, bit for bit."""
  changes = {"loss__weights": "inverse", "loss__defer": 0.5, "epochs": 4}
  _, plain = run(tmp_path / "plain", epochs=4)
  _, rows = run(tmp_path / "deferred", **changes)
  losses, deferred = (
    [row["loss"] for row in found if row["kind"] == "train"]
    for found in (plain, rows)
  )
  assert losses[:2] == pytest.approx(deferred[:2], rel=1e-6)
  assert losses[2] != pytest.approx(deferred[2], rel=1e-3)


def test_ldam_needs_a_cosine_head():
  with pytest.raises(ValueError, match="model.head=cosine"):
    methods.stages(
      toys.learner(), toys.config(method="supervised", loss__name="ldam")
    )


def test_weights_that_do_not_match_the_classes_are_refused():
  config = toys.config(
    method="supervised",
    loss__weights="explicit",
    loss__class_weights=(1.0, 2.0, 1.0),
  )
  with pytest.raises(ValueError, match="class_weights.*3.*4"):
    methods.stages(toys.learner(), config)


def test_an_unknown_sampler_is_refused_before_training():
  config = toys.config(method="supervised", sampler__name="class_balancd")
  with pytest.raises(ValueError, match="class_balancd"):
    methods.stages(toys.learner(), config)
