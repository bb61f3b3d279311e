import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.optim import schedules


def test_golden():
  found = [float(schedules.sigmoid(jnp.int32(t), length=4)) for t in range(7)]
  expected = [0.0067379, 0.0600547, 0.2865048, 0.7316156, 1.0, 1.0, 1.0]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_end_points():
  assert float(schedules.sigmoid(jnp.int32(0), length=100)) == pytest.approx(
    np.exp(-5), rel=1e-6
  )
  for step in (100, 101, 10**9):
    assert float(schedules.sigmoid(jnp.int32(step), length=100)) == 1.0


def test_rises_and_is_jittable():
  ramp = jax.jit(lambda t: schedules.sigmoid(t, length=12.5))
  values = [float(ramp(jnp.int32(t))) for t in range(20)]
  assert all(a < b for a, b in zip(values[:13], values[1:14], strict=True))
  assert values[13:] == [1.0] * 7
  assert ramp(jnp.int32(3)).dtype == jnp.float32


def test_no_ramp_is_1_from_the_first_step():
  assert float(schedules.sigmoid(jnp.int32(0), length=0.0)) == 1.0


def test_a_negative_length_is_a_defect():
  with pytest.raises(AssertionError):
    schedules.sigmoid(jnp.int32(0), length=-1)


def wave(t, low=0.1, high=1.0, period=400):
  return float(schedules.cosine_wave(t, low=low, high=high, period=period))


def test_wave_golden():
  """The published schedule: 1 at first, 0.1 at epoch 200, 1 again at 400."""
  found = [wave(t) for t in (0, 50, 100, 200, 300, 400, 600)]
  expected = [1.0, 0.868198, 0.55, 0.1, 0.55, 1.0, 0.1]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_wave_ends_are_exact():
  for period in (400, 7, 0.3):
    assert wave(0, period=period) == 1.0
    assert wave(period / 2, period=period) == np.float32(0.1)


def test_wave_repeats_and_stays_between():
  times = np.linspace(0, 40, 200)
  values = [wave(t, period=20) for t in times]
  assert 0.1 <= min(values) and max(values) <= 1.0
  later = [wave(t + 20, period=20) for t in times]
  np.testing.assert_allclose(values, later, atol=1e-4)


def test_wave_of_equal_ends_is_constant():
  assert {wave(t, low=0.5, high=0.5) for t in range(0, 400, 37)} == {0.5}


def test_wave_is_jittable():
  found = jax.jit(lambda t: schedules.cosine_wave(t, low=0, high=2, period=4))
  assert found(jnp.int32(1)).dtype == jnp.float32
  np.testing.assert_allclose(found(jnp.int32(1)), 1.0, atol=1e-6)


@pytest.mark.parametrize("period", [0, -400, float("nan")])
def test_wave_needs_a_period(period):
  with pytest.raises(ValueError, match="must be above 0, such as 400 epochs"):
    wave(1, period=period)
