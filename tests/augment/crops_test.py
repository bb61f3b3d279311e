"""Tests of crops.py, against Pillow and by counting."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from ltjax.augment import crops

resized_window = jax.jit(
  crops.resized_window, static_argnames=("size", "interpolation")
)


def boxes(number, *, height, width, **settings):
  keys = jax.random.split(jax.random.key(0), number)
  draw = jax.vmap(
    lambda key: crops.random_box(key, height=height, width=width, **settings)
  )
  return np.asarray(jax.jit(draw)(keys))


def picture(height=37, width=29, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  shape = (height, width, channels)
  return rng.integers(0, 256, shape).astype(np.uint8)


def pillow(image, box, size):
  top, left, height, width = (int(x) for x in box)
  squeezed = image if image.shape[-1] == 3 else image[..., 0]
  resized = Image.fromarray(squeezed).resize(
    (size, size),
    Image.Resampling.BILINEAR,
    box=(left, top, left + width, top + height),
  )
  return np.asarray(resized).reshape(size, size, -1)


@pytest.mark.parametrize(
  "box", [(0, 0, 37, 29), (5, 3, 20, 22), (30, 20, 3, 4)]
)
@pytest.mark.parametrize("size, channels", [(8, 3), (41, 1)])
def test_window_is_pillows(box, size, channels):
  image = picture(channels=channels)
  ours = resized_window(
    jnp.asarray(image), jnp.asarray(box, jnp.int32), size=size
  )
  assert ours.dtype == jnp.uint8 and ours.shape == (size, size, channels)
  # Pillow rounds between its two passes.
  gap = np.abs(np.asarray(ours, int) - pillow(image, box, size))
  assert gap.max() <= 1


@pytest.mark.parametrize(
  "box", [(0, 0, 37, 29), (5, 3, 20, 22), (30, 20, 3, 4)]
)
@pytest.mark.parametrize(
  "interpolation, resampling",
  [
    ("linear", Image.Resampling.BILINEAR),
    ("cubic", Image.Resampling.BICUBIC),
  ],
)
def test_interpolations_are_pillows(box, interpolation, resampling):
  """In floats, where Pillow neither rounds nor clips."""
  image = picture(channels=1).astype(np.float32)
  for size in (8, 41):
    ours = resized_window(
      jnp.asarray(image),
      jnp.asarray(box, jnp.int32),
      size=size,
      interpolation=interpolation,
    )
    top, left, height, width = box
    expected = Image.fromarray(image[..., 0]).resize(
      (size, size), resampling, box=(left, top, left + width, top + height)
    )
    np.testing.assert_allclose(ours[..., 0], expected, atol=0.01)


def test_cubic_bytes_are_clipped_and_floats_overshoot():
  edge = np.zeros((8, 8, 1), np.uint8)
  edge[:, 4:] = 255
  box = jnp.asarray([0, 0, 8, 8], jnp.int32)
  cubic = functools.partial(
    resized_window, box=box, size=16, interpolation="cubic"
  )
  floats = cubic(jnp.asarray(edge, jnp.float32) / 255)
  assert floats.min() < -0.02 and floats.max() > 1.02
  expected = np.round(np.clip(floats, 0, 1) * 255)
  np.testing.assert_allclose(cubic(jnp.asarray(edge)), expected, atol=1)


def test_window_of_the_same_size_is_a_cut():
  image = picture(20, 20)
  ours = resized_window(
    jnp.asarray(image), jnp.asarray([4, 7, 9, 9], jnp.int32), size=9
  )
  np.testing.assert_array_equal(ours, image[4:13, 7:16])


def test_floats_stay_floats_unrounded():
  image = jnp.asarray(picture(16, 16), jnp.float32) / 255
  box = jnp.asarray([1, 2, 12, 11], jnp.int32)
  ours = resized_window(image, box, size=8)
  assert ours.dtype == jnp.float32
  as_bytes = resized_window(jnp.asarray(picture(16, 16)), box, size=8).astype(
    jnp.float32
  )
  np.testing.assert_allclose(ours * 255, as_bytes, atol=0.501)
  assert (
    resized_window(image.astype(jnp.bfloat16), box, size=8).dtype
    == jnp.bfloat16
  )


def test_boxes_lie_inside_and_have_the_wanted_area_and_ratio():
  found = boxes(4000, height=64, width=64)
  top, left, height, width = found.T
  assert (top >= 0).all() and (left >= 0).all()
  assert (top + height <= 64).all() and (left + width <= 64).all()
  area, ratio = height * width / 64**2, width / height
  # Sides are rounded to pixels.
  assert area.min() > 0.07 and area.max() <= 1
  assert ratio.min() > 0.7 and ratio.max() < 1.43
  # Uniform but for windows that did not fit: the mean is a little below 0.54.
  assert 0.46 < area.mean() < 0.54
  assert abs(np.log(ratio).mean()) < 0.02
  # All places are reached.
  small = boxes(3000, height=8, width=8, scale=(0.25, 0.25), ratio=(1, 1))
  assert {tuple(b) for b in small} == {
    (top, left, 4, 4) for top in range(5) for left in range(5)
  }


def test_scale_one_is_the_whole_image():
  found = boxes(50, height=12, width=12, scale=(1, 1), ratio=(1, 1))
  np.testing.assert_array_equal(found, np.tile([0, 0, 12, 12], (50, 1)))


@pytest.mark.parametrize(
  ("height", "width", "box"),
  [
    (10, 100, (0, 43, 10, 13)),  # too wide: 10 * 4/3
    (100, 10, (43, 0, 13, 10)),  # too high: 10 / (3/4)
  ],
)
def test_a_window_that_never_fits_falls_back_to_the_middle(height, width, box):
  found = boxes(20, height=height, width=width, scale=(1, 1))
  np.testing.assert_array_equal(found, np.tile(box, (20, 1)))


def test_fallback_within_the_ratio_is_the_whole_image():
  # Windows of the full area and of ratio 1.2 never fit a square.
  found = boxes(5, height=30, width=30, scale=(1, 1), ratio=(1.2, 1.2))
  # 30 x 30 has ratio 1, below 1.2: the widest window of that ratio.
  np.testing.assert_array_equal(found, np.tile([2, 0, 25, 30], (5, 1)))


def test_an_image_depends_on_its_own_key_only():
  key = jax.random.key(3)
  images = jnp.asarray(np.stack([picture(16, 20, seed=s) for s in range(3)]))
  crop = jax.jit(functools.partial(crops.random_resized_crop, size=8))
  whole = crop(key, images)
  assert whole.shape == (3, 8, 8, 3) and whole.dtype == jnp.uint8
  other = crop(key, images.at[0].set(0))
  np.testing.assert_array_equal(whole[1:], other[1:])
  draw = jax.jit(functools.partial(crops.random_box, height=16, width=20))
  keys = jax.random.split(key, 3)
  for i in range(3):
    box = draw(keys[i])
    gap = pillow(np.asarray(images[i]), box, 8) - np.asarray(whole[i], int)
    assert np.abs(gap).max() <= 1


def test_center_crop():
  images = jnp.arange(2 * 5 * 7 * 1).reshape(2, 5, 7, 1)
  np.testing.assert_array_equal(
    crops.center_crop(images, size=3), images[:, 1:4, 2:5]
  )
  whole = jnp.zeros((1, 4, 4, 3), jnp.uint8)
  assert crops.center_crop(whole, size=4).shape == (1, 4, 4, 3)
  for size in (0, 6):
    with pytest.raises(ValueError, match=f"crop of {size} pixels .* 5 x 7"):
      crops.center_crop(images, size=size)


def test_bad_settings():
  images = jnp.zeros((1, 8, 8, 3), jnp.uint8)
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="size of a crop is 0"):
    crops.random_resized_crop(key, images, size=0)
  with pytest.raises(
    ValueError, match="'nearest'; choose one of linear, cubic"
  ):
    crops.random_resized_crop(key, images, size=4, interpolation="nearest")
  for scale in ((0, 1), (0.5, 0.2), (0.5, 1.5), (math.nan, 1)):
    with pytest.raises(ValueError, match="scale of a crop"):
      crops.random_resized_crop(key, images, size=4, scale=scale)
  for ratio in ((0, 1), (2, 1), (1, math.inf)):
    with pytest.raises(ValueError, match="ratio of a crop"):
      crops.random_resized_crop(key, images, size=4, ratio=ratio)
