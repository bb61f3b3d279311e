"""Numbers and orders of classes by their names."""

import numpy as np
import pytest

from ltjax.data import class_file

CLASSES = ("cat", "polar bear", "a, b")


def write(tmp_path, text):
  path = tmp_path / "classes.csv"
  path.write_text(text, encoding="utf-8")
  return path


def read(path):
  return class_file.numbers(path, CLASSES, what="weight", within="[0, inf)")


@pytest.mark.parametrize(
  "text",
  [
    'name,weight\n"a, b",3\ncat,0.5\n\n# rare\npolar bear,2\n',
    "\ufeffcat 0.5\npolar bear   2\na, b, 3\n",
    "cat, 0.5\npolar bear\t2\na, b 3\n",
  ],
)
def test_numbers_are_read_by_name(tmp_path, text):
  np.testing.assert_array_equal(read(write(tmp_path, text)), [0.5, 2, 3])


@pytest.mark.parametrize(
  "text, message",
  [
    ("cat,1\ncow,2\n", "line 2: 'cow,2' is no class and a weight"),
    ("cat,1\nname,2\n", "line 2: 'name,2' is no class"),
    ("cat,1\ncat,2\n", "line 2: class 'cat' has a weight already"),
    ("cat,x\n", "line 1: the weight 'x' is no number"),
    ("cat,-1\n", "line 1: the weight is -1"),
    ("cat,1\n", "no weight for 2 classes, the first 'polar bear'"),
    ("cat\n", "the weight '' is no number"),
  ],
)
def test_a_wrong_file_says_where(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    read(write(tmp_path, text))


def test_an_order_is_names_or_a_file_of_them(tmp_path):
  path = write(tmp_path, "a, b\ncat\npolar bear\n")
  got = class_file.order(str(path), CLASSES, field="data.classes")
  assert got.tolist() == [2, 0, 1]
  got = class_file.order("dog, cat", ("cat", "dog"), field="data.classes")
  assert got.tolist() == [1, 0]


def test_many_names_are_no_path_that_is_too_long():
  names = [f"class number {n}" for n in range(500)]
  got = class_file.order(",".join(names[::-1]), names, field="data.classes")
  np.testing.assert_array_equal(got, np.arange(500)[::-1])


@pytest.mark.parametrize(
  "text, error, message",
  [
    ("cat,cow", ValueError, "'cow' are not classes"),
    ("cat", ValueError, "'dog' are missing"),
    ("cat,dog,cat", ValueError, "'cat' are named twice"),
    ("nowhere.txt", FileNotFoundError, "no such file, and no such class"),
  ],
)
def test_a_wrong_order_says_why(text, error, message):
  with pytest.raises(error, match=message):
    class_file.order(text, ("cat", "dog"), field="data.classes")
