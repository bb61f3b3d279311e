"""The teacher: its start, its statistics, and how it moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.self_supervised import encoder, teacher
from ltjax.self_supervised.teacher import Settings
from ltjax.settings import fields

PARAMS = {"backbone": jnp.array([1.0, 2.0]), "projection": jnp.array([4.0])}
STATS = {"backbone": jnp.array([0.5]), "projection": jnp.array([0.25])}


def told(params, stats, images, head, train):
  """An encoder that returns what it was given."""
  del images, head
  return None, (params, stats, train), stats


NETWORK = encoder.Encoder(lambda state: (PARAMS, STATS), told, 1)


@pytest.mark.parametrize("batch_norm", ["batch", "ema"])
def test_starts_as_the_student(batch_norm):
  held = teacher.start(Settings(teacher_batch_norm=batch_norm), PARAMS, STATS)
  assert held["teacher"] is PARAMS
  if batch_norm == "ema":
    assert held["teacher_stats"] is STATS
  else:
    assert held.keys() == {"teacher"}


def test_batch_normalises_by_the_batch_and_ema_by_its_statistics():
  other = {"backbone": jnp.zeros(1), "projection": jnp.zeros(1)}
  for batch_norm, stats, train in (
    ("batch", other, True),
    ("ema", STATS, False),
  ):
    settings = Settings(teacher_batch_norm=batch_norm)
    held = teacher.start(settings, PARAMS, STATS)
    given = teacher.embed(settings, NETWORK, held, other, None, None)
    assert given == (PARAMS, stats, train)


def test_moves_by_tau_without_the_predictor():
  """0.75 of itself and 0.25 of the student; what else is held stays."""
  settings = Settings(ema=0.75, teacher_batch_norm="ema")
  held = teacher.start(settings, PARAMS, STATS) | {"prototypes": jnp.ones(3)}
  student = {
    "backbone": jnp.array([5.0, 2.0]),
    "projection": jnp.array([0.0]),
    "predictor": jnp.array([9.0]),
  }
  stats = {"backbone": jnp.array([1.5]), "projection": jnp.array([0.25])}
  moved = teacher.follow(
    settings, held, student, stats, step=jnp.int32(3), total_steps=10
  )
  assert moved.keys() == held.keys()
  assert moved["teacher"].keys() == PARAMS.keys()
  np.testing.assert_array_equal(moved["teacher"]["backbone"], [2.0, 2.0])
  np.testing.assert_array_equal(moved["teacher"]["projection"], [3.0])
  np.testing.assert_array_equal(moved["teacher_stats"]["backbone"], [0.75])
  assert moved["prototypes"] is held["prototypes"]
  np.testing.assert_array_equal(held["teacher"]["backbone"], [1.0, 2.0])


@pytest.mark.parametrize("step, tau", [(0, 0.6), (5, 0.8), (10, 1.0)])
def test_cosine_schedule(step, tau):
  settings = Settings(ema=0.6, ema_schedule="cosine")
  student = {"backbone": jnp.zeros(2), "projection": jnp.zeros(1)}
  moved = teacher.follow(
    settings,
    teacher.start(settings, PARAMS, STATS),
    student,
    STATS,
    step=jnp.int32(step),
    total_steps=10,
  )
  np.testing.assert_allclose(
    moved["teacher"]["backbone"], [tau, 2 * tau], rtol=1e-6
  )


def test_defaults_are_those_of_the_config():
  block = configs.default().student
  assert fields.of(teacher.Settings, block) == teacher.Settings()


def test_only_uniform_needs_no_prototypes():
  weighted = [
    score for score in teacher.SCORES if teacher.Settings(score=score).weighted
  ]
  assert weighted == ["paper", "energy"]


Z = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
P = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)


@pytest.mark.parametrize("score", ["paper", "energy"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_mean_is_one_and_all_are_finite(score, normalize, scale, dtype):
  settings = Settings(score=score, normalize_prototypes=normalize)
  z, p = jnp.asarray(scale * Z, dtype), jnp.asarray(scale * P, dtype)
  w = np.asarray(teacher.of(settings, z, p))
  assert w.dtype == np.float32
  assert np.isfinite(w).all() and (w > 0).all()
  np.testing.assert_allclose(w.mean(), 1, rtol=1e-5)
  assert w.max() / w.min() > 2  # and they do tell images apart


def test_a_common_image_weighs_less_by_the_paper():
  """Along the mean prototype, against it, and across."""
  settings = Settings(score="paper")
  z = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
  w = np.asarray(teacher.of(settings, z, jnp.array([[1.0, 0.0]] * 5)))
  assert w[0] < w[2] < w[1]
  opposite = teacher.of(settings, z, jnp.array([[-1.0, 0.0]] * 5))
  assert opposite[1] < opposite[2] < opposite[0]


def test_energy_does_not_see_the_sign_of_prototypes():
  settings = Settings(score="energy")
  w = teacher.of(settings, Z, P)
  np.testing.assert_allclose(teacher.of(settings, Z, -P), w, rtol=1e-5)
  turned = np.linalg.qr(np.random.default_rng(2).normal(size=(7, 7)))[0] @ P
  found = teacher.of(settings, Z, turned.astype(np.float32))
  np.testing.assert_allclose(found, w, rtol=1e-4)


def test_settings_reach_the_weights():
  even = teacher.of(Settings(weight_temperature=100.0), Z, P)
  np.testing.assert_allclose(even, 1, atol=0.05)
  clipped = np.asarray(teacher.of(Settings(clip=1e-3), Z, P))
  np.testing.assert_allclose(clipped, 1, atol=2e-3)
  literal = teacher.of(Settings(standardize=False), Z, P)
  unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (Z, P)]
  e = np.exp(-(unit[0] @ unit[1].T).sum(-1))
  np.testing.assert_allclose(literal, e / e.mean(), rtol=1e-4)
  long = Z.copy()
  long[0] *= 100
  for normalize in (True, False):
    settings = Settings(normalize_prototypes=normalize)
    one, other = (teacher.of(settings, x, P) for x in (Z, long))
    assert np.allclose(one, other, rtol=1e-4) == normalize


def test_no_gradient_flows():
  settings = Settings(score="energy")
  grads = jax.grad(
    lambda z, p: jnp.sum(teacher.of(settings, z, p) ** 2), (0, 1)
  )(Z, P)
  assert all(not np.any(g) for g in grads)


def test_watch_of_equal_weights():
  found = teacher.watch(
    jnp.ones((2, 4)), jnp.array([0, 1, 1, -1]), jnp.array([10.0, 2.0])
  )
  assert found.keys() == set(teacher.METRICS)
  assert found["effective_sample_size"] == 1
  assert found["weight_correlation"] == 0


def test_watch_means_over_the_views():
  """One view's weights are those of rare classes, the other's the opposite."""
  labels, counts = jnp.array([0, 0, 1, 1]), jnp.array([100.0, 1.0])
  rare = jnp.array([0.5, 0.5, 1.5, 1.5])
  found = teacher.watch(jnp.stack([rare, rare]), labels, counts)
  np.testing.assert_allclose(found["weight_correlation"], 1, rtol=1e-5)
  np.testing.assert_allclose(found["effective_sample_size"], 0.8, rtol=1e-5)
  found = teacher.watch(jnp.stack([rare, 2 - rare]), labels, counts)
  np.testing.assert_allclose(found["weight_correlation"], 0, atol=1e-6)


def test_watch_leaves_out_unknown_labels_and_empty_classes():
  """The unknown one would spoil the correlation; class 2 has no image."""
  weights = jnp.array([[0.5, 1.5, 2.5, 100.0]])
  labels = jnp.array([0, 1, 2, -1])
  found = teacher.watch(weights, labels, jnp.array([4.0, 2.0, 0.0]))
  expected = np.corrcoef([0.5, 1.5, 2.5], [0.25, 0.5, 1.0])[0, 1]
  np.testing.assert_allclose(found["weight_correlation"], expected, rtol=1e-5)
  found = teacher.watch(weights, jnp.full(4, -1), jnp.ones(3))
  assert found["weight_correlation"] == 0
