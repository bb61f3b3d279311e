"""Settings of students: defaults, limits, and every error."""

from ltjax import config as configs
from ltjax.self_supervised import teacher
from ltjax.settings import fields


def test_defaults_are_those_of_the_config():
  block = configs.default().student
  assert fields.of(teacher.Settings, block) == teacher.Settings()


def test_only_uniform_needs_no_prototypes():
  weighted = [
    score for score in teacher.SCORES if teacher.Settings(score=score).weighted
  ]
  assert weighted == ["paper", "energy"]
