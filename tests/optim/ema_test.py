import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.optim import ema


def test_decay_golden():
  found = [float(ema.decay_at(jnp.int32(t), decay=0.9)) for t in range(1, 12)]
  expected = [1 / 2, 2 / 3, 3 / 4, 4 / 5, 5 / 6, 6 / 7, 7 / 8, 8 / 9] + 3 * [
    0.9
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_first_averages_are_plain_means():
  """Of the values so far and the start, until the decay is reached."""
  rng = np.random.default_rng(0)
  values = rng.normal(size=(30, 3)).astype(np.float32)
  average = jnp.asarray(values[0])
  for t in range(1, 30):
    decay = ema.decay_at(jnp.int32(t), decay=0.95)
    before = average
    average = ema.update(average, jnp.asarray(values[t]), decay=decay)
    if t < 19:
      np.testing.assert_allclose(average, values[: t + 1].mean(0), atol=1e-6)
    else:
      np.testing.assert_allclose(
        average, 0.95 * before + 0.05 * values[t], rtol=1e-5, atol=1e-6
      )


def test_decay_0_is_the_new_and_1_the_old():
  old = {"a": jnp.array([1.1, -2.2]), "b": jnp.array([[0.3]])}
  new = {"a": jnp.array([5.5, 7.7]), "b": jnp.array([[1e-30]])}
  for decay, expected in ((0.0, new), (1.0, old)):
    found = ema.update(old, new, decay=jnp.float32(decay))
    for name in old:
      np.testing.assert_array_equal(found[name], expected[name])


def test_integers_are_taken_as_they_are():
  old = {"count": jnp.int32(3), "w": jnp.float32(0.0)}
  new = {"count": jnp.int32(9), "w": jnp.float32(1.0)}
  found = ema.update(old, new, decay=jnp.float32(0.75))
  assert int(found["count"]) == 9 and found["count"].dtype == jnp.int32
  assert float(found["w"]) == 0.25


def test_bfloat16_is_averaged_in_float32_and_kept():
  old, new = jnp.bfloat16(1.0), jnp.bfloat16(2.0)
  found = ema.update(old, new, decay=jnp.float32(0.5))
  assert found.dtype == jnp.bfloat16 and float(found) == 1.5


def test_trees_must_match():
  with pytest.raises(AssertionError):
    ema.update({"a": jnp.zeros(2)}, {"a": jnp.zeros(3)}, decay=jnp.float32(0))


def cosine(step, start=0.99, total=100):
  return float(ema.cosine_decay(jnp.int32(step), start=start, total=total))


def test_cosine_decay_golden():
  found = [cosine(step, start=0.9, total=4) for step in range(5)]
  expected = [0.9, 0.9146447, 0.95, 0.9853553, 1.0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_cosine_decay_end_points():
  assert cosine(0) == np.float32(0.99)
  for step in (100, 101, 10**9):
    assert cosine(step) == 1.0


def test_cosine_decay_rises():
  values = [cosine(step, start=0.5, total=20) for step in range(21)]
  assert all(a < b for a, b in zip(values[:-1], values[1:], strict=True))
  assert {cosine(step, start=1.0) for step in range(0, 120, 7)} == {1.0}


@pytest.mark.parametrize("start", [-0.1, 1.1, float("nan")])
def test_cosine_decay_start_is_checked(start):
  with pytest.raises(ValueError, match=r"must be in \[0, 1\], such as 0\.99"):
    cosine(0, start=start)


def test_cosine_decay_needs_a_step():
  with pytest.raises(ValueError, match="total is 0.* 1 step or more"):
    cosine(0, total=0)
