"""Label propagation against dense algebra and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.stages import label_propagation as lp


def features(count=30, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, 5)).astype(np.float32)


def slow_graph(x, neighbors, gamma):
  """One pair of images at a time."""
  x = np.float64(x) / np.linalg.norm(x, axis=1, keepdims=True)
  edges = np.zeros((len(x), len(x)))
  for i, own in enumerate(x):
    cosines = {j: own @ other for j, other in enumerate(x) if j != i}
    for j in sorted(cosines, key=cosines.get)[-neighbors:]:
      edges[i, j] = max(cosines[j], 0) ** gamma
  edges += edges.T
  degrees = edges.sum(1)
  for i in range(len(x)):
    for j in range(len(x)):
      edges[i, j] /= max(np.sqrt(degrees[i] * degrees[j]), 1e-12)
  return edges


@pytest.mark.parametrize(("neighbors", "gamma"), [(1, 1.0), (4, 3.0), (29, 2)])
def test_graph(neighbors, gamma, monkeypatch):
  monkeypatch.setattr(lp, "_CHUNK", 7)
  x = features()
  found = lp.graph(jnp.asarray(x), neighbors=neighbors, gamma=gamma).toarray()
  expected = slow_graph(x, neighbors, gamma)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(found, found.T, atol=1e-12)
  assert np.all(np.diag(found) == 0)


def test_a_graph_by_hand():
  x = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
  found = lp.graph(x, neighbors=1, gamma=1.0).toarray()
  # 0 -> 1 (0.6), 1 -> 2 (0.8), 2 -> 1 (0.8): sums 0.6 and 1.6.
  a, b = 0.6 / np.sqrt(0.6 * 2.2), 1.6 / np.sqrt(2.2 * 1.6)
  np.testing.assert_allclose(
    found, [[0, a, 0], [a, 0, b], [0, b, 0]], atol=1e-6
  )


@pytest.mark.parametrize("alpha", [0.3, 0.9, 0.99])
def test_conjugate_gradients_equal_a_dense_solution(alpha):
  w = lp.graph(jnp.asarray(features()), neighbors=5, gamma=3.0)
  labels = np.zeros((6, 3))
  labels[np.arange(6), [0, 0, 0, 1, 1, 2]] = [1 / 3] * 3 + [1 / 2] * 2 + [1]
  target = np.zeros((30, 3))
  target[:6] = labels
  expected = np.linalg.solve(np.eye(30) - alpha * w.toarray(), target)
  found = lp.propagate(w, labels, alpha=alpha, iterations=60)
  np.testing.assert_allclose(found, expected, atol=1e-8)
  early = lp.propagate(w, labels, alpha=alpha, iterations=1)
  assert not np.allclose(early, expected, atol=1e-3)


def test_labels_that_flow_no_further_are_those_of_labeled_neighbors():
  w = lp.graph(jnp.asarray(features()), neighbors=5, gamma=3.0)
  labels = np.eye(3)[[0, 1, 2, 0, 1, 2]]
  reached = lp.propagate(w, labels, alpha=1e-6, iterations=20)[6:]
  votes = w.toarray()[6:, :6] @ labels
  met = votes.max(1) > 0
  assert 3 < met.sum() < len(met)
  np.testing.assert_array_equal(reached[met].argmax(1), votes[met].argmax(1))
  # What has no labeled neighbor hears of labels a millionth as much.
  assert reached[~met].max() < 1e-3 * reached[met].max(1).min()


def test_a_class_without_labels_reaches_nobody():
  w = lp.graph(jnp.asarray(features()), neighbors=5, gamma=3.0)
  labels = np.eye(3)[[0, 1, 0]]
  reached = lp.propagate(w, labels, alpha=0.9, iterations=20)
  assert np.all(reached[:, 2] == 0) and np.all(np.isfinite(reached))


def test_certainty():
  reached = np.array([[2.0, 2.0], [3.0, 0.0], [0.0, 0.0], [1.0, 3.0]])
  labels, sure = lp.certainty(reached)
  assert labels.tolist() == [0, 0, -1, 1] and labels.dtype == np.int32
  entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
  np.testing.assert_allclose(sure, [0, 1, 0, 1 - entropy], atol=1e-12)


def test_weights_are_of_sure_images_and_of_equal_classes():
  labels = np.array([0, 0, 0, 1, -1])
  found = lp.weigh(labels, np.array([1.0, 1.0, 0.25, 1.0, 1.0]), 3)
  # In thirds 1, 1, 1/4 and 3, in all 21/12 of four images.
  expected = np.array([1 / 3, 1 / 3, 1 / 12, 1, 0]) * 4 / (21 / 12)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert found.dtype == np.float32
