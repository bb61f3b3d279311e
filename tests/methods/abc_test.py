"""ABC: which labels and guesses count, the head that is tested, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax.methods import abc, fixmatch


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def plugin(learner, **settings):
  config = toys.config(method="abc")
  config.abc.update(settings)
  return abc.make(learner, config)


def base(learner):
  return fixmatch.make(learner, toys.config(method="fixmatch"))


def balanced(learner, made, seen):
  return float(made.loss(seen)[1]["balanced"])


def of_key(made, seen, key):
  return made.loss(seen._replace(key=key))[1]["balanced"]


def test_its_loss_comes_on_top_of_fixmatchs(learner):
  made = plugin(learner)
  seen = seeing.drawn(learner, made.init(learner.init()))
  total, metrics, _ = made.loss(seen)
  plain, _, _ = base(learner).loss(seen)
  assert float(total - metrics["balanced"]) == pytest.approx(float(plain))


def test_of_each_class_as_many_labels_count_on_average(learner):
  """A class of n counts by `n_min / n`: over many draws, with no guess."""
  made = plugin(learner, threshold=1.0)
  seen = seeing.drawn(learner, made.init(learner.init()))
  seen = seen._replace(labels=jnp.arange(4, dtype=jnp.int32))
  logits = learner.model.head_apply(
    seen.params["balanced_head"], seen.features.labeled[0]
  )
  each = seeing.entropy(np.eye(4), np.asarray(logits))
  share = min(toys.LABELED) / np.array(toys.LABELED)
  draw = jax.jit(jax.vmap(lambda key: of_key(made, seen, key)))
  found = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
  expected, spread = (each * share).mean(), found.std() / np.sqrt(4000)
  assert abs(found.mean() - expected) < 4 * spread
  assert spread > 0


def test_guesses_all_count_at_first_and_balanced_at_the_end(learner):
  """With labels that never count by chance: those of the rarest class do."""
  made = plugin(learner, threshold=0.0)
  means = []
  for progress in (0.0, 1.0):
    seen = seeing.drawn(learner, made.init(learner.init()), progress=progress)
    draw = jax.jit(jax.vmap(lambda key, s=seen: of_key(made, s, key)))
    means.append(
      np.asarray(draw(jax.random.split(jax.random.key(1), 3000))).mean()
    )
  apply, head = learner.model.head_apply, seen.params["balanced_head"]
  q = seeing.softmax(np.asarray(apply(head, seen.features.weak)))
  z = np.asarray(apply(head, seen.features.strong))
  each = seeing.entropy(q[None], z).mean(0)
  share = min(toys.LABELED) / np.array(toys.LABELED)
  fall = (each * (1 - share[q.argmax(1)])).mean()
  assert means[0] - means[1] == pytest.approx(fall, rel=0.15)
  assert fall > 0.05


def test_of_equal_classes_everything_counts(learner):
  made = plugin(learner, threshold=0.0)
  seen = seeing.drawn(learner, made.init(learner.init()))
  seen = seen._replace(counts=jnp.full(4, 10.0))
  apply, head = learner.model.head_apply, seen.params["balanced_head"]
  x = np.asarray(apply(head, seen.features.labeled[0]))
  q = seeing.softmax(np.asarray(apply(head, seen.features.weak)))
  z = np.asarray(apply(head, seen.features.strong))
  expected = seeing.entropy(seeing.one_hot(seen.labels), x).mean()
  expected += seeing.entropy(q[None], z).mean()
  assert balanced(learner, made, seen) == pytest.approx(expected, rel=1e-5)


def test_an_empty_class_leaves_it_finite(learner):
  made = plugin(learner)
  seen = seeing.drawn(learner, made.init(learner.init()))
  seen = seen._replace(counts=jnp.array([10.0, 5.0, 2.0, 0.0]))
  assert np.isfinite(balanced(learner, made, seen))


def test_its_own_head_is_tested_and_trains_the_features(learner):
  made = plugin(learner, threshold=0.0)
  seen = seeing.drawn(learner, made.init(learner.init()))
  head = made.test(seen.params, {}, seen.carried)
  toys.assert_same(head, seen.params["balanced_head"])

  grads = [
    jax.grad(lambda x, k=k: loss_with(made, seen, x, k))(seen.features.labeled)
    for k in range(3)
  ]
  assert any(toys.norm(g) > 0 for g in grads)


def loss_with(made, seen, labeled, seed):
  seen = seen._replace(
    features=seen.features._replace(labeled=labeled), key=jax.random.key(seed)
  )
  return made.loss(seen)[1]["balanced"]
