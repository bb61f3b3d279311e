"""The best linear classifier, against scikit-learn's and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model

from ltjax.losses import adjustment, classification
from ltjax.models import heads
from ltjax.stages import linear

HEAD = heads.linear(4, 3)
ZEROS = jax.tree.map(jnp.zeros_like, HEAD.init(jax.random.key(0)))
COUNTS = (40, 12, 5)


def cross_entropy(logits, labels, counts, weights):
  losses = classification.cross_entropy(logits, labels)
  return jnp.sum(losses * weights) / jnp.sum(weights)


def balanced_softmax(logits, labels, counts, weights):
  prior = adjustment.prior(counts)
  losses = adjustment.logit_adjustment(logits, labels, prior=prior, tau=1.0)
  return jnp.sum(losses * weights) / jnp.sum(weights)


def data(seed=0):
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(3), COUNTS)
  x = rng.normal(size=(len(labels), 4)) + 1.5 * np.eye(3, 4)[labels]
  return x.astype(np.float32), labels.astype(np.int32)


def fit(x, y, weights=None, *, l2, loss=cross_entropy, steps=300):
  ones = np.ones(len(y), np.float32) if weights is None else weights
  return linear.fit(
    *map(jnp.asarray, (x, y, ones)),
    l2=l2,
    head=ZEROS,
    apply=HEAD.apply,
    loss=loss,
    steps=steps,
  )


@pytest.mark.parametrize("l2", [0.3, 0.01])
def test_equals_scikit_learn(l2):
  x, y = data()
  found = fit(x, y, l2=l2)
  settings = {"C": 1 / (l2 * len(y)), "tol": 1e-8, "max_iter": 5000}
  known = linear_model.LogisticRegression(**settings).fit(x, y)
  np.testing.assert_allclose(found["kernel"], known.coef_.T, atol=2e-3)
  bias = found["bias"] - jnp.mean(found["bias"])[None]
  expected = known.intercept_ - known.intercept_.mean()
  np.testing.assert_allclose(bias, expected, atol=2e-3)


def test_weights_of_0_leave_examples_out():
  x, y = data()
  kept = np.arange(len(y)) % 3 != 0
  part = fit(x[kept], y[kept], l2=0.1, loss=balanced_softmax)
  weights = kept.astype(np.float32)
  whole = fit(x, y, weights, l2=0.1, loss=balanced_softmax)
  for name in part:
    np.testing.assert_allclose(whole[name], part[name], atol=1e-3)


def test_balanced_softmax_finds_the_rare_class():
  x, y = data()
  test = np.repeat(np.arange(3), 200)
  rng = np.random.default_rng(1)
  seen = rng.normal(size=(600, 4)) + 1.5 * np.eye(3, 4)[test]
  recall = []
  for loss in (cross_entropy, balanced_softmax):
    logits = HEAD.apply(fit(x, y, l2=0.05, loss=loss), jnp.float32(seen))
    recall.append(np.mean(np.argmax(logits, 1)[test == 2] == 2))
  assert recall[1] > recall[0] + 0.1


def test_a_large_penalty_leaves_the_shares():
  x, y = data()
  found = fit(x, y, l2=1e4)
  assert jnp.max(jnp.abs(found["kernel"])) < 1e-3
  shares = jax.nn.softmax(found["bias"])
  np.testing.assert_allclose(shares, np.array(COUNTS) / len(y), atol=1e-3)


def test_folds_spread_each_class():
  labels = np.repeat([0, 1, 2], [10, 4, 1])
  found = linear.folds(labels, 4, seed=3)
  assert found[-1] == -1
  for label, most, least in ((0, 3, 2), (1, 1, 1)):
    counts = np.bincount(found[labels == label], minlength=4)
    assert counts.max() == most and counts.min() == least
  np.testing.assert_array_equal(found, linear.folds(labels, 4, seed=3))
  assert np.any(found != linear.folds(labels, 4, seed=4))


def test_class_mean():
  values = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], np.float64)
  found = linear.class_mean(values, np.array([0, 0, 0, 3]))
  np.testing.assert_allclose(found, [(2 / 3 + 1) / 2, 0.5])
