"""Arrays handed over: what is taken, what refused, what they are called."""

import numpy as np
import pytest

from ltjax.data.sources import given, labeled

IMAGES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2])
NAMES = np.array(["b", "a", "c", "b", "a", "c"])


def test_numbers():
  made = given.make(IMAGES, LABELS)
  (images, labels), test, names = made.content[:3]
  assert images.shape == (6, 4, 4, 1) and labels.dtype == np.int32
  np.testing.assert_array_equal(labels, LABELS)
  assert names == ("0", "1", "2")
  assert test is None and made.pool is None
  assert made.source.startswith("arrays:numbers:")


@pytest.mark.parametrize("kind", [str, object])
def test_names_are_numbered_in_alphabetic_order(kind):
  made = given.make(IMAGES, NAMES.astype(kind))
  (_, labels), _, names = made.content[:3]
  assert names == ("a", "b", "c")
  np.testing.assert_array_equal(labels, [1, 0, 2, 1, 0, 2])
  assert made.source.startswith("arrays:names:")


def test_class_names_give_the_order_and_name_numbers():
  by_name = given.make(IMAGES, NAMES, class_names=["b", "a", "c"])
  by_number = given.make(IMAGES, LABELS, class_names=["b", "a", "c"])
  assert by_name.content[2] == ("b", "a", "c")
  np.testing.assert_array_equal(by_name.content[0][1], LABELS)
  assert by_name.source == by_number.source


def test_names_that_are_numbers_stay_names():
  made = given.make(IMAGES, LABELS.astype(str))
  assert made.content[2] == ("0", "1", "2")
  assert made.source.startswith("arrays:names:")


def test_unlabeled_with_and_without_labels():
  alone = given.make(IMAGES, LABELS, unlabeled=IMAGES[:2])
  known = given.make(IMAGES, LABELS, unlabeled=(IMAGES[:2], [2, -1]))
  np.testing.assert_array_equal(alone.pool.labels, [-1, -1])
  np.testing.assert_array_equal(known.pool.labels, [2, -1])
  assert alone.pool.images.shape == (2, 4, 4, 1)
  assert alone.pool_source != known.pool_source
  assert alone.source == given.make(IMAGES, LABELS).source


def test_every_pixel_label_and_name_has_a_say_in_the_name_of_a_set():
  other = IMAGES.copy()
  other[5, 3, 3] += 1
  test = (IMAGES[:1], LABELS[:1])
  made = [
    given.make(IMAGES, LABELS),
    given.make(other, LABELS),
    given.make(IMAGES, LABELS[::-1]),
    given.make(IMAGES, LABELS, class_names=["x", "y", "z"]),
    given.make(IMAGES, LABELS, test=test),
    given.make(IMAGES.reshape(6, 2, 8), LABELS),
  ]
  assert len({m.source for m in made}) == len(made)
  assert given.make(IMAGES.copy(), LABELS.astype(np.uint8)).source == (
    made[0].source
  )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"images": IMAGES / 255},
      "images: pixels are float64; they must be uint8",
    ),
    (
      {"images": np.where(IMAGES == 40, np.nan, IMAGES)},
      "images: 1 pixels are NaN, the first in image 2",
    ),
    (
      {"images": IMAGES.reshape(6, 16)},
      r"images: shape \(6, 16\); images must",
    ),
    ({"images": IMAGES[..., None].repeat(2, 3)}, "images: shape"),
    ({"images": IMAGES[:0], "labels": []}, "images: there are none"),
    (
      {"labels": LABELS[:5]},
      r"labels have shape \(5,\), but there are 6 images",
    ),
    (
      {"labels": NAMES[:5]},
      r"labels have shape \(5,\), but there are 6 images",
    ),
    ({"labels": LABELS / 2}, "labels are float64, not integers"),
    ({"labels": LABELS - 1}, "label -1 of image 0 is out of range"),
    (
      {"labels": LABELS * 2},
      "class 1 has no image, but class 4 has: class num",
    ),
    ({"labels": 0 * LABELS}, r"there is 1 class \(0\); a classifier needs 2"),
    ({"class_names": ["a", "b"]}, "label 2 of image 2 is out of range; labels"),
    (
      {"class_names": ["a", "a", "b"]},
      "class_names: a class name occurs twice",
    ),
    (
      {"labels": NAMES, "class_names": ["a", "b"]},
      "labels: 'c' of image 2 is none of the 2 classes 'a', 'b'",
    ),
    ({"test": (IMAGES, LABELS + 1)}, "test labels: label 3 of image 2 is out"),
    (
      {"test": (IMAGES[:, :3], LABELS)},
      r"test images: they are \(3, 4, 1\), and",
    ),
    ({"test": (IMAGES,)}, r"test must be a pair, \(images, labels\)"),
    (
      {"unlabeled": IMAGES[:, :, :3]},
      r"unlabeled images: they are \(4, 3, 1\)",
    ),
    (
      {"unlabeled": IMAGES[:0]},
      "unlabeled: there are none; leave unlabeled out",
    ),
    (
      {"unlabeled": (IMAGES, LABELS + 1)},
      "unlabeled labels: label 3 of image 2 is out of range; labels must be -1",
    ),
  ],
)
def test_what_does_not_fit(changes, message):
  with pytest.raises(ValueError, match=message):
    given.make(**{"images": IMAGES, "labels": LABELS} | changes)


def test_a_source_of_arrays_alone_is_refused():
  with pytest.raises(ValueError, match="were handed to ltjax.fit as arrays"):
    labeled.load(given.make(IMAGES, LABELS).source)


def test_groups_have_a_say_in_the_name_of_a_set():
  groups = np.array(["p", "p", "q", "r", "q", "r"])
  made = given.make(IMAGES, LABELS, groups=groups)
  assert made.content.groups.tolist() == [0, 0, 1, 2, 1, 2]
  sources = {
    given.make(IMAGES, LABELS, groups=g).source
    for g in (None, groups, [0, 0, 1, 1, 2, 2])
  }
  assert len(sources) == 3 and made.source in sources
  with pytest.raises(ValueError, match="groups: they are .* of the 6 images"):
    given.make(IMAGES, LABELS, groups=groups[:5])
