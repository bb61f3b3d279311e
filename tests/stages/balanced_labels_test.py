"""Pseudo labels in the numbers that the pool lets expect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.stages import balanced_labels


def slow_prior(p, iterations):
  prior = [1 / p.shape[1]] * p.shape[1]
  for _ in range(iterations):
    new = [0.0] * len(prior)
    for row in p:
      total = sum(a * b for a, b in zip(row, prior))
      for c, value in enumerate(row):
        new[c] += value * prior[c] / total / len(p)
    prior = new
  return prior


def test_prior_against_a_slow_one():
  p = np.random.default_rng(0).dirichlet((0.5, 0.3, 0.8), size=20)
  found = balanced_labels.estimate_prior(jnp.float32(p), iterations=25)
  np.testing.assert_allclose(found, slow_prior(p, 25), rtol=1e-4)


def test_prior_of_a_long_tail_is_found():
  # Bayes' posteriors of a balanced world, of points from a skewed one.
  rng = np.random.default_rng(0)
  labels = rng.choice(3, size=20000, p=[0.8, 0.15, 0.05])
  x = rng.normal(size=(20000, 3)) + 1.5 * np.eye(3)[labels]
  posterior = jax.nn.softmax(jnp.float32(1.5 * x))
  found = balanced_labels.estimate_prior(posterior)
  np.testing.assert_allclose(found, [0.8, 0.15, 0.05], atol=0.015)
  np.testing.assert_allclose(jnp.sum(found), 1, rtol=1e-5)


def test_labeled_images_count_as_if_they_were_of_the_pool():
  sure = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
  seen = np.array([1, 2, 3])
  found = balanced_labels.estimate_prior(sure, seen=seen)
  np.testing.assert_allclose(found, [0.4, 0.3, 0.3], atol=1e-6)


def test_prior_of_sure_labels_is_their_shares():
  sure = np.eye(3, dtype=np.float32)[[0, 0, 0, 1]]
  found = balanced_labels.estimate_prior(sure)
  np.testing.assert_allclose(found, [0.75, 0.25, 0], atol=1e-6)


def test_the_most_certain_are_kept():
  p = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
  prior = np.array([0.6, 0.4])
  labels = balanced_labels.select(p, prior, keep=1.0)
  assert labels.tolist() == [0, 0, 0, 1, 1] and labels.dtype == np.int32
  labels = balanced_labels.select(p, prior, keep=0.7)
  assert labels.tolist() == [0, -1, 0, 1, -1]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_one_image_at_least_and_none_of_a_class_without(share):
  p = np.array([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0]])
  labels = balanced_labels.select(p, np.array([1, share, 1]), keep=0.5)
  assert labels.tolist() == [0, 1]
