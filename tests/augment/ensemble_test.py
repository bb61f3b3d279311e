"""Views for testing: which pixels, and the mean of logits."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from ltjax.augment import ensemble

RNG = np.random.default_rng(0)
KIND = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


def pictures(*size):
  return RNG.integers(0, 256, (2, *size, 3)).astype(np.uint8)


def normal(images):
  x = images / 255 - np.array(KIND["mean"])
  return (x / np.array(KIND["std"])).astype(np.float32)


def seen(views, images):
  return [
    np.asarray(views.apply(jnp.int32(view), images))
    for view in range(views.count)
  ]


def test_windows_of_a_picture_of_248_pixels_are_lifts():
  images = pictures(248, 248)
  views = ensemble.make("crops", **KIND)
  assert views.averaged == (0, 1, 2, 3, 4)
  places = [(12, 12), (0, 0), (0, 24), (24, 0), (24, 24)]
  for view, (top, left) in enumerate(places):
    found = ensemble.window(jnp.int32(view), jnp.asarray(images))
    expected = images[:, top : top + 224, left : left + 224]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  ("resized", "crop_size"), [(True, 0), (True, 20), (False, 20)]
)
def test_windows_are_brought_to_the_size_of_the_network(resized, crop_size):
  images = pictures(32, 32)
  views = ensemble.make("crops", **KIND, crop_size=crop_size, resized=resized)
  for view, (top, left) in enumerate([(1, 1), (0, 0), (0, 3), (3, 0), (3, 3)]):
    windows = images[:, top : top + 29, left : left + 29]
    if resized:
      size = (crop_size or 32,) * 2
      windows = np.stack(
        [np.asarray(Image.fromarray(x).resize(size, 2)) for x in windows]
      )
    found = views.apply(jnp.int32(view), jnp.asarray(images))
    # Pillow rounds its weights to 8 bits.
    np.testing.assert_allclose(found, normal(windows), atol=1.01 / 255 / 0.2)


@pytest.mark.parametrize("crop_size", [0, 4])
def test_a_mirror(crop_size):
  images = pictures(6, 6)
  views = ensemble.make("flip", **KIND, crop_size=crop_size)
  assert views.averaged == (None, 0)
  (found,) = seen(views, jnp.asarray(images))
  middle = images[:, 1:5, 1:5] if crop_size else images
  np.testing.assert_allclose(found, normal(middle[:, :, ::-1]), atol=1e-5)


def test_the_plain_image_is_alone():
  views = ensemble.make("plain", **KIND)
  assert views.averaged == (None,) and views.count == 0
  logits = jnp.ones((2, 3))
  assert ensemble.mean([logits]) is logits
  np.testing.assert_array_equal(
    ensemble.mean([jnp.array([[1.0, 5.0]]), jnp.array([[3.0, -1.0]])]),
    [[2.0, 2.0]],
  )


def test_one_program_sees_all_windows():
  images = jnp.asarray(pictures(19, 28))
  views = ensemble.make("crops", **KIND)
  program = jax.jit(views.apply)
  found = [program(np.int32(view), images) for view in range(5)]
  assert program._cache_size() == 1
  assert len({np.asarray(x).tobytes() for x in found}) == 5


def test_unknown_views():
  with pytest.raises(ValueError, match="eval.views is 'flips'"):
    ensemble.make("flips", **KIND)
