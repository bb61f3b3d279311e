"""Checks of settings: what they let pass, and what they say."""

import math

import pytest

from ltjax import require


def test_a_choice_is_one_of_those_known():
  require.choice("data.storage", "host", ("device", "host"))
  with pytest.raises(ValueError) as caught:
    require.choice("data.storage", "hots", ("device", "host"))
  assert str(caught.value) == (
    "data.storage is 'hots'; choose one of device, host. Did you mean 'host'?"
  )
  with pytest.raises(ValueError, match="'hub'; .* host. Use data.cache.$"):
    aliases = {"hub": "data.cache"}
    require.choice("data.storage", "hub", ("device", "host"), aliases)
  with pytest.raises(ValueError, match="is 3; choose one of device, host.$"):
    require.choice("data.storage", 3, ("device", "host"))


@pytest.mark.parametrize(
  "interval, good, bad, words",
  [
    ("[0, 1]", (0, 0.5, 1), (-0.1, 1.1, math.nan), r"in \[0, 1\]"),
    ("[0, 1)", (0, 0.999), (1, -1, math.nan), r"in \[0, 1\)"),
    ("(0, 1]", (1, 1e-9), (0, 2), r"in \(0, 1\]"),
    ("(0, inf)", (1e-9, 7), (0, -1, math.inf, math.nan), "above 0 and finite"),
    ("(0, inf]", (math.inf,), (0, math.nan), "above 0"),
    ("[0, inf)", (0, 7), (-1, math.inf, math.nan), "0 or more and finite"),
    ("[2, inf]", (2, math.inf), (1, math.nan), "2 or more"),
    ("(-inf, inf)", (-3, 7), (math.inf, math.nan), "finite"),
  ],
)
def test_a_number_is_within_its_limits(interval, good, bad, words):
  for value in good:
    require.within("x", value, interval)
  for value in bad:
    with pytest.raises(
      ValueError, match=f"^x is {value}; it must be {words}.$"
    ):
      require.within("x", value, interval)


def test_an_error_ends_with_the_way_out():
  require.at_least("eval.last_k", 1, 1)
  with pytest.raises(
    ValueError, match="^x is 0; it must be 1 or more: of knn.$"
  ):
    require.within("x", 0, "[1, inf]", about="of knn")
  with pytest.raises(
    ValueError, match="^x is 0; it must be 1 or more, say 5.$"
  ):
    require.at_least("x", 0, 1, "say 5")
