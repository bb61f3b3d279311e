"""Nearest neighbors against a slow reference, and where votes are equal."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluation import knn
from ltjax.geometry import neighbors as nearest


def slow(queries, references, labels, k):
  """One query at a time, by Euclidean distance of vectors of length 1."""
  references = [r / np.linalg.norm(r) for r in np.float64(references)]
  found = []
  for query in np.float64(queries):
    query = query / np.linalg.norm(query)
    distances = [np.sqrt(np.sum((query - r) ** 2)) for r in references]
    nearest = [int(labels[i]) for i in np.argsort(distances)[:k]]
    votes = collections.Counter(nearest)
    most = max(votes.values())
    found.append(next(c for c in nearest if votes[c] == most))
  return np.array(found)


def random_set(seed, sizes, *, dim=5, classes=4):
  rng = np.random.default_rng(seed)
  arrays = [rng.normal(size=(n, dim)).astype(np.float32) for n in sizes]
  return *arrays, rng.integers(classes, size=sizes[1])


@pytest.mark.parametrize("k", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_of_a_slow_reference(k, seed):
  queries, references, labels = random_set(seed, (30, 50))
  got = knn.classify(queries, references, labels, neighbors=k, num_classes=4)
  assert got.dtype == np.int32
  np.testing.assert_array_equal(got, slow(queries, references, labels, k))


def test_one_neighbor_of_the_references_is_themselves():
  _, references, labels = random_set(0, (1, 40))
  got = knn.classify(references, references, labels, neighbors=1, num_classes=4)
  np.testing.assert_array_equal(got, labels)


def test_all_neighbors_are_the_largest_class():
  queries, references, _ = random_set(0, (9, 20))
  labels = np.array([2] * 11 + [0] * 9)
  got = knn.classify(queries, references, labels, neighbors=20, num_classes=4)
  np.testing.assert_array_equal(got, np.full(9, 2))


def test_golden_votes():
  references = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
  got = knn.probabilities(
    np.array([[2, 0.05]], np.float32),
    references,
    np.array([1, 1, 0, 2]),
    neighbors=3,
    num_classes=4,
  )
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, [[1 / 3, 2 / 3, 0, 0]], atol=1e-3)


@pytest.mark.parametrize("first, second", [(0, 3), (3, 0)])
def test_of_equal_votes_the_class_of_the_nearest_wins(first, second):
  """Whatever its number, and the share is the greatest alone."""
  angles = np.radians([1, 2, 3, 4, 5])
  references = np.stack([np.cos(angles), np.sin(angles)], 1)
  labels = np.array([first, second, second, first, 1])
  query = np.array([[1.0, 0.0]])
  settings = {"neighbors": 5, "num_classes": 4}
  got = knn.classify(query, references, labels, **settings)
  assert got == [first]
  shares = knn.probabilities(query, references, labels, **settings)[0]
  assert shares[first] > shares[second] > shares[1]
  np.testing.assert_allclose(
    shares[[first, second, 1]], [0.4, 0.4, 0.2], atol=3e-4
  )


def test_more_votes_beat_the_nearest():
  angles = np.radians([1, 2, 3])
  references = np.stack([np.cos(angles), np.sin(angles)], 1)
  got = knn.classify(
    np.array([[1.0, 0.0]]),
    references,
    np.array([0, 1, 1]),
    neighbors=3,
    num_classes=2,
  )
  assert got == [1]


def test_shares_are_distributions():
  queries, references, labels = random_set(2, (30, 50))
  got = knn.probabilities(
    queries, references, labels, neighbors=7, num_classes=4
  )
  np.testing.assert_allclose(got.sum(1), 1, atol=1e-6)
  np.testing.assert_allclose(got * 7, np.round(got * 7), atol=2e-3)


def test_lengths_play_no_role():
  queries, references, labels = random_set(3, (30, 50))
  lengths = np.random.default_rng(0).uniform(1e-4, 1e4, (50, 1))
  one, other = (
    knn.classify(q, r, labels, neighbors=5, num_classes=4)
    for q, r in ((queries, references), (queries * 1e6, references * lengths))
  )
  np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("num", [1, 6, 7, 8, 20])
def test_chunks_do_not_show_and_compile_once(num, monkeypatch):
  """In chunks of 7, the last one filled up."""
  queries, references, labels = random_set(4, (num, 50))
  settings = {"neighbors": 5, "num_classes": 4}
  whole = knn.probabilities(queries, references, labels, **settings)
  monkeypatch.setattr(knn, "_CELLS", 7 * 50 + 3)
  shapes = []

  def shares(padded, *args, inner=nearest.shares, **choices):
    shapes.append(padded.shape)
    return inner(padded, *args, **choices)

  monkeypatch.setattr(nearest, "shares", shares)
  got = knn.probabilities(queries, references, labels, **settings)
  assert got.shape == (num, 4)
  np.testing.assert_array_equal(got, whole)
  assert shapes == [(7, 5)] * -(-num // 7)


def test_no_queries():
  _, references, labels = random_set(5, (1, 9))
  got = knn.probabilities(
    np.zeros((0, 5)), references, labels, neighbors=2, num_classes=4
  )
  assert got.shape == (0, 4)


def test_extremes_stay_finite():
  """Dead features, bf16, and a class that no reference has."""
  queries = jnp.concatenate(
    [jnp.zeros((2, 5)), jnp.full((2, 5), 1e18), jnp.eye(5)]
  )
  references = jax.random.normal(jax.random.key(0), (20, 5), jnp.bfloat16)
  labels = np.arange(20) % 3
  for x in (queries, queries.astype(jnp.bfloat16)):
    got = knn.probabilities(x, references, labels, neighbors=4, num_classes=6)
    assert np.all(np.isfinite(got))
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-6)
    assert np.all(got[:, 3:] == 0)


@pytest.mark.parametrize("k", [0, -3])
def test_a_neighbor_is_needed(k):
  with pytest.raises(ValueError, match=f"neighbors is {k}; it must be 1 or"):
    knn.classify(*random_set(0, (2, 9)), neighbors=k, num_classes=4)


def test_more_neighbors_than_references_are_refused():
  message = "neighbors is 10, but there are only 9 .* to 9 or less"
  with pytest.raises(ValueError, match=message):
    knn.classify(*random_set(0, (2, 9)), neighbors=10, num_classes=4)
