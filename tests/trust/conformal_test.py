"""Conformal sets: their coverage by simulation, and small cases by hand."""

import math

import numpy as np
import pytest

from ltjax.trust import conformal


def draw(counts, seed):
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(3), counts)
  scores = rng.normal(size=(len(labels), 3)) + 1.2 * np.eye(3)[labels]
  given = np.exp(scores + np.array([2.0, 0, -1]))  # a model for the head
  return given / given.sum(1, keepdims=True), labels


def test_golden():
  # Scores of class 0: 0.1, 0.2, 0.3, 0.4; the third of four at alpha 0.4.
  right = np.array([0.9, 0.7, 0.8, 0.6])
  given = np.stack([right, 1 - right], 1)
  found = conformal.thresholds(given, np.zeros(4, int), alpha=0.4)
  np.testing.assert_allclose(found, [0.3, np.inf])
  sets = conformal.sets([[0.75, 0.25], [0.65, 0.35]], found)
  assert sets.tolist() == [[True, True], [False, True]]


def slow_quantile(scores, alpha):
  """The least score that enough of the others, and a new one, are below."""
  for score in sorted(scores):
    if sum(s <= score for s in scores) >= (len(scores) + 1) * (1 - alpha):
      return score
  return math.inf


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25, 0.5, 0.99])
def test_the_quantile_is_its_definition(alpha):
  given, labels = draw([40, 11, 3], 0)
  found = conformal.thresholds(given, labels, alpha=alpha)
  slow = [slow_quantile(1 - given[labels == c, c], alpha) for c in range(3)]
  np.testing.assert_array_equal(found, slow)


def test_every_class_is_covered_on_average():
  covered = []
  for seed in range(300):
    limits = conformal.thresholds(*draw([30, 12, 9], seed), alpha=0.2)
    given, labels = draw([20, 20, 20], 1000 + seed)
    sets = conformal.sets(given, limits)
    hit = sets[np.arange(60), labels]
    covered.append([hit[labels == c].mean() for c in range(3)])
  # Between 1 - alpha and that plus 1 / (n + 1): 25/31, 11/13 and 8/10.
  np.testing.assert_allclose(
    np.mean(covered, 0), [25 / 31, 11 / 13, 0.8], atol=0.03
  )


def test_it_takes_so_many_images_to_leave_a_class_out():
  for n, finite in ((8, False), (9, True), (18, False), (19, True)):
    alpha = 0.1 if n < 10 else 0.05
    given = np.tile([[0.9, 0.1]], (n, 1))
    found = conformal.thresholds(given, np.zeros(n, int), alpha=alpha)
    assert np.isfinite(found[0]) == finite
  assert conformal.always(found, ["a", "b"]) == ["b"]


def test_a_perfect_model_has_sets_of_one_class():
  labels = np.repeat([0, 1], 20)
  limits = conformal.thresholds(np.eye(2)[labels], labels)
  sets = conformal.sets(np.array([[1.0, 0.0], [0.5, 0.5]]), limits)
  assert sets.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("alpha", [0, 1, np.nan])
def test_alpha_out_of_range(alpha):
  with pytest.raises(ValueError, match=r"alpha is .*; it must be in \(0, 1\)"):
    conformal.thresholds(np.eye(2), np.array([0, 1]), alpha=alpha)


def test_other_bad_input():
  with pytest.raises(ValueError, match=r"labels\[1\] is 2"):
    conformal.thresholds(np.eye(2), np.array([0, 2]))
  for bad in (np.zeros(3), np.array([0, np.nan])):
    with pytest.raises(ValueError, match="a number for each of 2 classes"):
      conformal.sets(np.eye(2), bad)
