"""Groups by rank and by count, with ties and small numbers of classes."""

import numpy as np
import pytest

from ltjax.data.splits import groups


def test_ten_classes_are_three_three_four():
  got = groups.by_rank([500, 299, 179, 107, 64, 38, 23, 13, 8, 5])
  assert got == {
    "many": (0, 1, 2),
    "medium": (3, 4, 5),
    "few": (6, 7, 8, 9),
  }
  assert got == groups.by_rank(range(10, 0, -1), sizes=())
  assert all(type(c) is int for ids in got.values() for c in ids)


@pytest.mark.parametrize(
  "classes,sizes",
  [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (100, (34, 33, 33))],
)
def test_thirds(classes, sizes):
  got = groups.by_rank(range(classes, 0, -1))
  assert tuple(len(got[name]) for name in groups.NAMES) == sizes
  assert sum(got.values(), ()) == tuple(range(classes))


def test_rank_goes_by_count_and_ties_by_index():
  got = groups.by_rank(np.array([1, 9, 4, 4, 9, 4]), sizes=(2, 2, 2))
  assert got == {"many": (1, 4), "medium": (2, 3), "few": (5, 0)}
  ties = groups.by_rank(np.tile([5, 6], 50), sizes=(50, 25, 25))
  assert ties["many"] == tuple(range(1, 100, 2))
  assert ties["medium"] + ties["few"] == tuple(range(0, 100, 2))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 1, 2), (4, -1, 0), (3, 3, 4)])
def test_wrong_sizes(sizes):
  with pytest.raises(ValueError, match="add up to the 3 classes"):
    groups.by_rank([3, 2, 1], sizes=sizes)


def test_by_count_borders():
  got = groups.by_count([10, 101, 100, 11, 9, 500], many=100, few=10)
  assert got == {"many": (5, 1), "medium": (2, 3), "few": (0, 4)}


def test_by_count_empty_groups():
  assert groups.by_count([5, 5], many=5, few=5) == {
    "many": (),
    "medium": (),
    "few": (0, 1),
  }
  with pytest.raises(ValueError, match="few is 9 and many is 8"):
    groups.by_count([1], many=8, few=9)


def test_the_config_chooses_by_rank_or_by_count():
  counts = (101, 100, 11, 10)
  assert groups.choose(counts, sizes=(1, 1, 2)) == groups.by_rank(
    counts, (1, 1, 2)
  )
  assert groups.choose(counts) == groups.by_rank(counts)
  by_count = {"many": (0,), "medium": (1, 2), "few": (3,)}
  assert groups.choose(counts, limits=(100, 10)) == by_count
  for sizes, limits in (((1, 1, 2), (100, 10)), ((), (100,)), ((), (3, 2, 1))):
    with pytest.raises(ValueError, match="data.group_counts is .* two numbers"):
      groups.choose(counts, sizes=sizes, limits=limits)
  with pytest.raises(ValueError, match="few must not be above many"):
    groups.choose(counts, limits=(10, 100))


@pytest.mark.parametrize(
  "classes,sizes",
  [
    (1, (1, 0, 0)),
    (2, (2, 0, 0)),
    (3, (1, 1, 1)),
    (10, (4, 3, 3)),
    (100, (34, 33, 33)),
    (121, (41, 40, 40)),
    (200, (68, 66, 66)),
  ],
)
def test_thirds_round_the_rare_ones_down(classes, sizes):
  assert groups.thirds(classes) == sizes
  got = groups.by_rank(range(classes, 0, -1), sizes=sizes)
  assert tuple(map(len, got.values())) == sizes
