"""Post-hoc correction of a trained head, and how its kinds are equal."""

import dataclasses

import jax
import numpy as np
import pytest
import toys

from ltjax.devices import sharding
from ltjax.methods import posthoc
from ltjax.models import heads, rescaling

PI = np.array(toys.LABELED) / 40
COSTS = (
  *(0, 1, 2, 3),
  *(4, 0, 1, 1),
  *(5, 5, 0, 5),
  *(9, 1, 0, 0),
)


@pytest.fixture(scope="module")
def learner():
  return toys.learner(validation=4)


@pytest.fixture(scope="module")
def trained(learner, tmp_path_factory):
  """A head that is far from certain, with the class sizes in its bias."""
  state, _ = toys.execute(
    tmp_path_factory.mktemp("embedding"),
    learner,
    [toys.embedding_stage(learner, epochs=6)],
  )
  bias = 2 * np.log(PI).astype(np.float32)
  return state.replace(balanced_head=rescaling.shift(state.head, bias))


def probabilities(learner, state):
  return np.asarray(
    learner.predictor.probabilities(
      state, learner.task.test_images, head=state.balanced_head
    ),
    np.float64,
  )


def corrected(learner, state, **settings):
  stage = toys.posthoc_stage(learner, **settings)
  after = stage.finish(state, None)
  toys.assert_same(
    after.replace(balanced_head=None), state.replace(balanced_head=None)
  )
  return after


def normal(odds):
  return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logit_adjustment_divides_by_powers_of_the_prior(learner, trained, tau):
  found = corrected(learner, trained, tau=tau)
  np.testing.assert_allclose(
    probabilities(learner, found),
    normal(probabilities(learner, trained) / PI**tau),
    rtol=1e-4,
    atol=1e-6,
  )


def test_no_tau_changes_nothing(learner, trained):
  for name in ("logit_adjustment", "threshold_moving"):
    found = corrected(learner, trained, name=name, tau=0.0)
    toys.assert_same(found.balanced_head, trained.balanced_head)


def test_threshold_moving_multiplies_by_the_sums_of_the_rows(learner, trained):
  found = corrected(learner, trained, name="threshold_moving", costs=COSTS)
  np.testing.assert_allclose(
    probabilities(learner, found),
    normal(probabilities(learner, trained) * np.array([6, 6, 15, 10])),
    rtol=1e-4,
    atol=1e-6,
  )


def test_a_cost_a_class_is_the_sum_of_its_row(learner, trained):
  toys.assert_same(
    corrected(learner, trained, name="threshold_moving", costs=COSTS),
    corrected(learner, trained, name="threshold_moving", costs=(6, 6, 15, 10)),
  )


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_costs_of_inverse_shares_are_logit_adjustment(learner, trained, tau):
  expected = corrected(learner, trained, tau=tau)
  given = tuple(PI**-tau)
  for settings in ({"tau": tau}, {"costs": given}):
    found = corrected(learner, trained, name="threshold_moving", **settings)
    for x, y in zip(
      jax.tree.leaves(found.balanced_head),
      jax.tree.leaves(expected.balanced_head),
      strict=True,
    ):
      np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_equal_costs_move_no_prediction(learner, trained):
  found = corrected(
    learner, trained, name="threshold_moving", costs=(3, 3, 3, 3)
  )
  np.testing.assert_allclose(
    probabilities(learner, found),
    probabilities(learner, trained),
    rtol=1e-4,
    atol=1e-6,
  )


def test_tau_normalization_is_of_the_final_head(learner, trained):
  found = corrected(learner, trained, name="tau_norm", tau=0.5)
  toys.assert_same(
    found.balanced_head,
    rescaling.tau_normalize(trained.balanced_head, tau=0.5),
  )


@pytest.mark.parametrize("name", posthoc.TITLES)
def test_tau_is_selected_on_validation_images(learner, trained, name):
  stage = toys.posthoc_stage(learner, name=name, select=True)
  choice, test, validation = stage.report(stage.finish(trained, None))
  assert choice["kind"] == "tau" and choice["tau"] in choice["grid"]
  best = max(choice["balanced_accuracy"])
  assert validation["split"] == "validation"
  assert validation["balanced_accuracy"] == pytest.approx(best)
  assert test["split"] == "test" and test["head"] == "balanced"


@pytest.mark.parametrize(
  "name, title, model",
  [
    ("logit_adjustment", "CE", "CE + post-hoc logit adjustment"),
    ("threshold_moving", "", "Threshold moving"),
    ("tau_norm", "LDAM", "LDAM + tau-normalization"),
  ],
)
def test_its_rows_say_what_was_done(learner, trained, name, title, model):
  stage = toys.posthoc_stage(learner, name=name, title=title)
  rows = stage.report(stage.finish(trained, None))
  assert rows[0] == {"kind": "tau", "tau": 1.0}
  assert {row["model"] for row in rows[1:]} == {model}


def test_it_reaches_the_tail(learner, trained):
  """Recall moves to rare classes, if class sizes are in the head's bias."""
  (before, *_), (after, *_) = (
    learner.evaluate(state, model="M", head="balanced")
    for state in (trained, corrected(learner, trained, tau=2.0))
  )
  assert sum(after["per_class"][2:]) > sum(before["per_class"][2:])
  assert after["balanced_accuracy"] > before["balanced_accuracy"]


@pytest.mark.parametrize("kind", ["ncm", "cosine"])
def test_a_head_without_bias_gets_one(kind, tmp_path):
  """And a run that ends so goes on from its checkpoint."""
  network = toys.model()
  if kind == "cosine":
    head = heads.cosine(toys.D, toys.C)
    network = network._replace(head_init=head.init, head_apply=head.apply)
  learner = toys.learner(network=network)
  make = toys.ncm_stage if kind == "ncm" else toys.classifier_stage
  first = make(learner)
  stages = [first, toys.posthoc_stage(learner, after=[first])]
  state, rows = toys.execute(tmp_path, learner, stages)
  before, _ = toys.execute(tmp_path / "first", learner, stages[:1])
  np.testing.assert_allclose(
    probabilities(learner, state),
    normal(probabilities(learner, before) / PI),
    rtol=1e-4,
    atol=1e-6,
  )
  np.testing.assert_allclose(state.balanced_head["bias"], -np.log(PI), 1e-6)
  forbidden = [dataclasses.replace(s, finish=None) for s in stages]
  again, rows_again = toys.execute(tmp_path, learner, forbidden)
  toys.assert_same(again, state)
  assert rows_again == rows


def test_it_is_on_every_device(trained):
  mesh = sharding.make_mesh(4)
  learner = toys.learner(mesh=mesh)
  state = sharding.replicate(toys.host(trained), mesh)
  for name in posthoc.TITLES:
    after = toys.posthoc_stage(learner, name=name).finish(state, None)
    for leaf in jax.tree.leaves(after.balanced_head):
      assert len(leaf.devices()) == 4


# -- Mistakes.


@pytest.mark.parametrize(
  "settings, message",
  [
    (
      {"name": "la"},
      "posthoc.name is 'la'; choose one of none, logit_adjustment, threshold_",
    ),
    (
      {"name": "tau_norm", "tau": -1.0},
      r"posthoc.tau is -1.0; it must be in \[0, 2\]",
    ),
  ],
)
def test_settings_out_of_range_are_refused(learner, settings, message):
  changes = {f"posthoc__{name}": value for name, value in settings.items()}
  with pytest.raises(ValueError, match=message):
    toys.stages("supervised", learner, **changes)


def test_costs_belong_to_threshold_moving(learner):
  with pytest.raises(ValueError, match="threshold_moving; logit_adjustment"):
    toys.posthoc_stage(learner, costs=(1, 1, 1, 1))


@pytest.mark.parametrize(
  "costs, message",
  [
    ((1, 2, 3), "holds 3 numbers .* 4 classes need 4 .* or 16"),
    (((0, 1), (1, 0)), r"holds 4 numbers of shape \(2, 2\)"),
    ((1, 2, 3, -1), "finite and 0 or more"),
    ((1, 2, 3, float("inf")), "finite and 0 or more"),
    ((1, 2, 0, 4), "missing class 2 costs nothing"),
    ((0, 1, 1, 1) + (0,) * 12, "missing class 1 costs nothing"),
    (tuple(np.ones(16)), "must be 0 on the diagonal"),
  ],
)
def test_costs_that_do_not_fit_are_refused(learner, costs, message):
  with pytest.raises(ValueError, match=f"^posthoc.costs.*{message}"):
    toys.posthoc_stage(learner, name="threshold_moving", costs=costs)


def test_a_choice_of_tau_and_given_costs_exclude_each_other(learner):
  with pytest.raises(ValueError, match="no tau to choose"):
    toys.posthoc_stage(
      learner, name="threshold_moving", costs=COSTS, select=True
    )


@pytest.mark.parametrize("name", posthoc.TITLES)
def test_a_choice_without_validation_images_is_refused(name):
  with pytest.raises(ValueError, match="posthoc.select chooses tau on valid"):
    toys.posthoc_stage(toys.learner(), name=name, select=True)


def test_a_class_without_images_has_no_prior(learner):
  split = dataclasses.replace(
    learner.task.split, labeled_counts=(20, 10, 0, 10)
  )
  task = dataclasses.replace(learner.task, split=split)
  other = dataclasses.replace(learner, task=task)
  for name in ("logit_adjustment", "threshold_moving"):
    with pytest.raises(ValueError, match=f"={name} .*class 2 has no labeled"):
      toys.posthoc_stage(other, name=name)
  # Given costs and lengths need no counts.
  toys.posthoc_stage(other, name="threshold_moving", costs=COSTS)
  toys.posthoc_stage(other, name="tau_norm")


def test_lengths_of_class_means_play_no_role(learner):
  after = [toys.ncm_stage(learner)]
  with pytest.raises(ValueError, match="posthoc.name=tau_norm .*head of cent"):
    toys.posthoc_stage(learner, name="tau_norm", after=after)
  # A head trained anew after them is linear again.
  after.append(toys.classifier_stage(learner))
  toys.posthoc_stage(learner, name="tau_norm", after=after)
