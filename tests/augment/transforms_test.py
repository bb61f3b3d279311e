"""Transforms: made of the augmentations, for images as they are and cropped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import crop_flip, crops, policies, transforms

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


def strong(policy="randaugment", **changes):
  return transforms.strong(policy, mean=MEAN, std=STD, **changes)


@pytest.fixture
def identity(monkeypatch):
  """Policies that do nothing."""
  step = policies.Step("Identity", (0.0,), 1.0)
  nothing = policies.Policy(((step,),), draws=1, fill=0)
  monkeypatch.setattr(policies, "make", lambda name, **shape: nothing)


@pytest.mark.parametrize(
  "changes",
  [{"pad": 2, "pad_mode": "reflect"}, {"augment": "random_resized_crop"}],
)
def test_a_strong_view_is_a_weak_one_changed_and_cut_out(identity, changes):
  """Of 8 pixels, a gray square of 5: 4 on from where it starts."""
  found = np.asarray(strong(**changes)(KEY, IMAGES))
  k_cut, _, k_square = jax.random.split(KEY, 3)
  weak = np.array(make(**changes)[0](k_cut, IMAGES))
  gray = (127 / 255 - np.array(MEAN)) / STD
  for i, key in enumerate(jax.random.split(k_square, 5)):
    row, column = np.asarray(jax.random.uniform(key, (2,))) * 8
    top, left = int(max(0, row - 2)), int(max(0, column - 2))
    weak[i, top : top + 5, left : left + 5] = gray
  np.testing.assert_allclose(found, weak, atol=1e-6)


def test_a_strong_view_has_its_policy():
  """Its changes are those of the policy, beyond the square and the cut."""
  still = {"pad": 0, "flip": False}
  found = strong("autoaugment", **still)(KEY, IMAGES)
  _, k_policy, k_square = jax.random.split(KEY, 3)
  policy = policies.make("autoaugment", height=8, width=8)
  changed = policies.random_changes(k_policy, IMAGES, policy)
  same = np.isclose(found, normal(changed), atol=1e-6).all(-1)
  assert (same.sum((1, 2)) >= 64 - 25).all()
  assert not np.array_equal(changed, IMAGES)


@pytest.mark.parametrize("channels, size", [(1, 8), (3, 6)])
def test_strong_views_of_gray_and_of_cropped_images(channels, size):
  view = transforms.strong(
    "randaugment",
    mean=MEAN[:channels],
    std=STD[:channels],
    crop_size=size,
    dtype=jnp.bfloat16,
  )
  found = jax.eval_shape(view, KEY, IMAGES[..., :channels])
  assert found.shape == (5, size, size, channels)
  assert found.dtype == jnp.bfloat16


def test_no_key_of_a_strong_view_is_used_twice(key_reuse):
  assert jax.eval_shape(strong(), KEY, IMAGES).shape == IMAGES.shape


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_strong_views_stay_on_the_device(platform):
  traced = jax.jit(strong()).trace(KEY, IMAGES)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert "callback" not in text and "custom_call" not in text


def test_bad_strong_views():
  with pytest.raises(ValueError, match="policy is 'randaug'; .* 'randaugment'"):
    strong("randaug")
  with pytest.raises(ValueError, match="have 2 channels; .* 3 .* or 1"):
    transforms.strong("randaugment", mean=MEAN[:2], std=STD[:2])


def check(shape=(8, 8, 3), **changes):
  settings = {"augment": "crop_flip", "pad": 4, "crop_size": 0}
  transforms.check(image_shape=shape, **(settings | changes))


def test_settings_that_fit():
  check()
  check(pad=8, crop_size=8)
  check(pad=7, pad_mode="reflect")
  check((8, 9, 3), augment="random_resized_crop", crop_size=8)
  check(augment="random_resized_crop")


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"augment": "randaugment"}, "data.augment is 'randaugment'; .* crop_flip"),
    ({"pad": -1}, "data.pad is -1; it must be 0 to 8"),
    ({"pad": 9}, "data.pad is 9; it must be 0 to 8"),
    ({"pad_mode": "wrap"}, "data.pad_mode is 'wrap'; .* zero, reflect"),
    (
      {"pad_mode": "reflect", "pad": 8},
      "data.pad is 8; data.pad_mode is 'reflect', .* at most 7 of 8",
    ),
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
