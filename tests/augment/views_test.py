"""Contrastive views: what they are made of, and what they never do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import views

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
make = jax.jit(
  views.contrastive,
  static_argnames=("size", "mean", "std", "flip", "scale", "dtype"),
)
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
  first, second = views.two(jax.random.key(5), images(), three)
  assert not np.allclose(first, second)
  keys = jax.random.split(jax.random.key(5))
  np.testing.assert_array_equal(first, three(keys[0], images()))
  np.testing.assert_array_equal(second, three(keys[1], images()))


def test_no_key_is_used_twice(key_reuse):
  view = functools.partial(views.contrastive, size=2, mean=MEAN, std=STD)
  two = jax.jit(functools.partial(views.two, view=view))
  assert len(two(jax.random.key(0), images(2, 2))) == 2


def test_takes_bytes_only():
  with pytest.raises(AssertionError):
    three(jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
