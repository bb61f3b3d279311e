"""Images on the host: sliced and joined unread, read by index."""

import numpy as np
import pytest

from ltjax.data.host import host_images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (10, 3, 4, 2)).astype(np.uint8)
MORE = RNG.integers(0, 256, (5, 3, 4, 2)).astype(np.uint8)


class Counted(host_images.ArrayImages):
  """Notes what is read."""

  def __init__(self, array):
    super().__init__(array)
    self.asked = []

  def read(self, index):
    self.asked += list(index)
    return super().read(index)


def test_looks_like_an_array():
  images = host_images.ArrayImages(PIXELS)
  assert len(images) == 10 and images.shape == (10, 3, 4, 2)
  assert images.ndim == 4 and images.dtype == np.uint8
  assert images.nbytes == PIXELS.nbytes == 240
  np.testing.assert_array_equal(np.asarray(images), PIXELS)
  assert np.asarray(images, np.float32).dtype == np.float32


@pytest.mark.parametrize(
  "index",
  [
    slice(3),
    slice(2, None),
    slice(None, None, -3),
    [4, 4, 0],
    np.array([9, 1]),
    np.array([-1, 0]),
    np.arange(10) % 2 == 0,
    np.zeros(0, int),
  ],
)
def test_slices_as_an_array_and_reads_nothing(index):
  images = Counted(PIXELS)
  view = images[index]
  expected = PIXELS[index]
  assert view.shape == expected.shape and images.asked == []
  np.testing.assert_array_equal(np.asarray(view), expected)


def test_slices_of_slices_stay_shallow():
  images = host_images.ArrayImages(PIXELS)
  view = images[2:][::2][[3, 0]]
  np.testing.assert_array_equal(np.asarray(view), PIXELS[2:][::2][[3, 0]])
  assert view._images is images
  np.testing.assert_array_equal(view.read(np.array([1])), PIXELS[[2]])


def test_only_what_is_asked_is_read():
  images = Counted(PIXELS)
  images[4:].read(np.array([0, 5, 0]))
  assert images.asked == [4, 9, 4]


def test_what_is_read_is_a_copy():
  array = PIXELS.copy()
  rows = host_images.ArrayImages(array).read(np.array([0, 1]))
  rows[:] = 0
  np.testing.assert_array_equal(array, PIXELS)


def test_out_of_range_is_an_error():
  images = host_images.ArrayImages(PIXELS)
  with pytest.raises(IndexError):
    images[[10]]
  with pytest.raises(TypeError, match="read single ones with read"):
    images[3]


def test_joins_unread():
  parts = [Counted(PIXELS), Counted(MORE), Counted(MORE[:0])]
  joined = host_images.concatenate([*parts, PIXELS])
  whole = np.concatenate([PIXELS, MORE, PIXELS])
  assert isinstance(joined, host_images.HostImages)
  assert joined.shape == whole.shape and not any(p.asked for p in parts)
  np.testing.assert_array_equal(np.asarray(joined), whole)
  for part in parts:
    part.asked.clear()
  index = np.array([14, 0, 24, 9, 10, 10, 15])
  np.testing.assert_array_equal(joined.read(index), whole[index])
  assert [p.asked for p in parts] == [[0, 9], [4, 0, 0], []]
  np.testing.assert_array_equal(
    np.asarray(joined[8:12][::-1]), whole[8:12][::-1]
  )
  assert joined.read(np.zeros(0, int)).shape == (0, 3, 4, 2)


def test_arrays_are_joined_as_arrays():
  joined = host_images.concatenate([PIXELS, MORE])
  assert type(joined) is np.ndarray
  np.testing.assert_array_equal(joined, np.concatenate([PIXELS, MORE]))


def test_other_shapes_are_refused():
  with pytest.raises(ValueError, match="cannot be joined; set data.image_size"):
    host_images.concatenate([host_images.ArrayImages(PIXELS), MORE[:, :2]])
