import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import one_pass
from ltjax.models.layers import batch_norm


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_both_ways_agree(offset):
  x = offset + jax.random.normal(jax.random.key(0), (8, 6, 6, 5))
  exact = np.asarray(x, np.float64)
  mean, var = one_pass.statistics(x)
  np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6, atol=1e-6)
  # Without the shift nothing of it would be left at 300.
  np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=2e-5)


def test_it_is_used_in_its_context_only():
  x = jnp.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
  ones, zeros = jnp.ones(3), jnp.zeros(3)
  before = batch_norm.statistics
  with one_pass.used():
    assert batch_norm.statistics is one_pass.statistics
    assert np.isfinite(batch_norm.normalize(x, ones, zeros)[0]).all()
  with one_pass.used(False):
    assert batch_norm.statistics is before
  assert batch_norm.statistics is before
