import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import initializers


def tree():
  return {
    "a": {"kernel": jnp.zeros((3, 3, 16, 64))},
    "b": {"kernel": jnp.zeros((1, 1, 64, 32)), "scale": jnp.ones((32,))},
    "c": jnp.zeros((5, 7)),
  }


@pytest.mark.parametrize(
  "fan, variances",
  [("fan_in", (2 / 144, 2 / 64)), ("fan_out", (2 / 576, 2 / 32))],
)
def test_variances(fan, variances):
  filled = initializers.he_normal(jax.random.key(0), tree(), fan=fan)
  for name, variance in zip("ab", variances, strict=True):
    kernel = np.asarray(filled[name]["kernel"])
    error = np.sqrt(2 / kernel.size)  # Of a sample variance, relative.
    assert abs(kernel.var() / variance - 1) < 4 * error
    assert abs(kernel.mean()) < 4 * np.sqrt(variance / kernel.size)
    # Normal, not uniform or truncated: a fourth moment of 3.
    assert abs((kernel**4).mean() / variance**2 - 3) < 0.6


def test_other_leaves_stay_and_kernels_differ():
  given = tree()
  filled = initializers.he_normal(jax.random.key(0), given, fan="fan_in")
  assert filled["b"]["scale"] is given["b"]["scale"]
  assert filled["c"] is given["c"]
  first = np.asarray(filled["a"]["kernel"]).ravel()[:2048] * np.sqrt(144)
  second = np.asarray(filled["b"]["kernel"]).ravel() * np.sqrt(64)
  assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_the_key_decides():
  one, same, other = (
    initializers.he_normal(jax.random.key(k), tree(), fan="fan_in")
    for k in (1, 1, 2)
  )
  np.testing.assert_array_equal(one["a"]["kernel"], same["a"]["kernel"])
  assert not np.array_equal(one["a"]["kernel"], other["a"]["kernel"])


def test_unknown_fan():
  with pytest.raises(ValueError, match="fan is 'fan_avg'.*fan_in, fan_out"):
    initializers.he_normal(jax.random.key(0), tree(), fan="fan_avg")
