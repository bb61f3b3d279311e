"""Scores known by hand, and the core-set against its definition."""

import itertools

import numpy as np
import pytest

from ltjax.suggest import ranking

GIVEN = np.array([[0.5, 0.25, 0.25], [0.98, 0.01, 0.01], [0.4, 0.35, 0.25]])


def test_scores_golden():
  np.testing.assert_allclose(ranking.margin(GIVEN), [0.75, 0.03, 0.95])
  np.testing.assert_allclose(ranking.rare(GIVEN, (1, 2)), [0.5, 0.02, 0.6])
  even, sure = np.full((1, 4), 0.25), np.eye(4)[:1]
  np.testing.assert_allclose(ranking.entropy(np.r_[even, sure]), [1, 0])
  # Two bits less half a bit, of log2(3).
  np.testing.assert_allclose(ranking.entropy(GIVEN[:1]), [1.5 / np.log2(3)])


def test_no_few_shot_classes_are_no_score_of_0():
  with pytest.raises(ValueError, match="no few-shot classes"):
    ranking.rare(GIVEN, ())


def slow(features, known, number):
  """The farthest of all from its nearest center, by every distance."""
  centers, chosen, distances = list(known), [], []
  for _ in range(number):
    far = [
      -1.0
      if i in chosen
      else min((np.linalg.norm(x - c) for c in centers), default=np.inf)
      for i, x in enumerate(features)
    ]
    chosen.append(int(np.argmax(far)))
    distances.append(max(far))
    centers.append(features[chosen[-1]])
  return chosen, distances


@pytest.mark.parametrize("known", [0, 1, 7])
def test_a_coreset_is_the_farthest_each_time(known):
  rng = np.random.default_rng(known)
  x, old = rng.normal(size=(30, 3)), rng.normal(size=(known, 3))
  chosen, distances = ranking.coreset(x, old, 12)
  expected, far = slow(x, old, 12)
  assert chosen.tolist() == expected
  np.testing.assert_allclose(distances, far, rtol=1e-4)


def test_a_coreset_is_at_most_twice_as_wide_as_the_best():
  rng = np.random.default_rng(5)
  x = rng.normal(size=(10, 2))
  between = np.linalg.norm(x[:, None] - x[None], axis=2)
  best = min(
    between[:, list(c)].min(1).max()
    for c in itertools.combinations(range(10), 3)
  )
  chosen, _ = ranking.coreset(x, np.zeros((0, 2)), 3)
  assert between[:, chosen].min(1).max() <= 2 * best


def test_no_picture_is_chosen_twice():
  chosen, distances = ranking.coreset(np.ones((4, 2)), np.ones((2, 2)), 9)
  assert sorted(chosen.tolist()) == [0, 1, 2, 3]
  np.testing.assert_array_equal(distances, 0)
