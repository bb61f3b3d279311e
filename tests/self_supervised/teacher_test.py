"""The teacher: its start, its statistics, and how it moves."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.self_supervised import encoder, teacher
from ltjax.self_supervised.teacher import Settings

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
