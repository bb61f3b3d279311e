"""Which images a map shows."""

import numpy as np
import pytest

from ltjax.plots import embeddings

# A tail of 10: 40, 30, 20, 10, 4, 1 images.
LABELS = np.repeat([0, 1, 2, 3, 4, 5], [40, 30, 20, 10, 4, 1])


@pytest.mark.parametrize(
  ("limit", "counts"),
  [
    (6, [1, 1, 1, 1, 1, 1]),
    (30, [7, 6, 6, 6, 4, 1]),
    (50, [12, 12, 11, 10, 4, 1]),
    (104, [39, 30, 20, 10, 4, 1]),
    (105, [40, 30, 20, 10, 4, 1]),
    (1000, [40, 30, 20, 10, 4, 1]),
  ],
)
def test_small_classes_whole_large_ones_alike(limit, counts):
  index = embeddings.choose(LABELS, limit, seed=0)
  assert np.bincount(LABELS[index]).tolist() == counts
  assert np.all(np.diff(index) > 0)  # Sorted, each once.


def test_absent_classes_need_nothing():
  index = embeddings.choose(np.array([7, 7, 7, 2]), 2, seed=0)
  assert index[1] == 3 and index[0] in (0, 1, 2)


def test_the_seed_draws():
  one, same, other = (embeddings.choose(LABELS, 30, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert not np.array_equal(one, other)


@pytest.mark.parametrize("limit", [5, 0, -3])
def test_fewer_than_one_a_class(limit):
  with pytest.raises(ValueError, match=f"--images is {limit}; the 6 classes"):
    embeddings.choose(LABELS, limit, seed=0)


def test_chosen_classes_are_numbered_by_their_places():
  kept, places = embeddings.narrow(np.array([3, 0, 2, 3, 1]), (3, 0))
  assert kept.tolist() == [0, 1, 3] and places.tolist() == [0, 1, 0]
  assert places.dtype == np.int64


def test_classes_exist_and_are_named_once():
  embeddings.check_classes((2, 0), 3)
  with pytest.raises(ValueError, match="--classes has 3; there are 3 classes"):
    embeddings.check_classes((0, 3), 3)
  with pytest.raises(ValueError, match="--classes has 1 twice"):
    embeddings.check_classes((1, 1), 3)
