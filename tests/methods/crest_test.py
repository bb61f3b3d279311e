"""CReST: what a generation hands on, and to whom."""

import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax import methods
from ltjax.methods import crest


def slow(probabilities, counts, alpha):
  """Class by class, the most confident first."""
  labels = np.full(len(probabilities), -1)
  ranks = sorted(range(len(counts)), key=lambda k: -counts[k])
  for rank, k in enumerate(ranks):
    share = (counts[ranks[-1 - rank]] / max(counts)) ** (1 / alpha)
    mine = [i for i, p in enumerate(probabilities) if p.argmax() == k]
    mine.sort(key=lambda i: -probabilities[i].max())
    for i in mine[: int(share * len(mine) + 1e-9)]:
      labels[i] = k
  return labels


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("counts", [(100, 30, 10), (10, 100, 30)])
def test_of_rare_classes_more_is_handed_on(alpha, counts):
  rng = np.random.default_rng(0)
  probabilities = rng.dirichlet([2.0, 1.0, 0.7], 90).astype(np.float32)
  counts = np.array(counts)
  found = crest.select(probabilities, counts, alpha=alpha)
  np.testing.assert_array_equal(found, slow(probabilities, counts, alpha))
  rare = counts.argmin()
  everything = (probabilities.argmax(1) == rare).sum()
  assert (found == rare).sum() == everything > 0
  assert (found == counts.argmax()).sum() < (
    probabilities.argmax(1) == counts.argmax()
  ).sum()


def test_nobody_takes_a_class_and_equal_counts_hand_on_all():
  one = np.array([[0.9, 0.1, 0.0]] * 5, np.float32)
  found = crest.select(one, np.array([7, 7, 7]), alpha=3.0)
  np.testing.assert_array_equal(found, np.zeros(5))
  empty = crest.select(one, np.array([7, 0, 0]), alpha=3.0)
  np.testing.assert_array_equal(empty, -np.ones(5))


def config(**changes):
  usual = toys.WEAK_STRONG | {"crest__generations": 3}
  return toys.config(method="crest", **(usual | changes))


def test_generations_are_new_networks_that_learn_from_more_labels(tmp_path):
  learner, states = toys.learner(), []
  stages = methods.stages(learner, config())
  names = [stage.name for stage in stages]
  assert names == [
    "generation1/weak_strong",
    "generation1/pseudo_label",
    "generation2/weak_strong",
    "generation2/pseudo_label",
    "generation3/weak_strong",
  ]
  toys.execute(tmp_path, learner, toys.watched(stages, states))
  labeled = states[1]
  assert 0 < np.sum(labeled.pseudo_labels >= 0) < toys.M
  second = stages[2].init(labeled)
  toys.assert_same(second.params["backbone"], learner.init().backbone)
  arrays, stream = stages[2].prepare(labeled)
  np.testing.assert_array_equal(
    arrays["labels"][toys.N :], labeled.pseudo_labels
  )
  drawn = np.unique(
    np.concatenate([stream(e)[:, : toys.BATCH] for e in range(40)])
  )
  known = np.flatnonzero(np.asarray(arrays["labels"]) >= 0)
  np.testing.assert_array_equal(drawn, known)
  np.testing.assert_array_equal(
    arrays["counts"], np.bincount(np.asarray(arrays["labels"])[known])
  )


def test_crest_plus_aligns_with_a_prior_that_flattens():
  """Of a uniform mean prediction, with `pi^t`; t falls to the last power."""
  learner = toys.learner()
  stages = methods.stages(learner, config(crest__align=True))
  powers = [
    float(stage.init(learner.init()).extra["plugin"]["refinement"]["power"])
    for stage in stages
    if stage.steps
  ]
  assert powers == [1.0, 0.75, 0.5]
  made = crest._aligned(learner, 0.5)
  carried = made.init(learner.init())
  seen = seeing.drawn(learner, carried)
  logits, after = made.guess(seen, carried, seen.logits.weak)
  root = np.sqrt(toys.LABELED)
  mean = 0.999 / 4 + 0.001 * seeing.softmax(seen.logits.weak).mean(0)
  expected = seeing.softmax(seen.logits.weak) * (root / root.sum()) / mean
  expected /= expected.sum(1, keepdims=True)
  np.testing.assert_allclose(seeing.softmax(logits), expected, rtol=1e-4)
  np.testing.assert_allclose(after["mean"], jnp.asarray(mean), rtol=1e-5)


def test_pre_training_would_be_lost():
  with pytest.raises(ValueError, match="each generation of CReST is a new"):
    methods.stages(toys.learner(), config(pretrain__name="rotation"))
