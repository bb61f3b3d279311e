"""Colour tables, against Pillow."""

import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
import pytest

from ltjax.augment import color_tables


def pictures(channels=3):
  """Noise, a narrow range, few values, one value, and two odd ones."""
  rng = np.random.default_rng(0)
  shape = (40, 30, channels)
  batch = [
    rng.integers(0, 256, shape),
    rng.integers(90, 131, shape),
    rng.integers(0, 3, shape) * 120,
    np.full(shape, 77),
    np.clip(rng.normal(100, 30, shape), 0, 255),
    rng.integers(0, 2, shape) * 255,
  ]
  return np.stack(batch).astype(np.uint8)


def each(images, change):
  """Does with Pillow what `change` says, image by image."""
  out = []
  for image in images:
    gray = image.shape[-1] == 1
    pil = Image.fromarray(image[..., 0] if gray else image)
    out.append(np.asarray(change(pil)).reshape(image.shape))
  return np.stack(out)


def applied(images, tables):
  assert tables.dtype == jnp.uint8
  return np.asarray(color_tables.lookup(jnp.asarray(images), tables), int)


def numbers(images, value):
  return jnp.full(len(images), value, jnp.float32)


@pytest.fixture(params=[1, 3])
def images(request):
  return pictures(request.param)


def test_lookup_reads_each_images_own_table():
  rng = np.random.default_rng(1)
  tables = rng.integers(0, 256, (2, 3, 256)).astype(np.uint8)
  batch = rng.integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
  found = applied(batch, jnp.asarray(tables))
  for b, y, x, c in np.ndindex(batch.shape):
    assert found[b, y, x, c] == tables[b, c, batch[b, y, x, c]]


def test_histograms_count(images):
  found = color_tables.histograms(jnp.asarray(images))
  for b in range(len(images)):
    for c in range(images.shape[-1]):
      expected = np.bincount(images[b, ..., c].ravel(), minlength=256)
      np.testing.assert_array_equal(found[b, c], expected)


def test_gray_is_pillows(images):
  found = color_tables.gray(jnp.asarray(images))
  for image, gray in zip(images, found):
    pil = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    np.testing.assert_array_equal(gray[..., 0], np.asarray(pil.convert("L")))


def test_identity_and_invert(images):
  same = color_tables.identity(jnp.asarray(images))
  np.testing.assert_array_equal(applied(images, same), images)
  inverse = color_tables.invert(jnp.asarray(images))
  np.testing.assert_array_equal(
    applied(images, inverse), each(images, ImageOps.invert)
  )


def test_auto_contrast(images):
  counts = color_tables.histograms(jnp.asarray(images))
  found = applied(images, color_tables.auto_contrast(counts))
  # Pillow cuts a product of floats to an integer, which may be one too low.
  gap = np.abs(found - each(images, ImageOps.autocontrast))
  assert gap.max() <= 1 and np.mean(gap) < 0.02
  # A constant image stays.
  np.testing.assert_array_equal(found[3], images[3])
  assert found[1].min() == 0 and found[1].max() == 255


def test_equalize(images):
  counts = color_tables.histograms(jnp.asarray(images))
  found = applied(images, color_tables.equalize(counts))
  np.testing.assert_array_equal(found, each(images, ImageOps.equalize))
  assert not np.array_equal(found[1], images[1])


def test_equalize_of_few_pixels_changes_nothing():
  tiny = pictures()[:, :4, :4]
  counts = color_tables.histograms(jnp.asarray(tiny))
  found = applied(tiny, color_tables.equalize(counts))
  np.testing.assert_array_equal(found, tiny)
  np.testing.assert_array_equal(found, each(tiny, ImageOps.equalize))


@pytest.mark.parametrize("threshold", [0.0, 36.7, 110.0, 255.0, 256.0])
def test_solarize(images, threshold):
  value = numbers(images, threshold)
  found = applied(images, color_tables.solarize(jnp.asarray(images), value))
  expected = each(images, lambda i: ImageOps.solarize(i, threshold))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [1.0, 4.0, 5.9, 8.0])
def test_posterize(images, bits):
  value = numbers(images, bits)
  found = applied(images, color_tables.posterize(jnp.asarray(images), value))
  expected = each(images, lambda i: ImageOps.posterize(i, int(bits)))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.73, 1.0, 1.45, 1.9])
@pytest.mark.parametrize(
  "table, enhance",
  [
    (color_tables.contrast, ImageEnhance.Contrast),
    (color_tables.brightness, ImageEnhance.Brightness),
  ],
)
def test_factors(images, table, enhance, factor):
  found = applied(images, table(jnp.asarray(images), numbers(images, factor)))
  expected = each(images, lambda i: enhance(i).enhance(factor))
  gap = np.abs(found - expected)
  # A product that is an integer but for rounding may be cut to the one below.
  assert gap.max() <= 1 and np.mean(gap) < 0.02
  if factor == 1:
    np.testing.assert_array_equal(found, images)


def test_each_image_has_its_own_value():
  batch = jnp.asarray(np.repeat(pictures()[:1], 3, axis=0))
  factors = jnp.array([0.0, 1.0, 1.5])
  tables = color_tables.brightness(batch, factors)
  np.testing.assert_array_equal(tables[0], np.zeros((3, 256)))
  np.testing.assert_array_equal(tables[1, 0], np.arange(256))
  assert tables[2, 0, 100] == 150 and tables[2, 0, 200] == 255


def test_blend_clips_and_cuts():
  one, two = jnp.array([10, 250]), jnp.array([20, 100])
  found = color_tables.blend(one, two, jnp.float32(2.0))
  np.testing.assert_array_equal(found, [30, 0])
  assert color_tables.blend(one, two, jnp.float32(0.19))[0] == 11


def test_tables_must_fit():
  batch = jnp.asarray(pictures())
  with pytest.raises(AssertionError):
    color_tables.lookup(batch, jnp.zeros((6, 1, 256), jnp.uint8))
