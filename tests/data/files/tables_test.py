"""Tables as columns of texts; `sources/tables_test` has what they come to."""

import csv
import random

import pytest

from ltjax.data.files import tables


def write(tmp_path, text, suffix=".csv"):
  path = tmp_path / f"table{suffix}"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path


def test_rows_know_their_lines(tmp_path):
  text = '\npath,note\na.jpg,"two\nlines"\n\n,\nb.jpg,\n'
  found = tables.read(write(tmp_path, text))
  assert found.columns == {
    "path": ["a.jpg", "b.jpg"],
    "note": ["two\nlines", ""],
  }
  assert found.lines == [4, 7] and found.empty == 1


@pytest.mark.parametrize(
  "text, form, columns",
  [
    ("a;b\n1,5;x\n", "by semicolon", {"a": ["1,5"], "b": ["x"]}),
    ("a\tb, c\n1\t2\n", "by tab", {"a": ["1"], "b, c": ["2"]}),
    ('"a;b",c\n1,2\n', "by comma", {"a;b": ["1"], "c": ["2"]}),
    ("a\n1,2\n3;4\n", "one column", {"a": ["1,2", "3;4"]}),
    ("a|b\n|2\n", "by bar", {"a": [""], "b": ["2"]}),
  ],
)
def test_separators(text, form, columns, tmp_path):
  found = tables.read(write(tmp_path, text))
  assert form in found.form and found.columns == columns


def test_json_lines_share_their_keys(tmp_path):
  text = '{"a": 1.0, "b": "x"}\n\n{"c": true, "a": null}\r\n{"a": 0.5}\n'
  found = tables.read(write(tmp_path, text, ".jsonl"))
  assert found.columns == {
    "a": ["1", "", "0.5"],
    "b": ["x", "", ""],
    "c": ["", "True", ""],
  }
  assert found.lines == [1, 3, 4]


def test_a_value_beyond_all_bounds(tmp_path):
  text = "a,b\n" + "x" * (csv.field_size_limit() + 1) + ",y\n"
  with pytest.raises(ValueError, match="a value of more than 131,072 letters"):
    tables.read(write(tmp_path, text))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_damage_is_a_value_error_or_none(suffix, tmp_path):
  """Nothing else escapes, whatever bytes a file has."""
  whole = {
    ".csv": b'path,label\n"a, b.jpg",owl\nb.jpg,newt\n',
    ".jsonl": b'{"path": "a.jpg", "label": [1, {"x": 2}]}\n{"path": "b"}\n',
  }[suffix]
  rng, refused = random.Random(0), 0
  for _ in range(100):
    damaged = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
      place = rng.randrange(len(damaged))
      damaged[place : place + rng.randint(0, 2)] = rng.randbytes(1)
    try:
      tables.read(write(tmp_path, bytes(damaged), suffix))
    except ValueError as error:
      refused += 1
      assert str(tmp_path) in str(error)
  assert 10 < refused <= 100
