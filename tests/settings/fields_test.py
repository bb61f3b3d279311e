"""Settings as fields: their ranges in words, and what is left alone."""

import dataclasses

import pytest

from ltjax.settings import fields


@dataclasses.dataclass(frozen=True)
class Settings:
  beta: float = fields.setting(0.5, "of the mixture", above=0)
  crops: int = fields.setting(1, "of a view", choices=(1, 2))
  scale: tuple[float, ...] = fields.setting((0.2, 1.0), "of a crop")
  kind: str = "no setting"


@pytest.mark.parametrize(
  "limits, interval, words",
  [
    ({"least": 1}, "[1, inf)", "1 or more"),
    ({"above": 0}, "(0, inf)", "above 0"),
    ({"least": 0, "most": 0.5}, "[0, 0.5]", "in [0, 0.5]"),
    ({"above": 0, "below": 1}, "(0, 1)", "in (0, 1)"),
    ({}, "(-inf, inf)", ""),
  ],
)
def test_limits_are_told(limits, interval, words):
  entry = fields.Declared("of a test", **limits)
  assert (entry.interval, entry.limits()) == (interval, words)


def test_choices_are_told():
  assert fields.declared(Settings)["crops"].limits() == "one of 1, 2"


def test_a_block_is_read_but_for_what_is_of_others():
  block = {"beta": 2.0, "epochs": 3, "kind": "x"}
  assert fields.of(Settings, block) == Settings(beta=2.0)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"beta": 0}, "mix.beta is 0; it must be above 0 and finite: of the mixtu"),
    ({"beta": float("inf")}, "mix.beta is inf; it must be above 0 and finite"),
    ({"crops": 3}, "mix.crops is 3; choose one of 1, 2"),
  ],
)
def test_a_value_out_of_range_is_refused(settings, message):
  fields.check(Settings(scale=(9.0, -1.0)), "mix")
  with pytest.raises(ValueError, match=message):
    fields.check(Settings(**settings), "mix")
