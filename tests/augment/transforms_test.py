"""Transforms: made of the augmentations, for images as they are and cropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import crop_flip, crops, transforms

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8))
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
KEY = jax.random.key(1)


def make(**changes):
  return transforms.make(mean=MEAN, std=STD, **changes)


def normal(images, dtype=jnp.float32):
  return crop_flip.normalize(images, MEAN, STD, dtype)


def test_whole_images_are_tested_as_they_are():
  _, test = make()
  np.testing.assert_array_equal(test(IMAGES), normal(IMAGES))


def test_cropped_images_are_tested_on_their_middle():
  _, test = make(crop_size=4, augment="random_resized_crop")
  np.testing.assert_array_equal(test(IMAGES), normal(IMAGES[:, 2:6, 2:6]))


@pytest.mark.parametrize("crop_size", [0, 5])
def test_crop_flip(crop_size):
  train, _ = make(pad=2, crop_size=crop_size)
  expected = crop_flip.random_crop_flip(KEY, IMAGES, pad=2, size=crop_size)
  np.testing.assert_array_equal(train(KEY, IMAGES), normal(expected))
  assert expected.shape == (5, crop_size or 8, crop_size or 8, 3)


@pytest.mark.parametrize("crop_size, flip", [(0, False), (4, True)])
def test_random_resized_crop(crop_size, flip):
  train, _ = make(augment="random_resized_crop", crop_size=crop_size, flip=flip)
  found = train(KEY, IMAGES)
  k_crop, k_flip = jax.random.split(KEY)
  expected = crops.random_resized_crop(k_crop, IMAGES, size=crop_size or 8)
  expected = crop_flip.random_crop_flip(k_flip, expected, pad=0, flip=flip)
  np.testing.assert_array_equal(found, normal(expected))


def test_a_network_in_half_precision_gets_such_images():
  train, test = make(dtype=jnp.bfloat16, crop_size=4)
  assert train(KEY, IMAGES).dtype == test(IMAGES).dtype == jnp.bfloat16


def check(shape=(8, 8, 3), **changes):
  settings = {"augment": "crop_flip", "pad": 4, "crop_size": 0}
  transforms.check(image_shape=shape, **(settings | changes))


def test_settings_that_fit():
  check()
  check(pad=8, crop_size=8)
  check((8, 9, 3), augment="random_resized_crop", crop_size=8)
  check(augment="random_resized_crop")


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"augment": "randaugment"}, "data.augment is 'randaugment'; .* crop_flip"),
    ({"pad": -1}, "data.pad is -1; it must be 0 to 8"),
    ({"pad": 9}, "data.pad is 9; it must be 0 to 8"),
    ({"crop_size": -1}, "data.crop_size is -1; it must be 1 to 8"),
    ({"crop_size": 9}, "data.crop_size is 9; it must be 1 to 8"),
    (
      {"shape": (8, 9, 3), "augment": "random_resized_crop"},
      "images are 8 x 9; set data.crop_size",
    ),
  ],
)
def test_settings_that_do_not_fit(changes, error):
  with pytest.raises(ValueError, match=error):
    check(**changes)
