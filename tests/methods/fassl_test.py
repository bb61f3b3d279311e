"""FASSL: three stages, what they hand on and what they tell."""

import jax
import numpy as np
import pytest
import toys

from ltjax import methods
from ltjax.methods import pretraining, views


@pytest.fixture(scope="module", autouse=True)
def plain_views():
  """Compiles views of milliseconds, instead of those of `views_test`."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(views, "two", lambda *args, **settings: toys.two_views)
    yield


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def given(**changes):
  settings = {
    "pretrain__dim": 6,
    "pretrain__name": "fassl",
    "prototypes__count": 5,
    "prototypes__start": "simclr",
    "student__hidden": 8,
  }
  return toys.config(**(settings | changes))


def test_the_stages_of_algorithm_1(learner):
  names = [s.name for s in pretraining.stages(learner, given())]
  assert names == ["pretrain", "prototypes", "student"]
  names = [
    s.name for s in pretraining.stages(learner, given(prototypes__start="none"))
  ]
  assert names == ["prototypes", "student"]


@pytest.fixture(scope="module")
def run(learner, tmp_path_factory):
  """Returns the states after each stage, and the rows."""
  seen = []
  made = toys.watched(pretraining.stages(learner, given()), seen)
  _, rows = toys.execute(tmp_path_factory.mktemp("fassl"), learner, made)
  return seen, rows


def test_each_stage_goes_on_from_the_one_before(learner, run):
  seen, _ = run
  made = list(pretraining.stages(learner, given()))
  for before, stage in zip(seen, made[1:]):
    state = jax.tree.map(np.asarray, before)
    trained = toys.host(stage.init(state))
    found = trained.params
    while "backbone" not in found:
      found = found["encoder"] if "encoder" in found else found["student"]
    toys.assert_same(found["backbone"], before.backbone)
    toys.assert_same(found["projection"], before.pretrained["projection"])


def test_prototypes_stay_as_the_first_stage_left_them(run):
  first, second, third = run[0]
  assert "prototypes" not in first.pretrained
  assert second.pretrained["prototypes"].shape == (5, 6)
  toys.assert_same(
    second.pretrained["prototypes"], third.pretrained["prototypes"]
  )
  assert toys.differ(second.backbone, third.backbone)


def test_prototypes_are_told_beside_the_base_rate(run):
  (row,) = [row for row in run[1] if row["kind"] == "prototypes"]
  assert row["stage"] == "prototypes" and row["count"] == 5
  assert sum(row["shares"].values()) == pytest.approx(1)
  base = [20 / 40, 10 / 40, 10 / 40]
  assert sorted(row["base_rate"].values()) == pytest.approx(
    sorted(base), abs=0.5
  )
  for score in ("paper", "energy"):
    assert -1 <= row[f"weight_correlation/{score}"] <= 1


def test_correlation_is_that_of_the_weights(learner, run):
  """By hand: z from the network, scores, standardised, softmax, Pearson."""
  second, row = run[0][1], [r for r in run[1] if r["kind"] == "prototypes"][0]
  state = jax.tree.map(np.asarray, second)
  features = np.asarray(
    learner.predictor.features(state, learner.task.images[:40]), np.float64
  )
  p, s = second.pretrained["projection"], second.pretrained["projection_stats"]

  def norm(x, name):
    scaled = (x - s[name]["mean"]) / np.sqrt(s[name]["var"] + 1e-5)
    return scaled * p[name]["scale"] + p[name]["bias"]

  x = features @ p["first"]["kernel"] + p["first"]["bias"]
  x = np.maximum(norm(x, "first_norm"), 0) @ p["second"]["kernel"]
  z = norm(x, "second_norm")
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  prototypes = second.pretrained["prototypes"].astype(np.float64)
  energy = ((z @ prototypes.T) ** 2).sum(1)
  prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
  rarity = 1 / np.repeat(toys.LABELED, toys.LABELED)
  for score, numbers in (
    ("paper", (z @ prototypes.T).sum(1)),
    ("energy", -energy),
  ):
    standard = np.clip((numbers - numbers.mean()) / numbers.std(), -3, 3)
    weights = np.exp(-standard)
    expected = np.corrcoef(weights, rarity)[0, 1]
    assert row[f"weight_correlation/{score}"] == pytest.approx(
      expected, abs=1e-3
    )


def test_all_images_have_a_class_in_the_report(learner, tmp_path):
  made = pretraining.stages(learner, given(pretrain__data="all"))
  _, rows = toys.execute(tmp_path, learner, list(made)[:2])
  (row,) = [row for row in rows if row["kind"] == "prototypes"]
  assert row["images"] == 80 and row["known"] == 5


def test_a_method_can_begin_with_it(learner, tmp_path):
  made = methods.stages(learner, given(method="supervised"))
  names = [stage.name for stage in made]
  assert names == ["pretrain", "prototypes", "student", "embedding"]
  _, rows = toys.execute(tmp_path, learner, made)
  assert rows[-1]["model"] == "CE + FASSL (from SimCLR)"


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"prototypes__start": "fassl"}, "choose one of none, rotation, .*swav"),
    ({"prototypes__count": 0}, "prototypes.count is 0"),
    ({"prototypes__temperature": -0.2}, "prototypes.temperature is -0.2"),
    ({"prototypes__init": "zeros"}, "prototypes.init is 'zeros'"),
    ({"student__score": "density"}, "choose one of paper, energy, uniform"),
    ({"student__clip": 0.0}, "student.clip is 0"),
  ],
)
def test_bad_settings(learner, changes, message):
  with pytest.raises(ValueError, match=message):
    methods.stages(learner, given(method="probe", **changes))
