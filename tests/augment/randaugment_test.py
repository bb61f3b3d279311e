"""RandAugment by strength: what is drawn, how often, and how strongly."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import operations, randaugment

augment = jax.jit(
  randaugment.random_augment, static_argnames=("num_ops", "min_magnitude")
)
BATCH = 120
NAMES = operations.NAMES
apply = jax.jit(operations.apply)


def pictures(batch=BATCH, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.random((batch, 8, 8, channels), np.float32))


@functools.partial(jax.jit, static_argnames=("num_ops", "min_magnitude"))
def _draw(strengths, **settings):
  keys = jax.random.split(jax.random.key(0), len(strengths))
  one = functools.partial(randaugment.draw, **settings)
  return jax.vmap(one)(keys, strengths)


def drawn(strength, *, num_ops=1, min_magnitude=None):
  """3000 draws: operations, whether done, values, centers; `[3000, K, ...]`."""
  out = _draw(
    jnp.full(3000, strength), num_ops=num_ops, min_magnitude=min_magnitude
  )
  return [np.asarray(x) for x in out]


@pytest.mark.parametrize("channels, num_ops", [(1, 1), (3, 2)])
def test_strength_zero_changes_nothing(channels, num_ops):
  images = pictures(channels=channels)
  out = augment(jax.random.key(0), images, jnp.zeros(BATCH), num_ops=num_ops)
  assert out.dtype == images.dtype
  np.testing.assert_array_equal(out, images)


@pytest.mark.parametrize("channels, num_ops", [(1, 1), (3, 2)])
def test_result_is_bytes_where_changed(channels, num_ops):
  images = pictures(channels=channels)
  out = augment(jax.random.key(0), images, jnp.ones(BATCH), num_ops=num_ops)
  assert out.shape == images.shape and out.dtype == jnp.float32
  levels = np.asarray(out) * 255
  np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
  assert levels.min() >= 0 and levels.max() <= 255


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_an_operation_is_done_with_probability_of_the_strength(strength):
  _, done, _, _ = drawn(strength, num_ops=2)
  limit = 5 * math.sqrt(strength * (1 - strength) / 3000)
  assert (np.abs(done.mean(0) - strength) <= limit).all()
  both = np.mean(done[:, 0] & done[:, 1])
  assert abs(both - strength**2) <= limit


def test_operations_are_equally_likely_and_drawn_with_replacement():
  which, *_ = drawn(1.0, num_ops=2)
  assert which.shape == (3000, 2)
  for i in range(2):
    counts = np.bincount(which[:, i], minlength=15)
    assert len(counts) == 15
    assert np.abs(counts - 200).max() < 5 * math.sqrt(200)
  twice = np.mean(which[:, 0] == which[:, 1])
  assert abs(twice - 1 / 15) < 5 * math.sqrt(0.0625 / 3000)


def magnitudes(which, values):
  """Turns values back into magnitudes, 0 to 30."""
  ranges = np.array(list(operations.RANGES.values()))[which]
  sizes = np.where(which < 5, np.abs(values), values)
  return 30 * (sizes - ranges[..., 0]) / (ranges[..., 1] - ranges[..., 0])


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_magnitude_of_one_operation(strength):
  which, _, values, centers = drawn(strength)
  expected = np.full(which.shape, 10 + 20 * strength)
  np.testing.assert_allclose(magnitudes(which, values), expected, rtol=1e-4)
  assert centers.shape == (3000, 1, 2)
  assert centers.min() >= 0 and centers.max() < 1
  np.testing.assert_allclose(centers.mean((0, 1)), [0.5, 0.5], atol=0.03)
  # Shears, shifts and turns go both ways, the others do not.
  signed = which < 5
  assert abs(np.mean(values[signed] < 0) - 0.5) < 5 * math.sqrt(0.25 / 1000)
  assert (values[~signed] >= 0).all()


def test_magnitude_of_several_operations_has_one_random_factor():
  which, _, values, _ = drawn(0.8, num_ops=2)
  first, second = magnitudes(which, values).T
  np.testing.assert_allclose(first, second, atol=1e-3)
  factors = (first - 5) / (25 * 0.8)
  assert factors.min() > -1e-3 and factors.max() < 1.001
  quarters = np.array([0.25, 0.5, 0.75])
  np.testing.assert_allclose(
    np.quantile(factors, quarters), quarters, atol=0.04
  )


def test_least_magnitude_can_be_chosen():
  which, _, values, _ = drawn(0.0, min_magnitude=3.0)
  np.testing.assert_allclose(
    magnitudes(which, values), np.full(which.shape, 3.0), rtol=1e-3
  )


def test_what_is_drawn_is_what_is_done():
  """By hand: round, apply one after the other where done, and scale back."""
  key, images, strength = (
    jax.random.key(3),
    pictures(),
    jnp.linspace(0, 1, BATCH),
  )
  out = np.asarray(augment(key, images, strength, num_ops=2))
  one = functools.partial(randaugment.draw, num_ops=2)
  which, done, values, centers = jax.jit(jax.vmap(one))(
    jax.random.split(key, BATCH), strength
  )
  pixels = np.round(np.asarray(images) * 255).astype(np.uint8)
  for k in range(2):
    after = apply(jnp.asarray(pixels), which[:, k], values[:, k], centers[:, k])
    pixels = np.where(np.asarray(done)[:, k, None, None, None], after, pixels)
  idle = ~np.asarray(done).any(1)
  assert 0.2 < idle.mean() < 0.5  # of (1 - M)^2, a third on average
  np.testing.assert_array_equal(out[idle], np.asarray(images)[idle])
  np.testing.assert_allclose(out[~idle], pixels[~idle] / 255, atol=1e-6)


def test_golden_values():
  which = jnp.array([NAMES.index(n) for n in ("Rotate", "Posterize", "Color")])
  found = randaugment.operation_values(
    which, jnp.array([15.0, 15.0, 30.0]), negative=jnp.array([True] * 3)
  )
  np.testing.assert_allclose(found, [-30.0, 6.0, 1.9], rtol=1e-6)


def test_an_image_depends_on_its_own_key_and_strength_only():
  key, images = jax.random.key(3), pictures()
  strength = jnp.linspace(0, 1, BATCH)
  whole = augment(key, images, strength, num_ops=2)
  other = augment(key, images.at[:9].set(0), strength.at[:9].set(1), num_ops=2)
  np.testing.assert_array_equal(whole[9:], other[9:])
  same = augment(key, images, strength, num_ops=2)
  np.testing.assert_array_equal(whole, same)
  assert not np.array_equal(
    whole, augment(jax.random.key(4), images, strength, num_ops=2)
  )


def test_no_key_is_used_twice(key_reuse):
  small = jax.jit(functools.partial(randaugment.random_augment, num_ops=2))
  # Tracing is enough for the check.
  out = jax.eval_shape(small, jax.random.key(0), pictures(2), jnp.ones(2))
  assert out.shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"num_ops": 0}, "num_ops is 0; it must be 1 or more"),
    ({"num_ops": -1}, "num_ops is -1; it must be 1 or more"),
    ({"min_magnitude": -1.0}, r"min_magnitude is -1.0; .* \[0, 30\]"),
    ({"min_magnitude": 31.0}, r"min_magnitude is 31.0; .* \[0, 30\]"),
    ({"min_magnitude": math.nan}, "min_magnitude is nan"),
  ],
)
def test_bad_settings(change, message):
  one = functools.partial(randaugment.random_augment, **change)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(one, jax.random.key(0), pictures(2), jnp.ones(2))


def test_bad_images():
  key, images, ones = jax.random.key(0), pictures(2), jnp.ones(2)
  one = functools.partial(jax.eval_shape, randaugment.random_augment, key)
  with pytest.raises(ValueError, match=r"or 1 \(gray\), not 2"):
    one(images[..., :2], ones)
  with pytest.raises(AssertionError):  # bytes
    one(images.astype(jnp.uint8), ones)
  with pytest.raises(AssertionError):  # one strength for all
    one(images, jnp.float32(1))
