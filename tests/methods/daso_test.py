"""DASO: queues, prototypes, the blend, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax.methods import daso, fixmatch


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def plugin(learner, **settings):
  config = toys.config(method="daso")
  config.daso.update({"queue": 3, "begin": 0.0} | settings)
  return daso.make(learner, config)


def test_queues_keep_the_last_features_of_each_class():
  rng = np.random.default_rng(0)
  queue = {
    "features": jnp.zeros((3, 2, 5)),
    "count": jnp.zeros(3, jnp.int32),
  }
  slow = {k: [] for k in range(3)}
  for _ in range(4):
    features = rng.normal(size=(3, 5)).astype(np.float32)
    labels = np.array([0, 1, 0])
    queue = jax.jit(daso.enqueue)(
      queue, jnp.asarray(features), jnp.asarray(labels, jnp.int32)
    )
    for x, y in zip(features, labels):
      slow[y] = [*slow[y], x][-2:]
    means = [np.mean(slow[k], 0) if slow[k] else np.zeros(5) for k in range(3)]
    np.testing.assert_allclose(
      daso.prototypes(queue), np.stack(means), rtol=1e-5, atol=1e-6
    )
  np.testing.assert_array_equal(queue["count"], [8, 4, 0])


def carried_of(made, learner):
  carried = made.init(learner.init())
  rng = np.random.default_rng(3)
  own = carried["refinement"]
  own["share"] = jnp.array([0.6, 0.2, 0.15, 0.05])
  own["queue"] = {
    "features": jnp.asarray(
      rng.normal(size=(toys.C, 3, toys.D)).astype(np.float32)
    ),
    "count": jnp.array([3, 3, 3, 3], jnp.int32),
  }
  return carried


def units(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_is_that_of_the_equations(learner):
  made = plugin(learner, temperature=0.2)
  seen = seeing.drawn(learner, carried_of(made, learner))
  own = seen.carried["refinement"]
  centres = units(np.asarray(own["queue"]["features"]).mean(1))
  weak, strong = (units(f) @ centres.T / 0.2 for f in seen.features[1:])
  x, w, s = seeing.host(seen)
  share = np.asarray(own["share"], np.float64) ** (1 / 1.5)
  linear = seeing.softmax(w)
  v = (share / share.max())[linear.argmax(1)][:, None]
  q = (1 - v) * linear + v * seeing.softmax(weak)
  counts = q.max(1) >= 0.95
  expected = seeing.entropy(seeing.one_hot(seen.labels), x[0]).mean()
  target = seeing.one_hot(q.argmax(1))[None]
  expected += (counts[None] * seeing.entropy(target, s)).mean()
  expected += seeing.entropy(seeing.softmax(weak)[None], strong).mean()
  total, _, after = made.loss(seen)
  assert float(total) == pytest.approx(expected, rel=1e-4)
  shown = target[0].mean(0)
  np.testing.assert_allclose(
    after["refinement"]["share"],
    0.999 * np.asarray(own["share"]) + 0.001 * shown,
    rtol=1e-4,
  )
  np.testing.assert_array_equal(
    after["refinement"]["queue"]["count"] - 3,
    np.bincount(np.asarray(seen.labels), minlength=4),
  )


def test_before_it_begins_it_is_fixmatch(learner):
  made = plugin(learner, begin=1.0)
  seen = seeing.drawn(learner, carried_of(made, learner), progress=0.99)
  plain = fixmatch.make(learner, toys.config(method="fixmatch"))
  other = seeing.drawn(learner, plain.init(learner.init()))
  assert float(made.loss(seen)[0]) == pytest.approx(
    float(plain.loss(other)[0]), rel=1e-5
  )


def test_with_empty_queues_it_is_finite(learner):
  made = plugin(learner)
  seen = seeing.drawn(learner, made.init(learner.init()))
  grads = jax.grad(
    lambda s: made.loss(
      seen._replace(features=seen.features._replace(strong=s))
    )[0]
  )(seen.features.strong)
  assert np.all(np.isfinite(np.asarray(grads)))
