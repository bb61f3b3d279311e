"""CDMAD: a slow loss, the image of nothing, invariance to a bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax.methods import cdmad


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def plugin(learner, **settings):
  config = toys.config(method="cdmad")
  config.cdmad.update(settings)
  return cdmad.make(learner, config)


def nothing(learner, params, stats, value, *, own=False):
  """`z(I)` of a picture of one value in the network's own units."""
  image = jnp.full((1, *learner.model.image_shape), value, jnp.float32)
  known = {name: params[name] for name in ("backbone", "head")}
  return np.asarray(learner.model.apply(known, stats, image, own)[1][0])


# The toy's mean is .4, its deviation .25.
VALUES = {"white": 2.4, "grey": 0.4, "black": -1.6, "ones": 1.0}


@pytest.mark.parametrize("image", VALUES)
@pytest.mark.parametrize("statistics", ["running", "own"])
def test_the_loss_is_that_of_the_equations(learner, image, statistics):
  made = plugin(learner, image=image, statistics=statistics, threshold=0.4)
  seen = seeing.drawn(learner, made.init(learner.init()), progress=0.5)
  bias = nothing(
    learner,
    seen.params,
    seen.state.batch_stats,
    VALUES[image],
    own=statistics == "own",
  )
  x, w, s = seeing.host(seen)
  q = seeing.softmax(w - bias)
  counts = q.max(1) >= 0.4
  expected = seeing.entropy(seeing.one_hot(seen.labels), x[0]).mean()
  expected += (counts[None] * seeing.entropy(q[None], s)).mean()
  total, metrics, _ = made.loss(seen)
  assert float(total) == pytest.approx(expected, rel=1e-5)
  assert float(metrics["mask"]) == pytest.approx(counts.mean())


def test_guesses_are_corrected_from_a_share_of_the_steps_on(learner):
  made = plugin(learner, begin=0.5)
  early, late = (
    made.loss(seeing.drawn(learner, {}, progress=p))[0] for p in (0.49, 0.5)
  )
  never = plugin(learner, begin=1.0)
  soft = never.loss(seeing.drawn(learner, {}, progress=0.49))[0]
  assert float(early) == float(soft)
  assert float(late) != pytest.approx(float(early), rel=1e-4)


def test_the_tested_head_says_nothing_of_nothing(learner):
  """All classes tie, on the picture that was chosen."""
  made = plugin(learner)
  state = learner.init()
  params = {"backbone": state.backbone, "head": state.head}
  head = made.test(params, state.batch_stats, {})
  of_it = nothing(
    learner, params | {"head": head}, state.batch_stats, VALUES["white"]
  )
  np.testing.assert_allclose(of_it, np.zeros(toys.C), atol=1e-5)


def test_a_bias_of_the_head_changes_neither_guesses_nor_tests(learner):
  made = plugin(learner)
  moved = jnp.array([3.0, -1.0, 0.5, 0.0])
  seen = seeing.drawn(learner, {})
  head = seen.params["head"]
  other = seen._replace(
    params=seen.params | {"head": head | {"bias": head["bias"] + moved}},
    logits=seen.logits._replace(weak=seen.logits.weak + moved[None]),
  )
  assert float(made.loss(other)[0]) == pytest.approx(
    float(made.loss(seen)[0]), rel=1e-5
  )
  tests = [made.test(s.params, s.batch_stats, {}) for s in (seen, other)]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *tests
  )


def test_no_gradient_reaches_guesses_or_bias(learner):
  made = plugin(learner, begin=0.0)
  seen = seeing.drawn(learner, {})
  grads = jax.grad(lambda params: made.loss(seen._replace(params=params))[0])(
    seen.params
  )
  assert toys.norm(grads) == 0  # logits are given: only z(I) is of params
