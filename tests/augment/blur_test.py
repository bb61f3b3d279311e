"""Gaussian blur, against a slow sum over the square."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import blur

gaussian = jax.jit(blur.gaussian, static_argnames="radius")
random_blur = jax.jit(
  blur.random_blur, static_argnames=("probability", "sigma")
)


def pictures(batch=1, height=9, width=7, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return rng.random((batch, height, width, channels), np.float32)


def reference(image, sigma, radius):
  """Sums over all pairs of offsets, mirroring the border by hand."""
  height, width, _ = image.shape

  def mirrored(i, length):
    i = abs(i)
    return 2 * (length - 1) - i if i >= length else i

  offsets = range(-radius, radius + 1)
  total = sum(math.exp(-k * k / (2 * sigma**2)) for k in offsets)
  out = np.zeros_like(image, np.float64)
  for y in range(height):
    for x in range(width):
      for dy in offsets:
        for dx in offsets:
          weight = math.exp(-(dy * dy + dx * dx) / (2 * sigma**2)) / total**2
          pixel = image[mirrored(y + dy, height), mirrored(x + dx, width)]
          out[y, x] += weight * pixel
  return out


@pytest.mark.parametrize(
  "sigma, radius", [(0.5, 1), (1.0, 3), (2.0, 6), (0.1, 1)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_the_slow_sum(sigma, radius, channels):
  image = pictures(channels=channels)[0]
  found = gaussian(jnp.asarray(image), jnp.float32(sigma), radius=radius)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(
    found, reference(image, sigma, radius), rtol=1e-5, atol=1e-6
  )


def test_golden_weights():
  """A white pixel shows the filter: exp(-1/2) = 0.6065 of the middle."""
  image = jnp.zeros((5, 5, 1)).at[2, 2].set(1)
  found = np.asarray(gaussian(image, jnp.float32(1.0), radius=1))[..., 0]
  side, middle = 0.27406862, 0.45186276
  expected = np.zeros((5, 5))
  row = np.array([side, middle, side])
  expected[1:4, 1:4] = row[:, None] * row[None, :]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_limits():
  image = jnp.asarray(pictures()[0])
  narrow = gaussian(image, jnp.float32(0.05), radius=2)
  np.testing.assert_array_equal(narrow, image)
  np.testing.assert_array_equal(
    gaussian(image, jnp.float32(2.0), radius=0), image
  )
  # A very wide filter is the plain mean over its taps.
  wide = gaussian(image, jnp.float32(1e4), radius=1)
  mean = np.asarray(image)[2:5, 3:6].mean((0, 1))
  np.testing.assert_allclose(wide[3, 4], mean, rtol=1e-5)
  # A constant image stays, and nothing leaves its range.
  flat = gaussian(jnp.full((8, 8, 3), 0.3), jnp.float32(1.3), radius=3)
  np.testing.assert_allclose(flat, np.full((8, 8, 3), 0.3), rtol=1e-6)
  half = gaussian(image.astype(jnp.bfloat16), jnp.float32(1.0), radius=1)
  assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize(
  "size, taps", [(1, 0), (2, 1), (8, 1), (16, 1), (32, 1), (96, 4), (224, 11)]
)
def test_radius_is_half_a_tenth_of_the_side(size, taps):
  assert blur.radius(size) == taps


def test_share_and_widths():
  batch = jnp.zeros((2000, 3, 3, 1)).at[:, 1, 1].set(1)
  found = np.asarray(random_blur(jax.random.key(0), batch, probability=0.3))
  middle = found[:, 1, 1, 0]
  # Sigma below 0.2 leaves the white pixel; so does no blur.
  changed = np.mean(middle < 0.999)
  assert abs(changed - 0.3 * 1.75 / 1.9) < 5 * math.sqrt(0.25 / 2000)
  # The middle weight is 1 / (1 + 2 exp(-1 / 2 sigma^2)) squared.
  side = (1 / np.sqrt(middle[middle < 0.999]) - 1) / 2
  sigmas = np.sqrt(-1 / (2 * np.log(side)))
  assert sigmas.min() > 0.2 and sigmas.max() < 2.0 and sigmas.max() > 1.95
  # Uniform from where a change can be seen to 2.
  assert abs(np.median(sigmas) - (sigmas.min() + 2) / 2) < 0.1


def test_an_image_depends_on_its_own_key_only():
  batch = jnp.asarray(pictures(6))
  always = functools.partial(random_blur, probability=1.0)
  whole = always(jax.random.key(1), batch)
  other = always(jax.random.key(1), batch.at[:3].set(0))
  np.testing.assert_array_equal(whole[3:], other[3:])
  assert not np.allclose(whole, always(jax.random.key(2), batch))
  same = random_blur(jax.random.key(1), batch, probability=0.0)
  np.testing.assert_array_equal(same, batch)


def test_no_key_is_used_twice(key_reuse):
  # Tracing is enough for the check.
  out = jax.eval_shape(random_blur, jax.random.key(0), jnp.zeros((2, 4, 4, 1)))
  assert out.shape == (2, 4, 4, 1)


def test_bad_settings():
  key, batch = jax.random.key(0), jnp.asarray(pictures())
  for probability in (-0.1, 1.1, math.nan):
    with pytest.raises(ValueError, match=f"blur is {probability}; .*0, 1"):
      blur.random_blur(key, batch, probability=probability)
  for sigma in ((0, 1), (2, 1), (1, math.inf), (-1, 1)):
    with pytest.raises(ValueError, match="sigma of blur .* smaller first"):
      blur.random_blur(key, batch, sigma=sigma)
  for radius in (-1, 7):
    with pytest.raises(ValueError, match=f"radius {radius} .* 9 x 7"):
      blur.gaussian(batch[0], jnp.float32(1), radius=radius)
  with pytest.raises(AssertionError):  # bytes
    blur.gaussian(jnp.zeros((4, 4, 1), jnp.uint8), jnp.float32(1), radius=1)
