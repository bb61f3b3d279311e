"""The fifteen operations of RandAugment, against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
import pytest

from ltjax.augment import operations

_apply = jax.jit(operations.apply)
_SLOTS = 100


def pictures(batch, channels=3, size=16, seed=0):
  """Smooth random pictures with a narrow range of values."""
  rng = np.random.default_rng(seed)
  small = rng.integers(20, 236, (batch, 4, 4, channels))
  large = np.kron(small, np.ones((1, size // 4, size // 4, 1)))
  noise = rng.integers(-15, 16, large.shape)
  return (large + noise).astype(np.uint8)


def apply(images, which, values, centers):
  """Fills the batch up, so that few shapes are compiled."""
  free = _SLOTS - len(images)
  args = (images, which, values, centers)
  filled = [
    jnp.pad(jnp.asarray(x), [(0, free)] + [(0, 0)] * (np.ndim(x) - 1))
    for x in args
  ]
  return np.asarray(_apply(*filled))[: len(images)]


def affine(*data):
  return lambda i: i.transform(i.size, Image.Transform.AFFINE, data)


def cutout(image, v, row, column):
  """The authors' recipe: a filled rectangle with both ends in it."""
  width, height = image.size
  side = v * width
  left = int(max(0, column * width - side / 2))
  top = int(max(0, row * height - side / 2))
  corners = (left, top, min(width, left + side), min(height, top + side))
  image = image.copy()
  color = (125, 123, 114) if image.mode == "RGB" else 123
  ImageDraw.Draw(image).rectangle(corners, color)
  return image


def enhanced(kind):
  return lambda v: lambda i: kind(i).enhance(v)


PILLOW = {
  "ShearX": lambda v: affine(1, v, 0, 0, 1, 0),
  "ShearY": lambda v: affine(1, 0, 0, v, 1, 0),
  "TranslateX": lambda v: affine(1, 0, v * 16, 0, 1, 0),
  "TranslateY": lambda v: affine(1, 0, 0, 0, 1, v * 16),
  "Rotate": lambda v: lambda i: i.rotate(v),
  "AutoContrast": lambda v: ImageOps.autocontrast,
  "Invert": lambda v: ImageOps.invert,
  "Equalize": lambda v: ImageOps.equalize,
  "Solarize": lambda v: lambda i: ImageOps.solarize(i, v),
  "Posterize": lambda v: lambda i: ImageOps.posterize(i, int(v)),
  "Contrast": enhanced(ImageEnhance.Contrast),
  "Color": enhanced(ImageEnhance.Color),
  "Brightness": enhanced(ImageEnhance.Brightness),
  "Sharpness": enhanced(ImageEnhance.Sharpness),
  "Cutout": lambda v: lambda i: cutout(i, v, 0.3, 0.8),
}
SHARES = (0.0, 0.33, 0.5, 0.81, 1.0)


def as_pillow(image, change):
  pil = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
  return np.asarray(change(pil)).reshape(image.shape)


def test_all_have_a_reference_and_a_range():
  assert set(PILLOW) == set(operations.NAMES) and len(operations.NAMES) == 15
  assert operations.NAMES[:5] == operations.SIGNED


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_of_all_operations_equals_pillow(channels):
  """One batch: every operation at five places of its range, and backwards."""
  wanted = []
  for name, (low, high) in operations.RANGES.items():
    for share in SHARES:
      value = low + (high - low) * share
      wanted.append((name, value))
      if name in operations.SIGNED:
        wanted.append((name, -value))
  images = pictures(len(wanted), channels)
  found = apply(
    jnp.asarray(images),
    jnp.array([operations.NAMES.index(name) for name, _ in wanted]),
    jnp.array([value for _, value in wanted], jnp.float32),
    jnp.tile(jnp.array([[0.3, 0.8]]), (len(wanted), 1)),
  )
  assert found.dtype == jnp.uint8 and found.shape == images.shape
  for image, ours, (name, value) in zip(images, found, wanted):
    expected = as_pillow(image, PILLOW[name](value))
    gap = np.abs(np.asarray(ours, int) - expected)
    if name in operations.SIGNED:
      # Places between two pixels fall to either by rounding.
      assert np.mean(gap > 0) < 0.01, (name, value)
    else:
      assert gap.max() <= 1 and np.mean(gap) < 0.05, (name, value)


def test_operations_do_something():
  images = pictures(15)
  found = apply(
    jnp.asarray(images),
    jnp.arange(15),
    jnp.array([0.8 * high for _, high in operations.RANGES.values()]),
    jnp.full((15, 2), 0.5),
  )
  changed = (np.asarray(found) != images).any((1, 2, 3))
  assert not [operations.NAMES[i] for i in np.flatnonzero(~changed)]


def test_ends_that_change_nothing():
  still = {
    "ShearX": 0.0,
    "ShearY": 0.0,
    "TranslateX": 0.0,
    "TranslateY": 0.0,
    "Rotate": 0.0,
    "Solarize": 256.0,
    "Posterize": 8.0,
    "Contrast": 1.0,
    "Color": 1.0,
    "Brightness": 1.0,
    "Sharpness": 1.0,
  }
  for channels in (1, 3):
    images = jnp.asarray(pictures(len(still), channels))
    found = apply(
      images,
      jnp.array([operations.NAMES.index(name) for name in still]),
      jnp.array(list(still.values())),
      jnp.full((len(still), 2), 0.5),
    )
    np.testing.assert_array_equal(found, images)


def test_gray_images_have_no_colour():
  images = jnp.asarray(pictures(1, 1))
  color = jnp.array([operations.NAMES.index("Color")])
  found = apply(images, color, jnp.array([0.1]), jnp.zeros((1, 2)))
  np.testing.assert_array_equal(found, images)


def test_cutout_hides_a_square_and_no_more():
  images = jnp.zeros((1, 16, 16, 3), jnp.uint8)
  which = jnp.array([operations.NAMES.index("Cutout")])
  found = apply(images, which, jnp.array([0.25]), jnp.array([[0.5, 0.0]]))
  expected = np.zeros((16, 16, 3))
  expected[6:11, 0:5] = (125, 123, 114)
  np.testing.assert_array_equal(found[0], expected)


def test_no_operation_and_no_squares():
  images = jnp.asarray(pictures(2))
  which = jnp.array([-1, operations.NAMES.index("TranslateX")])
  found = operations.apply(images, which, jnp.array([0.5, 0.25]), fill=128)
  np.testing.assert_array_equal(found[0], images[0])
  np.testing.assert_array_equal(found[1, :, :12], images[1, :, 4:])
  assert (found[1, :, 12:] == 128).all()


def test_images_do_not_depend_on_each_other():
  images = jnp.asarray(pictures(15))
  values = jnp.array([high for _, high in operations.RANGES.values()])
  centers = jnp.full((15, 2), 0.4)
  whole = apply(images, jnp.arange(15), values, centers)
  other = apply(images.at[:7].set(3), jnp.arange(15), values, centers)
  np.testing.assert_array_equal(whole[7:], other[7:])


def test_tiny_images_work():
  images = jnp.full((15, 2, 2, 3), 9, jnp.uint8)
  found = apply(images, jnp.arange(15), jnp.ones(15), jnp.zeros((15, 2)))
  assert found.shape == images.shape
  for name, color in (("Invert", 246), ("Sharpness", 9), ("AutoContrast", 9)):
    assert (found[operations.NAMES.index(name)] == color).all()


def test_bad_images():
  rest = jnp.zeros(1, jnp.int32), jnp.zeros(1), jnp.zeros((1, 2))
  with pytest.raises(ValueError, match=r"or 1 \(gray\), not 2"):
    operations.apply(jnp.zeros((1, 4, 4, 2), jnp.uint8), *rest)
  with pytest.raises(AssertionError):  # floats
    operations.apply(jnp.zeros((1, 4, 4, 3)), *rest)
  with pytest.raises(AssertionError):  # too few operations
    operations.apply(jnp.zeros((2, 4, 4, 3), jnp.uint8), *rest)
