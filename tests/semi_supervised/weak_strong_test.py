"""The step of weak and strong views: what it shows, averages and keeps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.losses import classification
from ltjax.semi_supervised import weak_strong
from ltjax.training import draw, step

B, U = 8, 16


def strong(key, images):
  """Tells views of one image apart: all bytes become noise of the key."""
  shape = (len(images), *images.shape[1:])
  return jax.random.normal(key, shape)


def supervised(seen):
  """A plug-in's loss that leaves the pool alone."""
  losses = classification.cross_entropy(seen.logits.labeled[0], seen.labels)
  zero = jnp.zeros(())
  return (
    jnp.mean(losses),
    {"cross_entropy": jnp.mean(losses), "consistency": zero, "mask": zero},
    seen.carried,
  )


def stage(learner, plugin, *, epochs=3, **settings):
  settings = {"weak": learner.transform, "strong": strong} | settings
  algorithm = weak_strong.algorithm(
    learner.model, plugin, num_labeled=B, pool_start=toys.N, **settings
  )
  return step.make(
    "weak_strong",
    algorithm,
    draw.pairs(learner.samples, B, ratio=U // B, field="weak_strong"),
    toys.recipe(epochs=epochs, weight_decay=0.0),
    key=learner.key("weak_strong"),
    report=toys.nothing,
  )


def test_agreement_is_a_mean_over_all_views():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 4)).astype(np.float32)
  targets = rng.dirichlet(np.ones(4), 3).astype(np.float32)
  weights = np.array([1.0, 0.0, 0.5], np.float32)
  expected = 0.0
  for k in range(2):
    for i in range(3):
      log_p = logits[k, i] - np.log(np.exp(logits[k, i]).sum())
      expected -= weights[i] * (targets[i] * log_p).sum() / 6
  found = weak_strong.agreement(
    *(jnp.asarray(a) for a in (logits, targets, weights))
  )
  assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_temperature_of_0_is_the_class_and_1_the_softmax():
  logits = jnp.array([[1.0, 3.0, 2.0]])
  np.testing.assert_array_equal(
    weak_strong.sharpened(logits, 0.0), [[0.0, 1.0, 0.0]]
  )
  np.testing.assert_allclose(
    weak_strong.sharpened(logits, 1.0), jax.nn.softmax(logits)
  )
  np.testing.assert_allclose(
    weak_strong.sharpened(logits, 1e-3), [[0.0, 1.0, 0.0]], atol=1e-6
  )


def test_a_plug_in_sees_each_view_where_it_belongs():
  """The one pass over all views, made again from the step's key."""
  learner, found = toys.learner(pad=1), {}

  def loss(seen):
    found["seen"] = seen
    return supervised(seen)

  algorithm = weak_strong.algorithm(
    learner.model,
    weak_strong.Plugin(loss, labeled_views=2),
    weak=learner.transform,
    strong=strong,
    num_labeled=B,
    pool_start=toys.N,
    strong_views=3,
  )
  made = stage(learner, weak_strong.Plugin(supervised), strong_views=3)
  before, arrays, index, _ = toys.one_step(made, learner.init())
  key, images = jax.random.key(5), arrays["images"][index]
  batch = step.Batch(
    key=key,
    index=index,
    images=images,
    labels=arrays["labels"][index],
    arrays=arrays,
    epoch=0,
    fresh=True,
    progress=0.0,
    epochs=1,
    steps=1,
  )
  algorithm.loss(before.params, before, batch)
  seen = found["seen"]
  np.testing.assert_array_equal(seen.index, index[B:] - toys.N)
  np.testing.assert_array_equal(seen.labels, arrays["labels"][index[:B]])
  np.testing.assert_array_equal(seen.counts, toys.LABELED)
  k = jax.random.split(jax.random.split(key)[0], 6)
  x, u = images[:B], images[B:]
  shown = [learner.transform(k[0], x), strong(k[2], x)]
  shown += [learner.transform(k[1], u), *(strong(k[i], u) for i in (3, 4, 5))]
  features, logits, stats = learner.model.apply(
    before.params, before.batch_stats, jnp.concatenate(shown), True
  )
  toys.assert_same(stats, seen.batch_stats)
  for whole, views in ((features, seen.features), (logits, seen.logits)):
    parts = jnp.split(whole, np.cumsum([len(v) for v in shown])[:-1])
    np.testing.assert_array_equal(views.labeled, jnp.stack(parts[:2]))
    np.testing.assert_array_equal(views.weak, parts[2])
    np.testing.assert_array_equal(views.strong, jnp.stack(parts[3:]))


@pytest.mark.parametrize("views", [1, 2])
def test_without_a_loss_on_the_pool_apart_is_the_supervised_step(views):
  """Bit for bit: nothing of the pool reaches weights or statistics."""
  learner = toys.learner(pad=1)
  made = stage(
    learner,
    weak_strong.Plugin(supervised),
    batch_norm="apart",
    strong_views=views,
  )
  states, arrays, index = toys.train(made, learner.init(), 3)

  def alone(state, index):
    k_views, _ = jax.random.split(jax.random.fold_in(state.key, state.step))
    k_x, *_ = jax.random.split(k_views, 2 + views)
    x = learner.transform(k_x, arrays["images"][index[:B]])

    def loss(params):
      _, logits, stats = learner.model.apply(params, state.batch_stats, x, True)
      losses = classification.cross_entropy(logits, arrays["labels"][index[:B]])
      return jnp.mean(losses), stats

    return jax.grad(loss, has_aux=True)(state.params)

  for before, after, drawn in zip(states, states[1:], index):
    _, stats = jax.jit(alone)(before, drawn)
    toys.assert_same(stats, after.batch_stats)
  other = stage(learner, weak_strong.Plugin(supervised), strong_views=views)
  found, _, _ = toys.train(other, learner.init(), 1)
  assert toys.differ(found[-1].batch_stats, states[1].batch_stats)


def test_the_average_is_kept_and_tested():
  """In the first steps it is the plain mean of all weights so far."""
  learner = toys.learner()
  made = stage(learner, weak_strong.Plugin(supervised), decay=0.999)
  state = learner.init()
  states, _, _ = toys.train(made, state, 4)
  kept = made.finish(state, states[-1])

  def mean(*trees):
    return jax.tree.map(
      lambda *leaves: np.mean([np.asarray(x) for x in leaves], 0), *trees
    )

  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(
    close,
    {"backbone": kept.backbone, "head": kept.head},
    mean(*(s.params for s in states)),
  )
  jax.tree.map(close, kept.batch_stats, mean(*(s.batch_stats for s in states)))
  toys.assert_same(kept.balanced_head, kept.head)
  assert toys.differ(kept.backbone, states[-1].params["backbone"])


def test_a_decay_of_0_keeps_the_last_weights():
  learner = toys.learner()
  made = stage(learner, weak_strong.Plugin(supervised), decay=0.0)
  state = learner.init()
  states, _, _ = toys.train(made, state, 3)
  kept = made.finish(state, states[-1])
  toys.assert_same(kept.backbone, states[-1].params["backbone"])
  toys.assert_same(kept.batch_stats, states[-1].batch_stats)


def test_a_plug_in_has_a_head_of_its_own_and_carries():
  """The head is trained, averaged and tested; what is carried goes on."""
  learner = toys.learner()
  head = learner.model.head_init(learner.key("own"))

  def loss(seen):
    logits = learner.model.head_apply(
      seen.params["own"], seen.features.labeled[0]
    )
    own = jnp.mean(classification.cross_entropy(logits, seen.labels))
    total, metrics, _ = supervised(seen)
    return total + own, metrics, seen.carried + 1

  plugin = weak_strong.Plugin(
    loss,
    heads=lambda: {"own": head},
    init=lambda state: jnp.zeros((), jnp.int32),
    test=lambda params, stats, carried: params["own"],
  )
  made = stage(learner, plugin)
  state = learner.init()
  states, _, _ = toys.train(made, state, 3)
  assert int(states[-1].extra["plugin"]) == 3
  kept = made.finish(state, states[-1])
  toys.assert_same(kept.balanced_head, states[-1].extra["average"]["own"])
  assert toys.differ(states[-1].params["own"], head)
  assert toys.differ(kept.balanced_head, kept.head)
