"""FixMatch's family: a slow loss, limits, rows, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax import config as configs
from ltjax import methods
from ltjax.config import rows
from ltjax.methods import fixmatch, registry
from ltjax.semi_supervised import weak_strong as views
from ltjax.training.state import TrainState

B, U, K = 4, 6, 2


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def seen(learner, carried, seed=0):
  """Returns what a plug-in sees of a step, all of it drawn."""
  rng = np.random.default_rng(seed)

  def logits(*shape):
    return jnp.asarray(4 * rng.normal(size=shape).astype(np.float32))

  found = views.Views(
    logits(1, B, toys.C), logits(U, toys.C), logits(K, U, toys.C)
  )
  return views.Seen(
    params={},
    images=found,
    features=found,
    logits=found,
    labels=jnp.asarray(rng.integers(0, toys.C, B), jnp.int32),
    index=jnp.arange(U, dtype=jnp.int32),
    counts=jnp.asarray(toys.LABELED, jnp.float32),
    carried=carried,
    key=jax.random.key(0),
    batch=_Batch(),
    state=None,
    batch_stats={},
  )


class _Batch:
  epoch, epochs = 0, 1


def plugin(learner, **settings):
  config = toys.config(method="fixmatch")
  config.loss.name = settings.pop("loss", "cross_entropy")
  config.fixmatch.update(settings)
  return fixmatch.make(learner, config)


def step(learner, seed=0, carried=None, **settings):
  made = plugin(learner, **settings)
  carried = made.init(learner.init()) if carried is None else carried
  return made.loss(seen(learner, carried, seed))


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def slow(given, *, threshold, temperature, teacher, strong, weight, log_p):
  """FixMatch with offsets, an image at a time; returns loss and mask."""
  x, u, s = (np.asarray(a, np.float64) for a in given.logits)
  supervised = np.mean(
    [-np.log(softmax(z)[y]) for z, y in zip(x[0], np.asarray(given.labels))]
  )
  consistency, counted = 0.0, 0
  for i in range(U):
    guess = u[i] + teacher * log_p
    if softmax(guess).max() < threshold:
      continue
    counted += 1
    q = np.eye(toys.C)[guess.argmax()]
    if temperature:
      q = softmax(guess / temperature)
    for k in range(K):
      log = np.log(softmax(s[k, i] + strong * log_p))
      consistency -= (q * log).sum() / (U * K)
  return supervised + weight * consistency, counted / U


@pytest.mark.parametrize(
  "settings",
  [
    {},
    {"threshold": 0.8, "temperature": 0.4, "weight": 2.0},
    {"teacher": -0.5, "strong": 0.5, "threshold": 0.7},
  ],
)
def test_the_loss_is_that_of_the_equations(learner, settings):
  defaults = {"threshold": 0.95, "temperature": 0.0, "weight": 1.0}
  defaults |= {"teacher": 0.0, "strong": 0.0}
  counts = np.array(toys.LABELED, float)
  expected, mask = slow(
    seen(learner, None),
    **(defaults | settings),
    log_p=np.log(counts / counts.sum()),
  )
  total, metrics, _ = step(learner, **settings)
  assert float(total) == pytest.approx(float(expected), rel=1e-5)
  assert float(metrics["mask"]) == pytest.approx(mask)
  assert 0 < mask < 1


def test_debiased_guesses_follow_the_mean_prediction(learner):
  settings = {"teacher": -0.5, "strong": 0.5, "prior": "pool"}
  settings |= {"threshold": 0.7, "momentum": 0.9}
  made = plugin(learner, **settings)
  given = seen(learner, made.init(learner.init()))
  total, _, carried = made.loss(given)
  mean = 0.9 / toys.C + 0.1 * softmax(np.asarray(given.logits.weak)).mean(0)
  np.testing.assert_allclose(carried["mean"], mean, rtol=1e-5)
  expected, _ = slow(
    given,
    threshold=0.7,
    temperature=0.0,
    teacher=-0.5,
    strong=0.5,
    weight=1.0,
    log_p=np.log(mean),
  )
  assert float(total) == pytest.approx(float(expected), rel=1e-5)


def test_alignment_moves_the_mean_to_the_target(learner):
  """Aligned with what guesses are already, nothing changes."""
  counts = np.array(toys.LABELED, np.float32)
  soft = {"temperature": 1.0, "threshold": 0.7}
  made = plugin(learner, align="labeled", momentum=0.999, **soft)
  start = made.init(learner.init()) | {"mean": jnp.asarray(counts / 40)}
  # One step moves the mean by a thousandth.
  total, _, _ = made.loss(seen(learner, start))
  plain, _, _ = step(learner, **soft)
  assert float(total) == pytest.approx(float(plain), rel=1e-2)
  uniform, _, _ = step(learner, align="uniform", carried=start, **soft)
  assert float(uniform) != pytest.approx(float(plain), rel=1e-2)


def test_fairness_is_lowest_where_the_mean_is_that_of_the_teacher():
  even = jnp.full(toys.C, 1 / toys.C)
  given = {"mean": jnp.array([0.7, 0.1, 0.1, 0.1]), "usage": even}
  weights = jnp.ones(U)
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(1, U, toys.C)).astype(np.float32))
  probs = softmax(np.asarray(logits[0], np.float64))
  used = np.bincount(probs.argmax(1), minlength=toys.C) / U
  ratio = probs.mean(0) / np.maximum(used, 1e-6)
  target = np.asarray(given["mean"], np.float64)
  expected = (target * np.log(ratio / ratio.sum() + 1e-12)).sum()
  found = fixmatch.fair(logits, weights, **given)
  assert float(found) == pytest.approx(expected, rel=1e-4)
  nobody = fixmatch.fair(logits, jnp.zeros(U), **given)
  assert np.isfinite(float(nobody))


@pytest.mark.parametrize("row", [r for r in fixmatch.METHOD.rows])
def test_every_row_is_finite_and_carries_its_shapes(learner, row):
  config = rows.apply(toys.config(), row)
  made = fixmatch.make(learner, config)
  carried = made.init(learner.init())
  total, metrics, after = made.loss(seen(learner, carried))
  assert np.isfinite(float(total))
  assert set(metrics) == set(made.metrics)
  toys.chex.assert_trees_all_equal_shapes_and_dtypes(carried, after)


def test_no_gradient_reaches_the_guesses(learner):
  made = plugin(learner, threshold=0.0, temperature=0.5, teacher=0.5)
  given = seen(learner, made.init(learner.init()))

  def loss(weak):
    moved = given._replace(logits=given.logits._replace(weak=weak))
    return made.loss(moved)[0]

  grads = jax.grad(loss)(given.logits.weak)
  np.testing.assert_array_equal(grads, np.zeros_like(grads))


def test_the_mean_is_carried_over_steps_of_a_run(learner):
  """Through the stage: what is carried is in the state that is saved."""
  config = toys.config(method="fixmatch", **toys.WEAK_STRONG)
  (stage,) = methods.stages(learner, config)
  states, _, _ = toys.train(stage, learner.init(), 2)
  assert isinstance(states[-1], TrainState)
  mean = np.asarray(states[-1].extra["plugin"]["mean"])
  assert mean.sum() == pytest.approx(1, rel=1e-5)
  assert toys.differ(mean, states[1].extra["plugin"]["mean"])


@pytest.mark.parametrize(
  "row, title",
  [
    ("fixmatch", "FixMatch"),
    ("uda", "UDA"),
    ("flexmatch", "FlexMatch"),
    ("freematch", "FreeMatch"),
    ("softmatch", "SoftMatch"),
    ("adamatch", "AdaMatch"),
    ("fixmatch_da", "FixMatch + DA (labeled)"),
    ("fixmatch_la", "FixMatch (Logit adjustment)"),
    ("debiaspl", "DebiasPL"),
  ],
)
def test_titles_tell_the_row(row, title):
  assert registry.title(rows.apply(configs.default(), row)) == title


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("fixmatch.threshold", 1.5, "fixmatch.threshold is 1.5"),
    ("fixmatch.weight", -1.0, "fixmatch.weight is -1"),
    ("fixmatch.fairness", 0.1, "fixmatch.fairness is 0.1, but nothing reads"),
    ("weak_strong.unlabeled_ratio", 0, "unlabeled_ratio is 0"),
    ("weak_strong.unlabeled_ratio", 6, "only 40 unlabeled .* enlarge the pool"),
    ("weak_strong.ema", 1.0, "weak_strong.ema is 1"),
  ],
)
def test_what_does_not_fit_is_said_before_training(
  learner, field, value, message
):
  config = toys.config(method="fixmatch", **toys.WEAK_STRONG)
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=message):
    methods.stages(learner, config)


def test_images_of_two_channels_have_no_strong_views(learner):
  task = toys.dataclasses.replace(learner.task, mean=(0.4, 0.4), std=(1.0, 1.0))
  with pytest.raises(ValueError, match="2 channels; strong augmentation"):
    task.strong(jnp.float32, "randaugment")
