import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import ramps


def test_golden():
  found = [float(ramps.sigmoid(jnp.int32(t), length=4)) for t in range(7)]
  expected = [0.0067379, 0.0600547, 0.2865048, 0.7316156, 1.0, 1.0, 1.0]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_end_points():
  assert float(ramps.sigmoid(jnp.int32(0), length=100)) == pytest.approx(
    np.exp(-5), rel=1e-6
  )
  for step in (100, 101, 10**9):
    assert float(ramps.sigmoid(jnp.int32(step), length=100)) == 1.0


def test_rises_and_is_jittable():
  ramp = jax.jit(lambda t: ramps.sigmoid(t, length=12.5))
  values = [float(ramp(jnp.int32(t))) for t in range(20)]
  assert all(a < b for a, b in zip(values[:13], values[1:14], strict=True))
  assert values[13:] == [1.0] * 7
  assert ramp(jnp.int32(3)).dtype == jnp.float32


def test_no_ramp_is_1_from_the_first_step():
  assert float(ramps.sigmoid(jnp.int32(0), length=0.0)) == 1.0


def test_a_negative_length_is_a_defect():
  with pytest.raises(AssertionError):
    ramps.sigmoid(jnp.int32(0), length=-1)
