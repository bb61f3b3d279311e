"""Groups by the paths of pictures, and what is said of groups that fail."""

import pathlib

import numpy as np
import pytest

from ltjax.data.parts import contents, group_by

BASE = pathlib.Path("/sets/patient_0")  # the folder itself is not searched


def listed(*names):
  files = [BASE / name for name in names]
  return contents.Listed(files, np.zeros(len(files), np.int32))


def found(train, test=(), validation=(), unlabeled=()):
  return contents.Content(
    listed(*train),
    listed(*test) if test else None,
    ("owl",),
    validation=listed(*validation) if validation else None,
    unlabeled=listed(*unlabeled).files or None,
    understood="A set.",
  )


TRAIN = ("owl/patient_7a.png", "owl/patient_7b.png", "newt/patient_12.png")


def test_numbers_of_groups():
  content = group_by.by_path(
    found(
      TRAIN,
      test=("owl/patient_3.png",),
      validation=("owl/patient_4.png", "owl/patient_5.png"),
      unlabeled=("patient_12c.png", "patient_3.png", "patient_9.png"),
    ),
    r"patient_(\d+)",
    BASE,
    "folder:x",
  )
  assert content.groups.dtype == np.int32
  assert content.groups.tolist() == [0, 0, 1]
  assert [file.name for file in content.unlabeled] == [
    "patient_12c.png",
    "patient_9.png",
  ]
  assert content.unlabeled_groups.tolist() == [1, 2]
  assert content.understood == (
    "A set.\n"
    r"groups       2 in training, by the pattern 'patient_(\d+)'; the largest,"
    " 7, has 2 images; 1 in test; 2 in validation; 1 unlabeled images of groups"
    " held out are left out"
  )


@pytest.mark.parametrize(
  "pattern, message",
  [
    (r"patient_\d+", "a pattern with 0 groups in brackets"),
    (r"(patient)_(\d+)", "a pattern with 2 groups in brackets"),
    ("patient", "A column's name goes with csv: alone"),
    ("(", "no regular expression: missing"),
    (r"patient_(\d\d)", "not match 2 of 3 pictures: owl/patient_7a.png, owl/"),
    (r"newt|(patient_7)", "not match 1 of 3 pictures: newt/patient_12.png"),
    (r"patient_(\w+)", "3 training pictures are each a group of its own"),
    (r"(patient)", "3 training pictures are all of one group, such as patient"),
  ],
)
def test_wrong_patterns(pattern, message):
  with pytest.raises(ValueError, match=message):
    group_by.by_path(found(TRAIN), pattern, BASE, "folder:x")


@pytest.mark.parametrize("part", ["test", "validation"])
def test_groups_on_both_sides(part):
  other = ["patient_7.png", "patient_12.png", "patient_1.png", "patient_7c.png"]
  with pytest.raises(ValueError) as caught:
    content = found(TRAIN, **{part: other})
    group_by.by_path(content, r"patient_(\d+)", BASE, "folder:x")
  assert (
    f"folder:x: 75.0 % of the {part} pictures' groups are in training (3 of 4"
    in str(caught.value)
  )
  assert "such as 7, 12. Move all pictures" in str(caught.value)


def test_groups_for_validation_and_for_testing():
  content = found(TRAIN, ["patient_1.png"], ["patient_1b.png"])
  with pytest.raises(ValueError, match="100.0 % of the test .* in validation"):
    group_by.by_path(content, r"patient_(\d+)", BASE, "folder:x")


@pytest.mark.parametrize(
  "groups",
  [
    np.zeros(2),
    np.zeros((3, 1), int),
    np.zeros(2, int),
    np.array([1, "a", 2.0], object),
  ],
)
def test_arrays_that_are_no_groups(groups):
  with pytest.raises(
    ValueError, match="x: they are .* for each of the 3 image"
  ):
    group_by.check_array(groups, 3, "x")


def test_arrays_that_are_groups():
  for dtype in (np.int64, np.uint8, str, object):
    group_by.check_array(np.array(["1", "2", "1"]).astype(dtype), 3, "x")
