"""Decoupling: two stages, no unlabeled images."""

import numpy as np
import pytest
import toys

from ltjax import methods


def test_its_stages():
  learner = toys.learner()
  stages = methods.stages(
    "decoupling",
    learner,
    toys.config(embedding__epochs=7, classifier__epochs=3),
  )
  assert [(s.name, s.epochs, s.steps_per_epoch) for s in stages] == [
    ("embedding", 7, 5),
    ("classifier", 3, 5),
  ]


def test_it_reports_both_heads(tmp_path):
  learner = toys.learner()
  stages = toys.stages("decoupling", learner, epochs=6)
  state, rows = toys.execute(tmp_path, learner, stages)
  evaluations = [row for row in rows if row["kind"] == "eval"]
  assert [(row["stage"], row["model"], row["head"]) for row in evaluations] == [
    ("embedding", "CE (g')", "random"),
    ("classifier", "Decoupling", "balanced"),
  ]
  (last,) = learner.evaluate(state, model="Decoupling", head="balanced")
  assert evaluations[-1]["accuracy"] == last["accuracy"]


def test_the_second_stage_moves_the_balanced_head_only(tmp_path):
  learner, seen = toys.learner(), []
  stages = toys.watched(toys.stages("decoupling", learner), seen)
  toys.execute(tmp_path, learner, stages)
  embedding, classifier = seen
  toys.assert_same(
    embedding.replace(balanced_head=None),
    classifier.replace(balanced_head=None),
  )
  assert toys.differ(embedding.balanced_head, classifier.balanced_head)


def test_it_needs_no_unlabeled_images(tmp_path):
  """And their number has no influence on it."""
  learner = toys.learner(unlabeled=(0, 0, 0, 0))
  stages = toys.stages("decoupling", learner)
  state, rows = toys.execute(tmp_path / "none", learner, stages)
  assert state.pseudo_labels.shape == (0,)
  accuracy = [row["accuracy"] for row in rows if row["kind"] == "eval"]
  assert len(accuracy) == 2 and np.all(np.isfinite(accuracy))


def test_an_unknown_method_is_refused():
  with pytest.raises(ValueError) as caught:
    methods.stages("decopling", toys.learner(), toys.config())
  assert "method is 'decopling'; choose one of decoupling, " in str(
    caught.value
  )
  assert "Did you mean 'decoupling'?" in str(caught.value)
