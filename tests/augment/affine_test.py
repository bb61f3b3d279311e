"""Affine warps, against Pillow's nearest neighbour."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from ltjax.augment import affine


def picture(height=21, width=16, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(1, 256, (height, width, channels)).astype(np.uint8)


def warped(image, matrix):
  return np.asarray(jax.jit(affine.warp)(jnp.asarray(image)[None], matrix))[0]


def pillow(image, change):
  pil = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
  return np.asarray(change(pil)).reshape(image.shape)


def transformed(image, data):
  return pillow(
    image, lambda i: i.transform(i.size, Image.Transform.AFFINE, data)
  )


def number(x):
  return jnp.array([x], jnp.float32)


AMOUNTS = [0.0, 0.13, -0.37, 0.6, -0.6]


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_shear(amount, channels):
  image = picture(channels=channels)
  np.testing.assert_array_equal(
    warped(image, affine.shear_x(number(amount))),
    transformed(image, (1, amount, 0, 0, 1, 0)),
  )
  np.testing.assert_array_equal(
    warped(image, affine.shear_y(number(amount))),
    transformed(image, (1, 0, 0, amount, 1, 0)),
  )


@pytest.mark.parametrize("amount", AMOUNTS)
def test_translate(amount):
  image = picture()
  columns, rows = amount * 16, amount * 21
  np.testing.assert_array_equal(
    warped(image, affine.translate(number(columns), number(rows))),
    transformed(image, (1, 0, columns, 0, 1, rows)),
  )


@pytest.mark.parametrize("degrees", [0, 3, -17.5, 30, 45, -60, 60])
@pytest.mark.parametrize("shape", [(21, 16, 3), (32, 32, 1)])
def test_rotate(degrees, shape):
  image = picture(*shape)
  found = warped(
    image, affine.rotate(number(degrees), height=shape[0], width=shape[1])
  )
  expected = pillow(image, lambda i: i.rotate(degrees))
  # Places on the border of two pixels fall to either by rounding.
  assert np.mean((found != expected).any(-1)) < 0.005


def test_quarter_turn_is_counter_clockwise():
  image = picture(8, 8)
  found = warped(image, affine.rotate(number(90.0), height=8, width=8))
  np.testing.assert_array_equal(found, np.rot90(image))


def test_identity_and_whole_shifts():
  image = picture()
  np.testing.assert_array_equal(warped(image, affine.identity(1)), image)
  found = warped(image, affine.translate(number(3.0), number(-2.0)))
  expected = np.zeros_like(image)
  expected[2:, :-3] = image[:-2, 3:]
  np.testing.assert_array_equal(found, expected)
  # All shifted out: black.
  assert not warped(image, affine.translate(number(99.0), number(0.0))).any()


def test_each_image_has_its_own_matrix_and_any_dtype():
  images = jnp.asarray(np.stack([picture(seed=s) for s in range(3)]))
  matrices = affine.shear_x(jnp.array([0.0, 0.3, -0.2]))
  whole = affine.warp(images, matrices)
  np.testing.assert_array_equal(whole[0], images[0])
  for i in range(3):
    alone = affine.warp(images[i : i + 1], matrices[i : i + 1])
    np.testing.assert_array_equal(whole[i], alone[0])
  floats = affine.warp(images / 255, matrices)
  assert floats.dtype == jnp.float32
  np.testing.assert_allclose(floats * 255, whole, rtol=1e-6)


def test_matrices_must_fit():
  with pytest.raises(AssertionError):
    affine.warp(jnp.zeros((2, 4, 4, 1)), affine.identity(3))
