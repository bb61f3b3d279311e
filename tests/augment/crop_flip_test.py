import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import crop_flip

# Compiled once for each shape: un-jitted, every operation would compile.
jitted = jax.jit(
  crop_flip.random_crop_flip, static_argnames=("pad", "flip", "pad_mode")
)


def images(batch=8, height=8, width=8, channels=1, seed=0):
  # From 1: a zero pixel can then only come from the padding.
  shape = (batch, height, width, channels)
  rng = np.random.default_rng(seed)
  return rng.integers(1, 256, shape).astype(np.uint8)


def placements(image, out, pad, mode="constant"):
  """Every (row, column, mirrored) which makes `out` of `image`."""
  height, width, _ = image.shape
  padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode)
  found = []
  for row in range(2 * pad + 1):
    for column in range(2 * pad + 1):
      window = padded[row : row + height, column : column + width]
      for mirrored in (False, True):
        if np.array_equal(window[:, ::-1] if mirrored else window, out):
          found.append((row, column, mirrored))
  return found


@pytest.mark.parametrize(
  "pad, flip", [(2, True), (2, False), (0, True), (1, 1)]
)
@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3)])
def test_each_result_is_a_window_of_the_padded_image(pad, flip, shape):
  batch = images(16, *shape)
  out = jitted(jax.random.key(0), jnp.asarray(batch), pad=pad, flip=flip)
  assert out.shape == batch.shape and out.dtype == jnp.uint8
  found = [placements(a, b, pad) for a, b in zip(batch, np.asarray(out))]
  assert all(len(f) == 1 for f in found)
  if not flip:
    assert not any(f[0][2] for f in found)


def test_a_mirrored_border():
  """At the offsets of a black one, and without repeating the outer pixels."""
  batch, key = images(16, 5, 7, 3), jax.random.key(0)
  out = jitted(key, jnp.asarray(batch), pad=4, pad_mode="reflect")
  black = jitted(key, jnp.asarray(batch), pad=4)
  for image, mirrored, plain in zip(batch, np.asarray(out), np.asarray(black)):
    (place,) = placements(image, plain, 4)
    assert place in placements(image, mirrored, 4, "reflect")
    assert (mirrored > 0).all()


def test_offsets_and_flips_are_even():
  draws = 4000
  batch = np.repeat(images(1, 4, 4), draws, axis=0)
  out = jitted(jax.random.key(1), jnp.asarray(batch), pad=2)
  distinct, counts = np.unique(
    np.asarray(out).reshape(draws, -1), axis=0, return_counts=True
  )
  seen = {}
  for row, n in zip(distinct, counts, strict=True):
    (place,) = placements(batch[0], row.reshape(4, 4, 1), 2)
    seen[place] = n
  # 25 offsets, mirrored or not: 80 of each expected, standard deviation 8.9.
  assert len(seen) == 50
  assert 80 - 45 < min(seen.values()) and max(seen.values()) < 80 + 45
  mirrored = sum(n for place, n in seen.items() if place[2])
  assert abs(mirrored - draws / 2) < 5 * np.sqrt(draws / 4)


def test_offset_and_flip_are_independent_of_each_other():
  draws = 2000
  batch = np.repeat(images(1, 4, 4), draws, axis=0)
  out = np.asarray(jitted(jax.random.key(2), jnp.asarray(batch), pad=1))
  table = np.zeros((3, 2))
  for image in out:
    ((row, _, mirrored),) = placements(batch[0], image, 1)
    table[row, int(mirrored)] += 1
  expected = table.sum(0) * table.sum(1, keepdims=True) / draws
  assert ((table - expected) ** 2 / expected).sum() < 18.4  # p = 1e-4.


def test_same_key_same_result_and_other_key_other():
  batch = jnp.asarray(images(32))
  one, same, other = (jitted(jax.random.key(k), batch) for k in (3, 3, 4))
  np.testing.assert_array_equal(one, same)
  assert not np.array_equal(one, other)


def test_an_image_depends_on_its_own_key_only():
  key = jax.random.key(5)
  batch = images(6)
  whole = np.asarray(jitted(key, jnp.asarray(batch), pad=2))
  changed = batch.copy()
  changed[:3] = 7
  again = np.asarray(jitted(key, jnp.asarray(changed), pad=2))
  np.testing.assert_array_equal(again[3:], whole[3:])
  # And it is the i-th of the split keys, at whatever place.
  keys = jax.random.split(key, 6)
  alone = crop_flip._crop_flip(keys[4], jnp.asarray(batch[4]), pad=2, flip=True)
  np.testing.assert_array_equal(alone, whole[4])


def test_no_key_is_used_twice(key_reuse):
  crop_flip.random_crop_flip(jax.random.key(0), jnp.asarray(images(2)), pad=1)


def test_no_pad_and_no_flip_is_the_identity():
  batch = jnp.asarray(images())
  out = crop_flip.random_crop_flip(jax.random.key(0), batch, pad=0, flip=False)
  assert out is batch


def test_pad_as_large_as_the_image_can_leave_black():
  batch = np.repeat(images(1, 2, 2), 500, axis=0)
  out = jitted(jax.random.key(0), jnp.asarray(batch), pad=2)
  assert (np.asarray(out).reshape(500, -1).sum(-1) == 0).any()


def test_negative_pad():
  with pytest.raises(ValueError, match="0 pixels or more, not -1"):
    crop_flip.random_crop_flip(jax.random.key(0), jnp.asarray(images()), pad=-1)


def test_bad_borders():
  batch = jnp.asarray(images(2, 5, 7))
  with pytest.raises(ValueError, match="pad_mode is 'edge'; .* zero, reflect"):
    crop_flip.random_crop_flip(jax.random.key(0), batch, pad_mode="edge")
  with pytest.raises(ValueError, match="5 x 7 cannot be mirrored to 5 pixels"):
    crop_flip.random_crop_flip(
      jax.random.key(0), batch, pad=5, pad_mode="reflect"
    )


def test_normalize_by_hand():
  batch = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 1, 3)
  out = crop_flip.normalize(batch, (0.5, 0.2, 0.0), (0.25, 0.1, 2.0))
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out[0, 0, 0], [-2.0, 0.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
  "dtype, tolerance", [("float32", 1e-6), ("bfloat16", 0.01)]
)
def test_normalize_equals_numpy(dtype, tolerance):
  batch = images(4, 5, 6, 3)
  mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
  out = jax.jit(lambda x: crop_flip.normalize(x, mean, std, dtype))(batch)
  assert out.dtype == jnp.dtype(dtype)
  expected = (batch / 255 - np.array(mean)) / np.array(std)
  np.testing.assert_allclose(
    out.astype(jnp.float32), expected, rtol=tolerance, atol=tolerance
  )


@pytest.mark.parametrize(
  "mean, std, message",
  [
    ((0.5,), (0.2,), "3 channels need 3 means"),
    ((0.5,) * 3, (0.2,) * 2, "3 channels need 3 means"),
    ((0.5,) * 3, (0.2, 0.0, 0.2), "above 0, not mean"),
    ((0.5,) * 3, (0.2, float("nan"), 0.2), "above 0, not mean"),
    ((0.5, float("inf"), 0.5), (0.2,) * 3, "finite means"),
  ],
)
def test_normalize_errors(mean, std, message):
  with pytest.raises(ValueError, match=message):
    crop_flip.normalize(jnp.asarray(images(channels=3)), mean, std)


def test_normalize_takes_bytes_only():
  with pytest.raises(AssertionError):
    crop_flip.normalize(jnp.zeros((1, 2, 2, 1)), (0.5,), (0.5,))


# -- Windows smaller than the image.


def test_a_smaller_window_is_a_part_of_the_image_and_reaches_all_of_it():
  batch = jnp.asarray(np.arange(6 * 7, dtype=np.uint8).reshape(1, 6, 7, 1))
  many = jnp.tile(batch, (400, 1, 1, 1))
  found = np.asarray(
    crop_flip.random_crop_flip(
      jax.random.key(0), many, pad=0, flip=False, size=4
    )
  )
  assert found.shape == (400, 4, 4, 1)
  corners = {int(image[0, 0, 0]) for image in found}
  assert corners == {
    7 * row + column for row in range(3) for column in range(4)
  }
  for image in found[:20, ..., 0]:
    row, column = divmod(int(image[0, 0]), 7)
    np.testing.assert_array_equal(
      image, np.asarray(batch)[0, row : row + 4, column : column + 4, 0]
    )


def test_a_smaller_window_of_a_padded_image_may_reach_beyond_it():
  found = crop_flip.random_crop_flip(
    jax.random.key(0), jnp.ones((300, 4, 4, 1)), pad=2, size=3
  )
  sums = np.asarray(found).sum((1, 2, 3))
  assert sums.min() == 1 and sums.max() == 9


def test_the_images_own_size_is_the_default():
  batch = jnp.asarray(np.arange(4 * 25, dtype=np.uint8).reshape(4, 5, 5, 1))
  key = jax.random.key(3)
  np.testing.assert_array_equal(
    crop_flip.random_crop_flip(key, batch, pad=2, size=5),
    crop_flip.random_crop_flip(key, batch, pad=2),
  )
  np.testing.assert_array_equal(
    crop_flip.random_crop_flip(key, batch, pad=0, flip=False, size=5), batch
  )


@pytest.mark.parametrize("size", [-1, 10])
def test_a_window_that_does_not_fit(size):
  with pytest.raises(ValueError, match=f"window of {size} pixels .* 5 x 5"):
    crop_flip.random_crop_flip(
      jax.random.key(0), jnp.zeros((1, 5, 5, 1)), pad=2, size=size
    )
