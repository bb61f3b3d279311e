"""Draws: all images of a class once, and the same for the same seed."""

import numpy as np
import pytest

from ltjax.data.splits import generators

LABELS = np.random.default_rng(0).integers(0, 3, 60)


def test_a_class_is_put_in_an_order():
  images = generators.of_class(LABELS, 1, order="shuffled", seed=[4, 1])
  there = np.flatnonzero(LABELS == 1)
  assert sorted(images) == there.tolist() and images.tolist() != there.tolist()
  again = generators.of_class(LABELS, 1, order="shuffled", seed=[4, 1])
  np.testing.assert_array_equal(images, again)
  other = generators.of_class(LABELS, 1, order="shuffled", seed=[4, 2])
  assert images.tolist() != other.tolist()
  by_file = generators.of_class(LABELS, 1, order="file", seed=[4, 1])
  np.testing.assert_array_equal(by_file, there)


def test_a_class_does_not_depend_on_the_others():
  """Its order is one of places within the class."""
  kept = LABELS[LABELS != 0]
  place = np.flatnonzero(LABELS != 0)
  images = generators.of_class(LABELS, 2, order="shuffled", seed=[0])
  among = generators.of_class(kept, 2, order="shuffled", seed=[0])
  np.testing.assert_array_equal(images, place[among])


def test_the_rest_is_taken_from_and_left_as_it_was():
  left = np.arange(10, 40)
  some = generators.of_rest(left, 7, order="shuffled", seed=[1])
  assert len(set(some.tolist())) == 7 and set(some) <= set(left)
  assert left.tolist() == list(range(10, 40))
  more = generators.of_rest(left, 9, order="shuffled", seed=[1])
  np.testing.assert_array_equal(more[:7], some)
  first = generators.of_rest(left, 7, order="file", seed=[1])
  assert first.tolist() == list(range(10, 17))
  for order in generators.ORDERS:
    every = generators.of_rest(left, 30, order=order, seed=[1])
    np.testing.assert_array_equal(every, left)
  with pytest.raises(ValueError, match="total is 31 but only 30 images are l"):
    generators.of_rest(left, 31, order="file", seed=[1])
