"""ACR: a slow loss, the comparison with anchors, limits."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax.methods import acr


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def plugin(learner, **settings):
  config = toys.config(method="acr")
  config.acr.update(settings)
  return acr.make(learner, config)


def given(learner, made, **changes):
  return seeing.drawn(learner, made.init(learner.init()), **changes)


PI = np.array(toys.LABELED) / sum(toys.LABELED)


def test_the_loss_is_that_of_the_paper(learner):
  made = plugin(learner, threshold=0.95)
  carried = made.init(learner.init()) | {"strength": jnp.float32(0.7)}
  seen = seeing.drawn(learner, carried)
  x, w, s = seeing.host(seen)
  own_x, own_w, own_s = (
    np.asarray(learner.model.head_apply(seen.params["balanced_head"], f))
    for f in seen.features
  )
  log_pi, y = np.log(PI), seeing.one_hot(seen.labels)
  supervised = np.mean(
    seeing.entropy(y, x[0]) + seeing.entropy(y, own_x[0] + 2 * log_pi)
  )
  consistency, first = 0.0, 0
  for i in range(seeing.U):
    mild, full = w[i] - 0.7 * log_pi, w[i] - 2 * log_pi

    def top(z):
      return seeing.softmax(z).max()

    if max(top(mild), top(w[i])) >= 0.95:
      first += 1
      q = seeing.one_hot(mild.argmax())
      consistency += seeing.entropy(q, s[:, i]).sum() / (2 * seeing.U)
    if max(top(full), top(own_w[i])) >= 0.95:
      q = seeing.one_hot(full.argmax())
      consistency += seeing.entropy(q, own_s[:, i]).sum() / (2 * seeing.U)
  total, metrics, _ = made.loss(seen)
  assert float(total) == pytest.approx(supervised + consistency, rel=1e-5)
  assert float(metrics["mask"]) == pytest.approx(first / seeing.U)
  assert 0 < first < seeing.U


@pytest.mark.parametrize("counting", ["images", "presence"])
def test_the_pool_is_compared_as_counted(learner, counting):
  made = plugin(learner, threshold=0.0, counting=counting, begin=0.0)
  seen = given(learner, made)
  full = np.asarray(seen.logits.weak) - 2 * np.log(PI)
  found = np.bincount(full.argmax(1), minlength=toys.C).astype(float)
  if counting == "presence":
    found = (found > 0).astype(float)
  pool = 0.9 / toys.C + 0.1 * found / found.sum()
  _, _, carried = made.loss(seen)
  np.testing.assert_allclose(carried["pool"], pool, rtol=1e-5)
  reverse = PI[::-1]  # the toy's classes fall in size
  for place, anchor in enumerate((PI, np.full(4, 0.25), reverse)):
    both = ((anchor - pool) * np.log(anchor / pool)).sum() / 2
    assert float(carried["distances"][place]) == pytest.approx(both, rel=1e-4)


def test_before_the_comparison_begins_nothing_moves(learner):
  made = plugin(learner, threshold=0.0, begin=0.6)
  before = made.init(learner.init())
  _, _, carried = made.loss(seeing.drawn(learner, before, progress=0.5))
  for name, value in before.items():
    np.testing.assert_array_equal(value, carried[name])


@pytest.mark.parametrize(
  "distances, share", [((1.0, 1.0, 1.0), 1 / 3), ((900.0, 0.0, 0.0), 1.0)]
)
def test_the_strength_is_set_once_an_epoch(learner, distances, share):
  """From the mean over the epoch's 10 steps: of equal ones, a third of tau."""
  made = plugin(learner)
  before = made.init(learner.init())
  before |= {"distances": jnp.asarray(distances, jnp.float32)}
  _, _, carried = made.loss(seeing.drawn(learner, before, fresh=False))
  assert float(carried["strength"]) == 2.0
  _, _, carried = made.loss(seeing.drawn(learner, before, fresh=True))
  assert float(carried["strength"]) == pytest.approx(2 * share, rel=1e-3)
  assert float(jnp.max(carried["distances"])) < 1  # the sum begins anew


def test_of_equal_counts_both_heads_have_the_same_targets():
  """Nothing is adjusted, and the anchors are one."""
  learner = toys.learner()
  split = dataclasses.replace(learner.task.split)
  object.__setattr__(split, "labeled_counts", (10, 10, 10, 10))
  task = dataclasses.replace(learner.task, split=split)
  learner = dataclasses.replace(learner, task=task)
  made = plugin(learner, threshold=0.0, begin=0.0)
  seen = given(learner, made)
  _, _, carried = made.loss(seen)
  d = np.asarray(carried["distances"])
  np.testing.assert_allclose(d, d[:1].repeat(3), rtol=1e-6)
  heads = seen.params | {"balanced_head": seen.params["head"]}
  same = seen._replace(params=heads, logits=seeing_own(learner, seen, heads))
  total, _, _ = made.loss(same)
  once = 2 * np.mean(
    seeing.entropy(
      seeing.one_hot(same.labels), np.asarray(same.logits.labeled[0])
    )
  )
  w, s = (np.asarray(z) for z in same.logits[1:])
  once += 2 * np.mean(seeing.entropy(seeing.one_hot(w.argmax(1))[None], s))
  assert float(total) == pytest.approx(once, rel=1e-5)


def seeing_own(learner, seen, heads):
  return type(seen.logits)(
    *(learner.model.head_apply(heads["head"], f) for f in seen.features)
  )


def test_the_divergence_is_symmetric_and_0_of_the_same():
  p, q = jnp.array([0.7, 0.2, 0.1]), jnp.array([0.2, 0.3, 0.5])
  kl = np.sum(np.asarray(p) * np.log(np.asarray(p) / np.asarray(q)))
  lk = np.sum(np.asarray(q) * np.log(np.asarray(q) / np.asarray(p)))
  assert float(acr.divergence(p, q)) == pytest.approx((kl + lk) / 2, rel=1e-5)
  assert float(acr.divergence(p, p)) == 0
  assert np.isfinite(float(acr.divergence(p, jnp.array([1.0, 0.0, 0.0]))))
