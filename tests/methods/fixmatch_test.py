"""FixMatch's family: a slow loss, limits, rows, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seen as seeing
import toys

from ltjax import config as configs
from ltjax import methods
from ltjax.config import rows
from ltjax.methods import fixmatch, registry
from ltjax.training.state import TrainState


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def plugin(learner, **settings):
  config = toys.config(method="fixmatch")
  config.loss.name = settings.pop("loss", "cross_entropy")
  config.fixmatch.update(settings)
  return fixmatch.make(learner, config)


def step(learner, seed=0, carried=None, **settings):
  made = plugin(learner, **settings)
  carried = made.init(learner.init()) if carried is None else carried
  return made.loss(seeing.drawn(learner, carried, seed=seed))


def slow(given, *, threshold, temperature, teacher, strong, weight, log_p):
  """FixMatch with offsets, an image at a time; returns loss and mask."""
  x, u, s = (np.asarray(a, np.float64) for a in given.logits)
  supervised = np.mean(
    [-np.log(seeing.softmax(z)[int(y)]) for z, y in zip(x[0], given.labels)]
  )
  consistency, counted = 0.0, 0
  for i in range(seeing.U):
    guess = u[i] + teacher * log_p
    if seeing.softmax(guess).max() < threshold:
      continue
    counted += 1
    q = np.eye(toys.C)[guess.argmax()]
    if temperature:
      q = seeing.softmax(guess / temperature)
    for k in range(seeing.K):
      log = np.log(seeing.softmax(s[k, i] + strong * log_p))
      consistency -= (q * log).sum() / (seeing.U * seeing.K)
  return supervised + weight * consistency, counted / seeing.U


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
    seeing.drawn(learner, None),
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
  given = seeing.drawn(learner, made.init(learner.init()))
  total, _, carried = made.loss(given)
  mean = 0.9 / toys.C + 0.1 * seeing.softmax(given.logits.weak).mean(0)
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
  total, _, _ = made.loss(seeing.drawn(learner, start))
  plain, _, _ = step(learner, **soft)
  assert float(total) == pytest.approx(float(plain), rel=1e-3)
  uniform, _, _ = step(learner, align="uniform", carried=start, **soft)
  assert float(uniform) != pytest.approx(float(plain), rel=2e-3)


def test_fairness_is_lowest_where_the_mean_is_that_of_the_teacher():
  even = jnp.full(toys.C, 1 / toys.C)
  given = {"mean": jnp.array([0.7, 0.1, 0.1, 0.1]), "usage": even}
  weights = jnp.ones(seeing.U)
  rng = np.random.default_rng(0)
  shape = (1, seeing.U, toys.C)
  logits = jnp.asarray(rng.normal(size=shape).astype(np.float32))
  probs = seeing.softmax(np.asarray(logits[0], np.float64))
  used = np.bincount(probs.argmax(1), minlength=toys.C) / seeing.U
  ratio = probs.mean(0) / np.maximum(used, 1e-6)
  target = np.asarray(given["mean"], np.float64)
  expected = (target * np.log(ratio / ratio.sum() + 1e-12)).sum()
  found = fixmatch.fair(logits, weights, **given)
  assert float(found) == pytest.approx(expected, rel=1e-4)
  nobody = fixmatch.fair(logits, jnp.zeros(seeing.U), **given)
  assert np.isfinite(float(nobody))


@pytest.mark.parametrize("row", [r for r in fixmatch.METHOD.rows])
def test_every_row_is_finite_and_carries_its_shapes(learner, row):
  config = rows.apply(toys.config(), row)
  made = fixmatch.make(learner, config)
  carried = made.init(learner.init())
  total, metrics, after = made.loss(seeing.drawn(learner, carried))
  assert np.isfinite(float(total))
  assert set(metrics) == set(made.metrics)
  toys.chex.assert_trees_all_equal_shapes_and_dtypes(carried, after)


def test_no_gradient_reaches_the_guesses(learner):
  made = plugin(learner, threshold=0.0, temperature=0.5, teacher=0.5)
  given = seeing.drawn(learner, made.init(learner.init()))

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
