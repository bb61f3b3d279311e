"""Contrastive views: what they are made of, and what they never do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import blur, colors, crop_flip, crops, views

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
make = jax.jit(
  views.contrastive,
  static_argnames=(
    *("size", "mean", "std", "flip", "scale", "dtype"),
    *("interpolation", "jitter", "grayscale", "blur"),
  ),
)
OPTIONS = {
  "scale": (0.1, 0.8),
  "interpolation": "cubic",
  "jitter": (0.8, 0.7, 0.6, 0.2),
  "grayscale": 0.5,
  "blur": 0.6,
}
three = functools.partial(make, size=8, mean=MEAN, std=STD)
gray = functools.partial(make, size=8, mean=(0.0,), std=(1.0,))


def images(batch=300, size=8, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  shape = (batch, size, size, channels)
  return jnp.asarray(rng.integers(0, 256, shape).astype(np.uint8))


def test_shape_dtype_and_range():
  out = three(jax.random.key(0), images())
  assert out.shape == (300, 8, 8, 3) and out.dtype == jnp.float32
  pixels = np.asarray(out) * np.array(STD) + np.array(MEAN)
  assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
  assert pixels.std() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_size_and_dtype(dtype):
  view = functools.partial(
    views.contrastive, size=5, mean=MEAN, std=STD, dtype=jnp.dtype(dtype)
  )
  out = jax.eval_shape(view, jax.random.key(0), images(size=12))
  assert out.shape == (300, 5, 5, 3) and out.dtype == jnp.dtype(dtype)


def test_key_decides():
  one, same, other = (three(jax.random.key(k), images()) for k in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert not np.allclose(one, other)


def test_an_image_does_not_depend_on_the_others():
  changed = images().at[:4].set(7)
  one, other = (three(jax.random.key(0), x) for x in (images(), changed))
  np.testing.assert_array_equal(one[4:], other[4:])
  assert not np.allclose(one[:4], other[:4])


def test_about_a_fifth_is_gray():
  out = np.asarray(three(jax.random.key(0), images()))
  pixels = out * np.array(STD) + np.array(MEAN)
  share = np.mean(np.ptp(pixels, axis=-1).max((1, 2)) < 1e-5)
  assert abs(share - 0.2) < 5 * np.sqrt(0.16 / 300)


@pytest.mark.parametrize("flip", [True, False])
def test_mirrors_only_where_told(flip):
  """A ramp from left to right still rises, unless it is mirrored."""
  ramp = np.tile(np.arange(8) * 20 + 50, (300, 8, 1))[..., None]
  out = np.asarray(
    gray(jax.random.key(0), jnp.asarray(ramp, jnp.uint8), flip=flip)
  )
  mirrored = np.mean(out[:, 0, 0, 0] > out[:, 0, -1, 0])
  expected = 0.5 if flip else 0.0
  assert abs(mirrored - expected) <= (5 * np.sqrt(0.25 / 300) if flip else 0)


def test_two_views_are_independent_and_each_a_view():
  first, second = views.two(jax.random.key(5), images(), view=three)
  assert not np.allclose(first, second)
  keys = jax.random.split(jax.random.key(5))
  np.testing.assert_array_equal(first, three(keys[0], images()))
  np.testing.assert_array_equal(second, three(keys[1], images()))


def test_no_key_is_used_twice(key_reuse):
  view = functools.partial(views.contrastive, size=2, mean=MEAN, std=STD)
  two = jax.jit(functools.partial(views.two, view=view))
  # Tracing is enough for the check.
  assert len(jax.eval_shape(two, jax.random.key(0), images(2, 2))) == 2


def by_hand(key, x, *, window, jitter, gray_share, blur_share, norm):
  """The steps one by one: published numbers depend on each draw."""
  k_crop, k_flip, k_jitter, k_gray = jax.random.split(key, 4)
  x = x.astype(jnp.float32) / 255
  x = crops.random_resized_crop(k_crop, x, size=8, **window)
  x = crop_flip.random_crop_flip(k_flip, x, pad=0)
  x = colors.random_jitter(k_jitter, jnp.clip(x, 0, 1), **jitter)
  x = colors.random_grayscale(k_gray, x, probability=gray_share)
  if blur_share:
    k_blur = jax.random.fold_in(key, 4)
    x = blur.random_blur(k_blur, x, probability=blur_share)
  mean, std = (np.asarray(v, np.float32)[None, None, None] for v in norm)
  return (x - mean) / std


def test_default_is_what_it_always_was():
  steps = functools.partial(
    by_hand,
    window={"scale": (0.2, 1.0)},
    jitter={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    gray_share=0.2,
    blur_share=0,
    norm=(MEAN, STD),
  )
  key = jax.random.key(11)
  found = three(key, images())
  np.testing.assert_array_equal(jax.jit(steps)(key, images()), found)


@pytest.fixture(scope="module")
def gray_with_options():
  """A view of gray images with every option but the default."""
  return functools.partial(make, size=8, mean=(0.4,), std=(0.2,), **OPTIONS)


def test_options_reach_their_steps(gray_with_options):
  steps = functools.partial(
    by_hand,
    window={"scale": (0.1, 0.8), "interpolation": "cubic"},
    jitter={"brightness": 0.8, "contrast": 0.7, "saturation": 0.6, "hue": 0.2},
    gray_share=0.5,
    blur_share=0.6,
    norm=((0.4,), (0.2,)),
  )
  key, batch = jax.random.key(2), images(60, channels=1)
  found = gray_with_options(key, batch)
  # Programs that are merged in another way round in another way.
  np.testing.assert_allclose(
    jax.jit(steps)(key, batch), found, rtol=1e-4, atol=1e-5
  )
  pixels = np.asarray(found) * 0.2 + 0.4
  assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5


def test_boosted_without_strength_is_the_plain_view(gray_with_options):
  key, batch = jax.random.key(1), images(60, channels=1)
  plain = gray_with_options(key, batch)
  boosted = jax.jit(
    functools.partial(
      views.boosted, size=8, mean=(0.4,), std=(0.2,), num_ops=2, **OPTIONS
    )
  )
  out = boosted(key, batch, jnp.zeros(60).at[:30].set(1))
  assert out.shape == plain.shape and out.dtype == plain.dtype
  np.testing.assert_array_equal(out[30:], plain[30:])
  changed = np.asarray(out != plain).any((1, 2, 3))
  assert changed[:30].mean() > 0.8
  pixels = np.asarray(out) * 0.2 + 0.4
  assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
  # The other extreme, by the same program: nothing is left plain for sure.
  none = boosted(key, batch, jnp.zeros(60))
  np.testing.assert_array_equal(none, plain)


def test_two_boosted_views_have_two_keys_and_one_strength():
  def view(key, images, strength):
    return images + strength + jax.random.uniform(key)

  key, strength = jax.random.key(5), jnp.arange(3.0)
  first, second = views.two(key, jnp.zeros(3), strength, view=view)
  keys = jax.random.split(key)
  np.testing.assert_array_equal(first, view(keys[0], jnp.zeros(3), strength))
  np.testing.assert_array_equal(second, view(keys[1], jnp.zeros(3), strength))
  assert not np.allclose(first, second)


@pytest.mark.parametrize("channels", [1, 3])
def test_boosted_has_any_size_dtype_and_number_of_operations(channels):
  normal = {"mean": (0.5,) * channels, "std": (0.2,) * channels}
  view = functools.partial(
    views.boosted, size=5, num_ops=3, dtype=jnp.bfloat16, **normal
  )
  batch = images(4, channels=channels)
  out = jax.eval_shape(view, jax.random.key(0), batch, jnp.ones(4))
  assert out.shape == (4, 5, 5, channels) and out.dtype == jnp.bfloat16


def test_no_key_of_a_boosted_view_is_used_twice(key_reuse):
  view = functools.partial(
    views.boosted, size=2, mean=MEAN, std=STD, blur=0.5, num_ops=2
  )
  two = jax.jit(functools.partial(views.two, view=view))
  # Tracing is enough for the check.
  out = jax.eval_shape(two, jax.random.key(0), images(2, 2), jnp.ones(2))
  assert len(out) == 2


@pytest.mark.parametrize(
  "change, message",
  [
    ({"size": 9}, "Views of 9 pixels are larger than the images of 8 x 8"),
    ({"size": 0}, "size of a crop is 0"),
    ({"scale": (0.0, 1.0)}, "scale of a crop"),
    ({"scale": (0.5, 1.2)}, "scale of a crop"),
    ({"scale": (-0.1, 0.5)}, "scale of a crop"),
    ({"interpolation": "area"}, "'area'; choose one of linear, cubic"),
    ({"blur": -0.1}, r"probability of blur is -0.1; it must be in \[0, 1\]"),
    ({"blur": 1.5}, r"probability of blur is 1.5; it must be in \[0, 1\]"),
    ({"blur": float("nan")}, "probability of blur is nan"),
    ({"grayscale": -0.2}, "probability is -0.2"),
    ({"jitter": (0.4, 0.4, 0.4)}, "must be four strengths"),
    ({"jitter": (0.4, -0.4, 0.4, 0.1)}, "contrast is -0.4"),
    ({"jitter": (0.4, 0.4, 0.4, 0.8)}, "hue is 0.8"),
  ],
)
def test_bad_settings(change, message):
  settings = {"size": 8, "mean": MEAN, "std": STD} | change
  plain = functools.partial(views.contrastive, **settings)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(plain, jax.random.key(0), images(2))
  boosted = functools.partial(views.boosted, **settings)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(boosted, jax.random.key(0), images(2), jnp.ones(2))


def test_a_view_has_an_operation_or_more():
  view = functools.partial(views.boosted, size=8, mean=MEAN, std=STD, num_ops=0)
  with pytest.raises(ValueError, match="num_ops is 0; it must be 1 or more"):
    jax.eval_shape(view, jax.random.key(0), images(2), jnp.ones(2))


def test_takes_bytes_only():
  with pytest.raises(AssertionError):
    three(jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
