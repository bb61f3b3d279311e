"""DARP: when guesses are refined, to what numbers, and bad input."""

import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax.methods import darp, fixmatch


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def refinement(learner, **settings):
  return darp.refinement(learner, darp.Settings(**settings))


def test_guesses_of_the_pool_get_the_target_numbers(learner):
  made = refinement(learner, begin=0.0, target="uniform", alpha=np.inf)
  carried = made.init(learner.init())
  rng = np.random.default_rng(0)
  skewed = rng.dirichlet([8.0, 2.0, 1.0, 0.5], toys.M).astype(np.float32)
  carried["guesses"] = jnp.asarray(skewed)
  seen = seeing.drawn(learner, carried, step=0)
  logits, after = made.guess(seen, carried, seen.logits.weak)
  np.testing.assert_allclose(
    np.asarray(after["refined"]).sum(0), np.full(4, toys.M / 4), atol=0.05
  )
  index = np.asarray(seen.index)
  np.testing.assert_allclose(
    seeing.softmax(logits), np.asarray(after["refined"])[index], atol=1e-5
  )
  expected = skewed.copy()
  expected[index] = seeing.softmax(seen.logits.weak)
  np.testing.assert_allclose(after["guesses"], expected, atol=1e-6)


def test_it_begins_late_and_comes_every_so_many_steps(learner):
  made = refinement(learner, begin=0.5, every=4)  # of the 20 steps
  carried = made.init(learner.init())
  changed = []
  for step in range(8, 20):
    seen = seeing.drawn(learner, carried, seed=step, step=step)
    logits, after = made.guess(seen, carried, seen.logits.weak)
    if step < 10:
      np.testing.assert_array_equal(logits, seen.logits.weak)
    changed.append(toys.differ(after["refined"], carried["refined"]))
    carried = after
  assert [8 + i for i, new in enumerate(changed) if new] == [10, 14, 18]


def test_shares_are_those_of_the_labels_even_or_given():
  labeled = (6, 3, 1)
  shares = [
    darp.shares(darp.Settings(target=target, shares=given), labeled)
    for target, given in (
      ("labeled", ()),
      ("uniform", ()),
      ("given", (0.2, 0.3, 0.5)),
    )
  ]
  expected = [[0.6, 0.3, 0.1], [1 / 3] * 3, [0.2, 0.3, 0.5]]
  np.testing.assert_allclose(shares, expected)


@pytest.mark.parametrize(
  "given, message",
  [
    ((0.5, 0.5), "holds 2 numbers, and there are 3 classes"),
    ((0.5, 0.6, 0.1), "of sum 1.2"),
    ((1.5, -0.5, 0.0), "the least -0.5"),
  ],
)
def test_a_prior_that_is_none_is_refused(given, message):
  settings = darp.Settings(target="given", shares=given)
  with pytest.raises(ValueError, match=message):
    darp.shares(settings, (6, 3, 1))


def test_before_it_begins_the_loss_is_fixmatchs(learner):
  config = toys.config(method="darp")
  config.darp.begin = 1.0
  made = darp.make(learner, config)
  seen = seeing.drawn(learner, made.init(learner.init()), step=3)
  plain = fixmatch.make(learner, toys.config(method="fixmatch"))
  other = seeing.drawn(learner, plain.init(learner.init()), step=3)
  assert float(made.loss(seen)[0]) == float(plain.loss(other)[0])
