"""Decoupling: two stages, no unlabeled images."""

import numpy as np
import pytest
import toys

from ltjax import methods


def test_its_stages():
  learner = toys.learner()
  stages = methods.stages(
    learner,
    toys.config(method="decoupling", embedding__epochs=7, classifier__epochs=3),
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
    methods.stages(toys.learner(), toys.config(method="decopling"))
  assert "method is 'decopling'; choose one of supervised, decoupling, " in str(
    caught.value
  )
  assert "Did you mean 'decoupling'?" in str(caught.value)


# -- Kinds of classifiers.

KINDS = {
  "crt": "Decoupling",
  "ncm": "NCM",
  "knn": "kNN",
  "tau_norm": "Tau-normalization",
  "lws": "LWS",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_the_toy_and_labels_the_pool(kind, tmp_path):
  """From the same embedding; what follows uses the head as any other."""
  learner, seen = toys.learner(), []
  settings = {"embedding__epochs": 12, "classifier__kind": kind}
  stages = toys.stages("decoupling", learner, epochs=6, **settings)
  stages = toys.watched([*stages, toys.pseudo_label_stage(learner)], seen)
  state, rows = toys.execute(tmp_path, learner, stages)
  last = [row for row in rows if row["kind"] == "eval"][-1]
  assert (last["stage"], last["model"]) == ("classifier", KINDS[kind])
  assert last["accuracy"] >= 0.85
  embedding, classifier, _ = seen
  toys.assert_same(
    embedding.replace(balanced_head=None),
    classifier.replace(balanced_head=None),
  )
  (row,) = learner.evaluate_pseudo_labels(state, loop=1)
  assert row["pseudo/accuracy"] >= 0.8


def test_kinds_differ_in_the_second_stage_only():
  stages = {
    kind: toys.stages("decoupling", toys.learner(), classifier__kind=kind)
    for kind in KINDS
  }
  for kind, (first, second) in stages.items():
    assert (first.name, first.steps) == ("embedding", 10)
    assert second.name == "classifier"
    assert second.steps == (10 if kind in ("crt", "lws") else 0)


def test_a_selected_tau_is_reported(tmp_path):
  learner = toys.learner(validation=3)
  changes = {"classifier__kind": "tau_norm", "classifier__select_tau": True}
  stages = toys.stages("decoupling", learner, **changes)
  _, rows = toys.execute(tmp_path, learner, stages)
  (choice,) = [row for row in rows if row["kind"] == "tau"]
  validation = rows[-1]
  assert validation["split"] == "validation"
  best = max(choice["balanced_accuracy"])
  assert best == pytest.approx(validation["balanced_accuracy"])


@pytest.mark.parametrize("kind", ["crt", "lws"])
def test_updated_statistics_are_an_option(kind, tmp_path):
  learner, seen = toys.learner(), []
  changes = {"classifier__kind": kind, "classifier__batch_norm": "update"}
  changes["classifier__views"] = 1
  stages = toys.watched(toys.stages("decoupling", learner, **changes), seen)
  toys.execute(tmp_path, learner, stages)
  embedding, classifier = seen
  toys.assert_same(embedding.backbone, classifier.backbone)
  toys.assert_same(embedding.head, classifier.head)
  assert toys.differ(embedding.batch_stats, classifier.batch_stats)


def test_the_classifiers_sampler_is_an_option():
  stages = toys.stages(
    "decoupling", toys.learner(), classifier__sampler="random"
  )
  learner = toys.learner()
  _, stream = stages[1].prepare(learner.init())
  np.testing.assert_array_equal(
    np.sort(stream(0).ravel() % toys.N), np.arange(toys.N)
  )


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"kind": "svm"},
      "kind is 'svm'; choose one of crt, ncm, knn, tau_norm, lws",
    ),
    ({"batch_norm": "off"}, "batch_norm is 'off'; choose one of frozen"),
    (
      {"kind": "ncm", "batch_norm": "update"},
      "batch_norm is 'update', but classifier.kind=ncm takes no step",
    ),
    ({"kind": "knn", "neighbors": 0}, "neighbors is 0"),
    (
      {"kind": "knn", "neighbors": 41},
      "neighbors is 41, but there are only 40 images",
    ),
    ({"kind": "ncm", "ncm_features": "l3"}, "ncm_features is 'l3'; choose"),
    ({"kind": "tau_norm", "tau": 2.5}, "tau is 2.5; it must be in .0, 2."),
    (
      {"kind": "tau_norm", "select_tau": True},
      "select_tau chooses tau on validation images",
    ),
    ({"sampler": "power"}, "sampler is 'power'; choose one of"),
  ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
  changes = {f"classifier__{name}": value for name, value in changes.items()}
  with pytest.raises(ValueError, match=f"^classifier.{message}"):
    toys.stages("decoupling", toys.learner(), **changes)
