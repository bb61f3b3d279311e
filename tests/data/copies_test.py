"""Copies of test images are found, whatever they are called."""

import dataclasses

import numpy as np
from PIL import Image
import pytest

from ltjax.data import copies
from ltjax.data.host import image_files
from ltjax.data.sources import labeled, unlabeled

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 8, 8, 3), np.uint8)


def made(train=range(8), test=range(8, 12), name="folder:/x", **changes):
  """A set of two classes, by turns, of some of the images."""
  train, test = list(train), list(test)
  return labeled.Dataset(
    name=name,
    train_images=IMAGES[train],
    train_labels=np.arange(len(train), dtype=np.int32) % 2,
    test_images=IMAGES[test],
    test_labels=np.arange(len(test), dtype=np.int32) % 2,
    class_names=("cat", "dog"),
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    flip=True,
    **changes,
  )


def pool_of(which):
  which = list(which)
  return unlabeled.Pool(IMAGES[which], np.full(len(which), -1, np.int32))


def test_without_copies_nothing_changes():
  data, pool = copies.settle(made(), pool_of(range(12, 20)), "error")
  assert data.understood == "" and len(data.train_images) == 8
  assert len(pool.images) == 8


def test_copies_are_refused_with_their_numbers():
  with pytest.raises(ValueError) as error:
    copies.settle(made(range(10)), pool_of([11, 12]), "error")
  text = str(error.value)
  assert "2 of 10 training images are test images too" in text
  assert "(image 8, image 9)" in text
  assert "1 of 2 unlabeled images are test images too (image 0)" in text
  assert "--config.data.copies=drop" in text


def test_copies_are_left_out():
  data = made(
    range(10),
    validation=np.array([0, 5, 8, 9]),
    groups=np.arange(10, dtype=np.int32),
    understood="A folder.",
  )
  data, pool = copies.settle(data, pool_of([11, 12, 8, 13]), "drop")
  np.testing.assert_array_equal(data.train_images, IMAGES[:8])
  np.testing.assert_array_equal(data.train_labels, np.arange(8) % 2)
  np.testing.assert_array_equal(data.validation, [0, 5])
  np.testing.assert_array_equal(data.groups, np.arange(8))
  np.testing.assert_array_equal(pool.images, IMAGES[[12, 13]])
  assert data.understood.startswith("A folder.\n2 of 10 training images")
  assert "They are left out of training." in data.understood


def test_places_of_validation_images_move_with_what_is_left_out():
  data = made([8, 0, 1, 9, 2, 3], validation=np.array([4, 5]))
  data, _ = copies.settle(data, None, "drop")
  np.testing.assert_array_equal(data.train_images, IMAGES[:4])
  np.testing.assert_array_equal(data.validation, [2, 3])


def test_copies_are_kept_and_told():
  data, _ = copies.settle(made(range(10)), None, "keep")
  assert len(data.train_images) == 10
  assert "2 of 10 training images are test images too" in data.understood


def test_published_sets_are_taken_as_they_are():
  data, _ = copies.settle(made(range(10), name="cifar10"), None, "auto")
  assert data.understood == ""
  data, _ = copies.settle(made(name="cifar10"), pool_of([8]), "auto")
  assert data.understood == ""
  both = made(range(10), name="cifar10"), pool_of([8])
  with pytest.raises(ValueError, match=r"^1 of 1 unlabeled images"):
    copies.settle(*both, "auto", pool_source="folder:/y")
  with pytest.raises(ValueError, match="2 of 10 training"):
    copies.settle(made(range(10)), None, "auto")


def test_a_pool_may_hold_labeled_images_and_is_told():
  data, _ = copies.settle(made(), pool_of([0, 1, 2, 15]), "error")
  assert data.understood == (
    "3 unlabeled images are also among the labeled set's."
  )


def test_one_image_in_two_classes_is_told():
  data, _ = copies.settle(made([0, 1, 2, 0]), None, "error")
  assert data.understood == (
    "1 images are in two classes or more, the first in cat and dog"
    " (image 0, image 3)."
  )


@pytest.mark.parametrize(
  "change, message",
  [
    ({"train": [8, 1, 9, 3]}, r"class 0 \(cat\) has no training image but"),
    ({"pool": [8, 9]}, "All unlabeled images are copies"),
  ],
)
def test_nothing_is_left(change, message):
  pool = change.pop("pool", None)
  with pytest.raises(ValueError, match=message):
    copies.settle(made(**change), pool and pool_of(pool), "drop")


def test_unlabeled_images_of_the_set_itself():
  data = made(
    unlabeled=IMAGES[[8, 14, 15]],
    unlabeled_groups=np.array([3, 4, 5], np.int32),
  )
  with pytest.raises(ValueError, match="1 of 3 unlabeled images"):
    copies.settle(data, None, "error", pool_source="found")
  left, pool = copies.settle(data, None, "drop", pool_source="found")
  assert pool is None and left.unlabeled_groups.tolist() == [4, 5]
  np.testing.assert_array_equal(left.unlabeled, IMAGES[[14, 15]])
  unused, _ = copies.settle(data, None, "error", pool_source="train")
  assert len(unused.unlabeled) == 3


def test_an_unknown_choice():
  with pytest.raises(ValueError, match="data.copies is 'skip'"):
    copies.settle(made(), None, "skip")


def test_identities_are_equal_for_equal_images_only():
  parts = [IMAGES[[0, 1, 0]], IMAGES[[2, 1]]]
  a, b = copies.identities(parts)
  whole = np.concatenate([a, b])
  content = [image.tobytes() for part in parts for image in part]
  for i in range(5):
    for j in range(5):
      assert (whole[i] == whole[j]) == (content[i] == content[j])


def test_unread_pictures_are_known_by_their_bytes(tmp_path):
  """Files of one size are told apart; a copy of another name is found."""
  for i in range(6):
    Image.fromarray(IMAGES[i % 5]).save(tmp_path / f"{i}.bmp")
  files = [tmp_path / f"{i}.bmp" for i in range(6)]
  read = [
    image_files.ImageFiles(part, size=8) for part in (files[:4], files[4:])
  ]
  assert len({file.stat().st_size for file in files}) == 1
  a, b = copies.identities(read)
  assert len(set(a.tolist())) == 4 and b[1] == a[0] and b[0] not in a
  data = dataclasses.replace(
    made(range(4), [4, 5]), train_images=read[0], test_images=read[1]
  )
  with pytest.raises(ValueError, match=r"1 of 4 training .*0\.bmp"):
    copies.settle(data, None, "error")
  left, _ = copies.settle(data, None, "drop")
  assert left.train_images.files() == files[1:4]


def big(seed, size=32):
  """Smooth pictures, which keep their look when they shrink."""
  small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
  picture = Image.fromarray(small).resize((size, size))
  return np.asarray(picture)


def test_pictures_that_look_alike_are_told_and_kept():
  train = np.stack([big(i) for i in range(6)])
  brighter = np.uint8(train[2] * 0.9 + 3)
  test = np.stack([brighter, big(20), big(21)])
  data = dataclasses.replace(
    made(range(6), range(3)), train_images=train, test_images=test
  )
  for choice in ("error", "drop"):
    found, _ = copies.settle(data, None, choice)
    assert len(found.train_images) == 6
    assert found.understood.startswith(
      "1 training images look much like test images (image 2):"
    )


def test_difference_hashes():
  """The left picture grows brighter to the right, the other one downwards."""
  ramp = np.arange(0, 252, 7, dtype=np.uint8)[:36]
  right = np.broadcast_to(ramp, (36, 36))
  images = np.stack([right, right.T, np.full((36, 36), 9, np.uint8)])
  found = copies.difference_hashes(images[..., None])
  assert found == [b"\xff" * 8 + b"\0" * 8, b"\0" * 8 + b"\xff" * 8, b""]


def test_flat_pictures_do_not_look_alike():
  flat = np.full((3, 32, 32, 3), 200, np.uint8)
  flat[:, 0, 0, 0] = [0, 1, 2]
  data = dataclasses.replace(
    made(range(2), [0]), train_images=flat[:2], test_images=flat[2:]
  )
  found, _ = copies.settle(data, None, "error")
  assert found.understood == ""
