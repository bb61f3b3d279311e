"""What is said of held-out images does not depend on their labels."""

import numpy as np
import pytest
from scipy import optimize, special

from ltjax.trust import cross_validation as cv


def draw(seed, counts=(30, 12, 6), dim=4):
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(len(counts)), counts)
  x = (
    rng.normal(size=(len(labels), dim)) + 1.5 * np.eye(len(counts), dim)[labels]
  )
  return x.astype(np.float32), labels


def test_groups_stay_together_and_classes_are_spread():
  rng = np.random.default_rng(0)
  group_class = np.repeat([0, 1, 2], [12, 8, 5])
  sizes = rng.integers(1, 5, 25)
  groups, labels = (
    np.repeat(np.arange(25), sizes),
    np.repeat(group_class, sizes),
  )
  fold = cv.folds(labels, groups, 5, seed=0)
  for group in range(25):
    assert len(set(fold[groups == group])) == 1
  for c in range(3):
    counts = np.bincount(fold[labels == c], minlength=5)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 2 * sizes.max()


def test_what_is_alone_is_never_held_out():
  labels = np.array([0, 0, 0, 1, 2, 2, 0])
  assert cv.folds(labels, None, 2, seed=0)[3] == -1
  # Class 2 is one group, which has an image of class 0 as well.
  groups = np.array([0, 1, 2, 3, 4, 4, 4])
  fold = cv.folds(labels, groups, 2, seed=0)
  assert fold[[3, 4, 5, 6]].tolist() == [-1] * 4
  assert set(fold[:3]) == {0, 1}


def test_a_label_has_no_say_in_its_own_probabilities():
  x, labels = draw(0)
  plain, held = cv.probabilities(x, labels, num_classes=3)
  assert held.all()
  other = labels.copy()
  other[4] = 1
  fold = cv.folds(labels, None, 5, seed=0)
  # The same folds: what changes is what the others learn.
  heads = [
    cv.solve(x, y, fold, num_classes=3, loss=cv.cross_entropy)[fold[4]]
    for y in (labels, other)
  ]
  for a, b in zip(*heads):
    np.testing.assert_array_equal(a["kernel"], b["kernel"])
  np.testing.assert_allclose(plain.sum(1), 1, rtol=1e-6)
  assert (plain.argmax(1) == labels).mean() > 0.6


def test_heads_are_the_minimum_of_the_loss():
  x, labels = draw(1)
  fold = np.arange(len(labels)) % 2
  heads = cv.solve(
    x, labels, fold, num_classes=3, loss=cv.cross_entropy, grid=(0.1, 0.01)
  )

  def objective(flat, learned, l2):
    kernel, bias = flat[:12].reshape(4, 3), flat[12:]
    logs = special.log_softmax(x[learned] @ kernel + bias, axis=1)
    own = logs[np.arange(learned.sum()), labels[learned]]
    return -own.sum() / len(x) + l2 / 2 * (kernel**2).sum()

  for held, place in ((0, 0), (1, 1)):
    learned, l2 = fold != held, (0.1, 0.01)[place]
    best = optimize.minimize(objective, np.zeros(15), (learned, l2))
    head = heads[held][place]
    got = np.append(np.ravel(head["kernel"]), head["bias"])
    assert objective(got, learned, l2) == pytest.approx(best.fun, abs=1e-5)


def test_a_folds_penalty_is_chosen_on_the_others():
  labels = np.array([0, 1, 0, 1, 0, 1])
  fold = np.array([0, 0, 1, 1, 2, 2])
  # Penalty 0 is right in fold 0 alone, 1 in fold 1 alone, 2 nowhere.
  right = {(0, 0), (1, 1)}

  def logits(held, place, own):
    said = labels[own] if (held, place) in right else 1 - labels[own]
    return np.eye(2, dtype=np.float32)[said]

  found, places = cv.choose(
    logits, labels, fold, num_classes=2, grid=(1.0, 0.1, 0.01)
  )
  assert places == [1, 0, 0] and found.penalties == (0.1, 1.0, 1.0)
  assert (found.logits.argmax(1) == labels).sum() == 0
