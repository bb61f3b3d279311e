import pytest

from ltjax.report import markdown


def test_table():
  rows = [["a|b\nc", "1.0"], ["d", "10"]]
  assert markdown.table(["model", "few"], rows) == (
    "| model  | few |\n| ------ | --: |\n| a\\|b c | 1.0 |\n| d      |  10 |\n"
  )


def test_rows_of_another_length_are_refused():
  with pytest.raises(ValueError):
    markdown.table(["a", "b"], [["1"]])


@pytest.mark.parametrize(
  "fraction, text",
  [(None, "–"), (0.0, "0.0"), (1.0, "100.0"), (0.41849, "41.8")],
)
def test_percent(fraction, text):
  assert markdown.percent(fraction) == text


@pytest.mark.parametrize(
  "mean, deviation, text",
  [(0.5, 0.0123, "50.0 ± 1.2"), (0.5, None, "50.0"), (None, None, "–")],
)
def test_spread(mean, deviation, text):
  assert markdown.spread(mean, deviation) == text
