"""Colours, against Pillow, the standard library's hues, and by counting."""

import colorsys
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance
import pytest

from ltjax.augment import colors

jitter = jax.jit(
  colors.random_jitter,
  static_argnames=(
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "probability",
  ),
)
NONE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def pictures(batch=4, size=6, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (batch, size, size, channels)).astype(np.uint8)


def floats(images):
  return jnp.asarray(images, jnp.float32) / 255


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.4, 3.0])
@pytest.mark.parametrize(
  "ours, pillows",
  [
    (colors.adjust_brightness, ImageEnhance.Brightness),
    (colors.adjust_contrast, ImageEnhance.Contrast),
    (colors.adjust_saturation, ImageEnhance.Color),
  ],
)
def test_equals_pillow(ours, pillows, factor):
  image = pictures(1, 9)[0]
  expected = np.asarray(pillows(Image.fromarray(image)).enhance(factor), int)
  found = ours(floats(image), jnp.float32(factor))
  assert found.dtype == jnp.float32 and found.shape == image.shape
  # Pillow rounds grays to bytes, which the factor then multiplies.
  limit = 1.5 + abs(1 - factor) * 0.6
  assert np.abs(np.asarray(found) * 255 - expected).max() < limit


def test_grayscale_equals_pillow():
  image = pictures(1, 9)[0]
  expected = np.asarray(Image.fromarray(image).convert("L"), int)
  found = np.asarray(colors.grayscale(floats(image))) * 255
  for channel in range(3):
    assert np.abs(found[..., channel] - expected).max() <= 0.51


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.05, 1 / 3, 0.5])
def test_hue_equals_the_standard_library(shift):
  image = pictures(1, 9)[0]
  image[0, :4] = [[0, 0, 0], [255, 255, 255], [70, 70, 70], [200, 200, 10]]
  found = np.asarray(colors.adjust_hue(floats(image), jnp.float32(shift)))
  for row in range(9):
    for column in range(9):
      h, s, v = colorsys.rgb_to_hsv(*(image[row, column] / 255))
      expected = colorsys.hsv_to_rgb((h + shift) % 1, s, v)
      np.testing.assert_allclose(found[row, column], expected, atol=2e-6)


def test_a_third_of_a_turn_makes_green_of_red():
  red = jnp.zeros((1, 1, 3)).at[..., 0].set(0.8)
  for shift, channel in ((1 / 3, 1), (2 / 3, 2), (-1 / 3, 2), (1.0, 0)):
    found = colors.adjust_hue(red, jnp.float32(shift))
    expected = np.zeros((1, 1, 3))
    expected[..., channel] = 0.8
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_channel_has_no_hue_saturation_or_grayscale():
  image = floats(pictures(1, 5, 1)[0])
  np.testing.assert_array_equal(colors.adjust_hue(image, 0.3), image)
  np.testing.assert_allclose(
    colors.adjust_saturation(image, 0.2), image, atol=1e-6
  )
  np.testing.assert_array_equal(colors.grayscale(image), image)
  # Contrast and brightness it has.
  flat = colors.adjust_contrast(image, 0.0)
  np.testing.assert_allclose(flat, np.full((5, 5, 1), image.mean()), rtol=1e-5)
  np.testing.assert_allclose(colors.adjust_brightness(image, 0.5), image / 2)


def test_result_stays_in_range_and_finite():
  extreme = jnp.stack([jnp.zeros((4, 4, 3)), jnp.ones((4, 4, 3))])
  batch = jnp.concatenate([extreme, floats(pictures(14, 4))])
  out = jitter(
    jax.random.key(0),
    batch,
    brightness=5.0,
    contrast=5.0,
    saturation=5.0,
    hue=0.5,
    probability=1.0,
  )
  assert np.all(np.isfinite(out))
  assert np.min(out) >= 0 and np.max(out) <= 1 + 1e-6
  np.testing.assert_array_equal(out[0], np.zeros((4, 4, 3)))


@pytest.mark.parametrize(
  "settings", [{"probability": 0.0}, NONE | {"probability": 1.0}]
)
def test_nothing_to_do_changes_nothing(settings):
  batch = floats(pictures())
  out = jitter(jax.random.key(0), batch, **settings)
  np.testing.assert_allclose(out, batch, atol=1e-6)


@pytest.mark.parametrize(
  "name, strength, low, high",
  [("brightness", 0.4, 0.6, 1.4), ("brightness", 2.0, 0.0, 3.0)],
)
def test_factors_are_uniform(name, strength, low, high):
  batch = jnp.full((4000, 1, 1, 3), 0.25)
  settings = NONE | {name: strength, "probability": 1.0}
  out = jitter(jax.random.key(0), batch, **settings)
  factors = np.asarray(out)[:, 0, 0, 0] / 0.25
  assert low <= factors.min() + 1e-6 and factors.max() <= high + 1e-6
  # Quantiles of 4000 uniform draws: standard deviation below 0.8 %.
  quantiles = np.quantile(factors, [0.1, 0.5, 0.9])
  expected = low + (high - low) * np.array([0.1, 0.5, 0.9])
  np.testing.assert_allclose(quantiles, expected, atol=0.04 * (high - low))


def test_probability_is_that_of_a_change():
  batch = jnp.full((2000, 1, 1, 3), 0.25)
  out = jitter(jax.random.key(1), batch, **NONE | {"brightness": 0.4})
  changed = np.mean(np.abs(np.asarray(out)[:, 0, 0, 0] - 0.25) > 1e-6)
  assert abs(changed - 0.8) < 5 * np.sqrt(0.16 / 2000)
  batch = floats(np.tile(pictures(1, 2), (2000, 1, 1, 1)))
  out = np.asarray(colors.random_grayscale(jax.random.key(1), batch))
  gray = np.ptp(out.reshape(2000, -1, 3), axis=2).max(1) < 1e-6
  assert abs(np.mean(gray) - 0.2) < 5 * np.sqrt(0.16 / 2000)
  np.testing.assert_array_equal(out[~gray], np.asarray(batch)[~gray])


def test_all_orders_occur_and_nothing_else():
  image = floats(pictures(1, 2)[0])
  operations = [
    functools.partial(colors.adjust_brightness, factor=1.9),
    functools.partial(colors.adjust_contrast, factor=0.3),
    functools.partial(colors.adjust_saturation, factor=1.8),
    functools.partial(colors.adjust_hue, shift=0.21),
  ]
  expected = []
  for order in itertools.permutations(operations):
    changed = image
    for operation in order:
      changed = operation(changed)
    expected.append(np.ravel(changed))
  draws = 400
  found = jax.jit(
    jax.vmap(lambda key: colors.in_random_order(key, image, operations))
  )(jax.random.split(jax.random.key(0), draws))
  found = np.reshape(found, (draws, 1, -1))
  gaps = np.abs(found - np.array(expected)[None]).max(-1)  # [draws, 24]
  assert (gaps.min(1) < 1e-4).all() and (gaps.min(0) < 1e-4).all()
  # The order matters: the results are not all the same few.
  assert len(np.unique(np.round(expected, 4), axis=0)) > 12


def test_orders_are_equally_likely():
  """Adding 1 and doubling: 2 x + 1 or 2 (x + 1)."""
  operations = [lambda x: x + 1, lambda x: 2 * x]
  image = jnp.zeros((1, 1, 1))
  found = jax.vmap(lambda key: colors.in_random_order(key, image, operations))(
    jax.random.split(jax.random.key(0), 2000)
  )
  assert set(np.ravel(found)) == {1.0, 2.0}
  assert abs(np.mean(np.ravel(found) == 1.0) - 0.5) < 5 * np.sqrt(0.25 / 2000)


def test_each_image_has_its_own_draw():
  key, batch = jax.random.key(3), floats(np.repeat(pictures(1), 6, axis=0))
  whole = np.asarray(jitter(key, batch, probability=1.0))
  assert len(np.unique(whole.reshape(6, -1), axis=0)) == 6
  changed = np.array(batch)
  changed[:3] = 0.5
  again = np.asarray(jitter(key, jnp.asarray(changed), probability=1.0))
  np.testing.assert_array_equal(again[3:], whole[3:])


def test_same_key_same_result_and_other_key_other():
  batch = floats(pictures())
  one, same, other = (jitter(jax.random.key(k), batch) for k in (3, 3, 4))
  np.testing.assert_array_equal(one, same)
  assert not np.array_equal(one, other)


def test_no_key_is_used_twice(key_reuse):
  batch = floats(pictures(2, 2))
  colors.random_jitter(jax.random.key(0), batch)
  colors.random_grayscale(jax.random.key(0), batch)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"brightness": -0.1}, "brightness is -0.1; it must be 0 or more"),
    ({"contrast": -1.0}, "contrast is -1.0; it must be 0 or more"),
    ({"saturation": float("nan")}, "saturation is nan; it must be 0 or more"),
    ({"hue": 0.6}, r"hue is 0.6; it must be in \[0, 0.5\]"),
    ({"hue": -0.1}, r"hue is -0.1; it must be in \[0, 0.5\]"),
    ({"probability": 1.5}, r"probability is 1.5; it must be in \[0, 1\]"),
  ],
)
def test_settings_out_of_range(settings, message):
  with pytest.raises(ValueError, match=message):
    colors.random_jitter(jax.random.key(0), floats(pictures()), **settings)


def test_bad_images():
  key = jax.random.key(0)
  for change in (colors.random_jitter, colors.random_grayscale):
    with pytest.raises(ValueError, match=r"or 1 \(gray\), not 4"):
      change(key, floats(pictures(channels=4)))
    with pytest.raises(AssertionError):  # bytes
      change(key, jnp.asarray(pictures()))
  with pytest.raises(ValueError, match="probability is -0.1"):
    colors.random_grayscale(key, floats(pictures()), probability=-0.1)
