"""Confident learning: by hand, against its equations, and on flipped labels."""

import numpy as np
import pytest
from scipy import special

from ltjax.suggest import label_errors

# Thresholds 0.6 and 0.7: means of the column over the images of that label.
GIVEN = np.array([[0.8, 0.2], [0.4, 0.6], [0.25, 0.75], [0.35, 0.65]])
LABELS = np.array([0, 0, 1, 1])


def test_golden():
  given = np.vstack([GIVEN, [[0.1, 0.9]]])
  found = label_errors.find(given, np.append(LABELS, 0))
  # Thresholds (0.8 + 0.4 + 0.1) / 3 and 0.7. Image 4 is labeled 0 and counts
  # as 1; image 1 has 0.6 of class 1, which is not enough.
  assert found.images.tolist() == [4] and found.classes.tolist() == [1]
  np.testing.assert_allclose(found.scores, [0.8])
  # Counted 1 and 1 of label 0, 0 and 1 of label 1.
  np.testing.assert_allclose(found.joint, [[0.3, 0.3], [0.0, 0.4]])


def slow(given, labels):
  num, classes = given.shape
  limits = []
  for j in range(classes):
    own = [given[i, j] for i in range(num) if labels[i] == j]
    limits.append(np.mean(own) if own else np.inf)
  counted = np.zeros((classes, classes))
  found = {}
  for i in range(num):
    over = [j for j in range(classes) if given[i, j] >= limits[j]]
    if over:
      best = max(over, key=lambda j: (given[i, j], -j))
      counted[labels[i], best] += 1
      if best != labels[i]:
        found[i] = best
  return found, counted


@pytest.mark.parametrize("seed", range(4))
def test_suspects_are_those_of_the_equations(seed):
  rng = np.random.default_rng(seed)
  labels = rng.choice(4, 60, p=[0.6, 0.3, 0.1, 0.0])  # one without images
  given = rng.dirichlet(np.ones(4), 60)
  given[np.arange(60), labels] += 0.3
  given /= given.sum(1, keepdims=True)
  found = label_errors.find(given, labels)
  expected, counted = slow(given, labels)
  assert dict(zip(found.images.tolist(), found.classes.tolist())) == expected
  assert len(expected) > 3
  assert (np.diff(found.scores) <= 0).all()
  np.testing.assert_allclose(found.joint.sum(), 1)
  np.testing.assert_allclose(
    found.joint.sum(1), np.bincount(labels, minlength=4) / 60
  )
  rows = counted.sum(1) > 0
  np.testing.assert_allclose(
    (found.joint / found.joint.sum(1, keepdims=True).clip(1e-9))[rows],
    (counted / counted.sum(1, keepdims=True).clip(1e-9))[rows],
  )


def test_flipped_labels_are_found_and_rare_classes_are_not_blamed():
  rng = np.random.default_rng(0)
  truth = np.repeat([0, 1, 2], [300, 60, 12])
  z = rng.normal(size=(372, 3)) + 8 * np.eye(3)[truth]
  # Of rare images the probabilities are low, as a long tail makes them.
  given = special.softmax(z + np.log([300, 60, 0.2]), axis=1)
  labels = truth.copy()
  flipped = np.array([3, 40, 77, 150, 310])
  labels[flipped] = (truth[flipped] + 1) % 2
  found = label_errors.find(given, labels)
  assert set(found.images.tolist()) == set(flipped.tolist())
  np.testing.assert_array_equal(found.classes, truth[found.images])
  assert (given[truth == 2].argmax(1) == 0).any()  # not all are right


def test_perfect_predictions_have_no_suspects():
  found = label_errors.find(np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 2]))
  assert not len(found.images)
  np.testing.assert_allclose(found.joint, np.diag([0.25, 0.25, 0.5]))
