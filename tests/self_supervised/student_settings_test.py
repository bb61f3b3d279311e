"""Settings of students: defaults, limits, and every error."""

import pytest

from ltjax import config as configs
from ltjax.self_supervised import teacher
from ltjax.settings import fields


def test_defaults_are_those_of_the_config():
  block = configs.default().student
  assert fields.of(teacher.Settings, "student", block) == teacher.Settings()


def test_only_uniform_needs_no_prototypes():
  weighted = [
    score for score in teacher.SCORES if teacher.Settings(score=score).weighted
  ]
  assert weighted == ["paper", "energy"]


@pytest.mark.parametrize("ema", [0, 0.0, 0.5, 1.0, 1])
def test_limits_of_tau_are_allowed(ema):
  """Both are rows of Table 3 of the paper."""
  assert teacher.Settings(ema=ema).ema == ema


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"hidden": 0}, "student.hidden is 0; it must be 1 or more: of the stud"),
    ({"ema": 1.1}, r"student.ema is 1.1; it must be in \[0, 1\]"),
    ({"ema": -0.1}, r"student.ema is -0.1; it must be in \[0, 1\]"),
    ({"ema": float("nan")}, "student.ema is nan"),
    ({"ema_schedule": "x"}, "ema_schedule is 'x'; choose one of constant, co"),
    ({"teacher_batch_norm": "x"}, "batch_norm is 'x'; choose one of batch, em"),
    ({"score": "x"}, "student.score is 'x'; choose one of paper, energy, unif"),
    ({"score_from": "x"}, "score_from is 'x'; choose one of teacher, frozen"),
    ({"clip": 0.0}, "student.clip is 0.0; it must be above 0: stand"),
    ({"clip": -1.0}, "student.clip is -1.0"),
    ({"clip": float("nan")}, "student.clip is nan"),
    ({"weight_temperature": 0.0}, "student.weight_temperature is 0.0; it must"),
    ({"weight_temperature": -2.0}, "student.weight_temperature is -2.0"),
    ({"weight_temperature": float("inf")}, "weight_temperature is inf"),
  ],
)
def test_bad_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    teacher.Settings(**settings)
