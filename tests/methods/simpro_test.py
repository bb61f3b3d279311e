"""SimPro: a slow loss, its estimates, the fixed point, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax.methods import simpro
from ltjax.trust import prior as priors


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def plugin(learner, *, variant="paper", **settings):
  config = toys.config(method="simpro", **toys.WEAK_STRONG_ONLY)
  config.simpro.update(settings)
  return simpro.make(learner, config)


def test_the_loss_is_that_of_the_equations(learner):
  made = plugin(learner, threshold=0.6)
  carried = made.init(learner.init())
  carried["pool"] = jnp.array([0.1, 0.2, 0.3, 0.4], jnp.float32)
  seen = seeing.drawn(learner, carried, labeled_views=2)
  x, w, s = seeing.host(seen)
  log_all = 2 * np.log(np.array(toys.LABELED) / 40)
  q = seeing.softmax(w + 2 * np.log([0.1, 0.2, 0.3, 0.4]))
  counts = q.max(1) >= 0.6
  labels = seeing.one_hot(seen.labels)[None]
  # 40 images of the pool by 16, 40 labeled ones by 8: a pass over the pool in
  # 2 steps is 0.4 of one over the labels.
  expected = seeing.entropy(labels, x + log_all).mean() / 0.4
  expected += (counts[None] * seeing.entropy(q[None], s + log_all)).mean()
  total, metrics, after = made.loss(seen)
  assert float(total) == pytest.approx(expected, rel=1e-5)
  assert float(metrics["mask"]) == pytest.approx(counts.mean())
  assert 0 < counts.mean() < 1
  np.testing.assert_allclose(after["guessed"], q[counts].sum(0), rtol=1e-5)
  np.testing.assert_array_equal(
    after["labeled"], np.bincount(np.asarray(seen.labels), minlength=4)
  )
  np.testing.assert_array_equal(after["pool"], carried["pool"])


def test_estimates_move_every_so_many_steps(learner):
  made = plugin(learner, threshold=0.0, every=3, smoothing=0.0)
  carried = made.init(learner.init())
  guessed, labeled = np.zeros(4), np.zeros(4)
  for step in range(3):
    seen = seeing.drawn(learner, carried, seed=step, labeled_views=2, step=step)
    guessed += seeing.softmax(np.asarray(seen.logits.weak)).sum(0)
    labeled += np.bincount(np.asarray(seen.labels), minlength=4)
    before = carried
    _, _, carried = made.loss(seen)
  pool = 0.9 * 0.25 + 0.1 * guessed / guessed.sum()
  both = guessed + labeled
  whole = 0.9 * np.asarray(before["all"]) + 0.1 * both / both.sum()
  np.testing.assert_allclose(carried["pool"], pool, rtol=1e-4)
  np.testing.assert_allclose(carried["all"], whole, rtol=1e-4)
  for name in ("guessed", "labeled"):
    np.testing.assert_array_equal(carried[name], np.zeros(4))


def test_the_published_estimate_leaks_and_ours_does_not():
  settings = simpro.Settings(smoothing=0.0, leak=True)
  counts = jnp.array([3.0, 0.0, 0.0, 1.0])
  np.testing.assert_allclose(simpro.share(counts, settings), counts / 5)
  kept = simpro.share(counts, simpro.Settings())
  assert float(jnp.sum(kept)) == pytest.approx(1)
  np.testing.assert_allclose(kept, np.array([4, 1, 1, 2]) / 8)
  nothing = simpro.share(jnp.zeros(4), settings)
  np.testing.assert_array_equal(nothing, np.zeros(4))


def test_the_fixed_point_is_the_likeliest_prior(learner):
  """With all counted and tau 1 it is EM's, damped."""
  rng = np.random.default_rng(0)
  true = np.array([0.1, 0.2, 0.3, 0.4])
  classes = rng.choice(4, 600, p=true)
  logits = 2.0 * rng.normal(size=(600, 4)) + 3.0 * np.eye(4)[classes]
  logits = logits.astype(np.float32)
  made = plugin(
    learner, threshold=0.0, tau=1.0, every=1, momentum=0.5, smoothing=0.0
  )
  carried = made.init(learner.init())
  seen = seeing.drawn(learner, carried, labeled_views=2)
  seen = seen._replace(
    logits=seen.logits._replace(
      weak=jnp.asarray(logits), strong=jnp.asarray(logits)[None]
    )
  )
  step = jax.jit(lambda carried: made.loss(seen_with(seen, carried))[2])
  for _ in range(150):
    carried = step(carried)
  even = np.full(4, 0.25)
  found = priors.em(seeing.softmax(logits), source=even)
  np.testing.assert_allclose(carried["pool"], np.asarray(found), atol=2e-3)


def seen_with(seen, carried):
  return seen._replace(carried=carried)


def test_a_uniform_world_is_soft_fixmatch(learner):
  """Constant shifts change nothing, whatever tau."""
  even = jnp.full(4, 0.25)
  losses = []
  for tau in (0.0, 2.0):
    made = plugin(learner, tau=tau, threshold=0.6)
    carried = made.init(learner.init()) | {"all": even, "pool": even}
    seen = seeing.drawn(learner, carried, labeled_views=2)
    losses.append(float(made.loss(seen)[0]))
  assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_permuting_classes_permutes_estimates(learner):
  order = np.array([2, 0, 3, 1])
  made = plugin(learner, threshold=0.5, every=1)
  carried = made.init(learner.init())
  seen = seeing.drawn(learner, carried, labeled_views=2)
  total, _, after = made.loss(seen)
  moved = seen._replace(
    logits=jax.tree.map(lambda z: z[..., order], seen.logits),
    labels=jnp.asarray(np.argsort(order)[np.asarray(seen.labels)], jnp.int32),
    carried=jax.tree.map(lambda c: c[order], carried),
  )
  other, _, found = made.loss(moved)
  assert float(other) == pytest.approx(float(total), rel=1e-5)
  for name in after:
    np.testing.assert_allclose(found[name], after[name][order], rtol=1e-5)
