"""Picture files: decoded on demand, alike each time, with and without cache."""

import os

import numpy as np
from PIL import Image
import pytest

from ltjax.data.files import decoding as decodings
from ltjax.data.files import images
from ltjax.data.host import decoded_cache, host_images, image_files

SIZES = [(40, 30), (30, 40), (24, 24), (100, 60), (25, 300)]


@pytest.fixture
def files(tmp_path):
  rng = np.random.default_rng(0)
  result = []
  for i, (width, height) in enumerate(SIZES):
    # Smooth, as photographs are.
    small = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    picture = Image.fromarray(small).resize((width, height))
    path = tmp_path / "pictures" / f"{i}.JPEG"
    path.parent.mkdir(exist_ok=True)
    picture.save(path, quality=95)
    result.append(path)
  return result


def slow(path, size, resize):
  """Resize the shorter side, cut the middle: two plain steps of Pillow."""
  image = Image.open(path).convert("RGB")
  if resize == "stretch":
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
  width, height = image.size
  scale = size / min(width, height)
  wide, high = round(width * scale), round(height * scale)
  image = image.resize((wide, high), Image.Resampling.BILINEAR)
  left, top = (wide - size) // 2, (high - size) // 2
  return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("resize", images.RESIZES)
def test_equals_the_slow_way(files, resize):
  found = image_files.ImageFiles(files, size=24, resize=resize)
  assert found.shape == (5, 24, 24, 3)
  for i, path in enumerate(files):
    gap = found.read(np.array([i]))[0].astype(int) - slow(path, 24, resize)
    # JPEGs that are much larger are decoded at a smaller scale.
    assert np.abs(gap).mean() < 2, (i, np.abs(gap).mean())


def test_a_square_of_the_right_size_is_untouched(tmp_path):
  pixels = np.random.default_rng(1).integers(0, 256, (9, 9, 3)).astype("u1")
  path = tmp_path / "a.png"
  Image.fromarray(pixels).save(path)
  for resize in images.RESIZES:
    found = image_files.ImageFiles([path], size=9, resize=resize)
    np.testing.assert_array_equal(np.asarray(found)[0], pixels)


def test_grey_and_palette_become_rgb(tmp_path):
  grey = Image.fromarray(np.full((8, 8), 77, np.uint8))
  paths = [tmp_path / "grey.png", tmp_path / "palette.gif"]
  grey.save(paths[0])
  Image.new("RGB", (8, 8), (255, 0, 0)).convert("P").save(paths[1])
  found = np.asarray(image_files.ImageFiles(paths, size=4))
  assert (found[0] == 77).all()
  np.testing.assert_allclose(found[1, 2, 2], [255, 0, 0], atol=3)


@pytest.mark.parametrize("cached", [False, True])
def test_any_order_any_number_the_same_bytes(files, cached, tmp_path):
  cache = tmp_path / "cache" if cached else ""
  whole = np.asarray(image_files.ImageFiles(files, size=16))
  found = image_files.ImageFiles(files, size=16, cache=cache)
  for index in ([3], [0, 0, 4, 2, 0], [], list(range(5)) * 20, [1, 3]):
    rows = found.read(np.array(index, int))
    np.testing.assert_array_equal(rows, whole[index])


def test_slices_stay_unread(files):
  files[2].write_bytes(b"broken")
  found = image_files.ImageFiles(files, size=16)
  both = host_images.concatenate([found[:2], found[3:]])
  assert np.asarray(both).shape == (4, 16, 16, 3)


@pytest.mark.parametrize(
  "content, error",
  [(b"", "0 bytes"), (b"GIF89a what", "not a whole image"), (None, "No such")],
)
def test_a_broken_picture_is_named(files, content, error, tmp_path):
  found = image_files.ImageFiles(files, size=16, cache=tmp_path / "cache")
  if content is None:
    files[3].unlink()
  else:
    files[3].write_bytes(content)
  with pytest.raises(host_images.BrokenImageError, match=error) as caught:
    found.read(np.arange(5))
  assert str(files[3]) in str(caught.value)
  assert "The same command then goes on from what is saved" in str(caught.value)
  assert found.read(np.array([0, 4])).shape == (2, 16, 16, 3)


def test_a_truncated_jpeg_is_an_error(files):
  data = files[3].read_bytes()
  files[3].write_bytes(data[: len(data) // 2])
  found = image_files.ImageFiles(files, size=16)
  with pytest.raises(host_images.BrokenImageError, match="not a whole image"):
    found.read(np.array([3]))


def test_unknown_resize(files):
  with pytest.raises(
    ValueError, match="data.resize is 'pad'; .* stretch, crop"
  ):
    image_files.ImageFiles(files, size=8, resize="pad")


# -- The cache.


def decodes(monkeypatch):
  """Returns the list of files decoded from now on."""
  real, seen = images.decode, []

  def decode(file, **settings):
    seen.append(int(file.stem))
    return real(file, **settings)

  monkeypatch.setattr(images, "decode", decode)
  return seen


def test_each_picture_is_decoded_once(files, tmp_path, monkeypatch):
  seen = decodes(monkeypatch)
  cache = tmp_path / "cache"
  found = image_files.ImageFiles(files, size=16, cache=cache)
  first = found.read(np.array([4, 1]))
  assert sorted(seen) == [1, 4]
  found.read(np.array([1, 2]))
  assert sorted(seen) == [1, 2, 4]
  del found  # A new process finds what the last one decoded.
  again = image_files.ImageFiles(files, size=16, cache=cache)
  np.testing.assert_array_equal(again.read(np.array([4, 1])), first)
  assert sorted(seen) == [1, 2, 4]
  again.read(np.arange(5))
  assert sorted(seen) == [0, 1, 2, 3, 4]


def test_other_pictures_and_sizes_have_their_own_file(files, tmp_path):
  cache = tmp_path / "cache"

  def names():
    return {path.name for path in cache.iterdir()}

  image_files.ImageFiles(files, size=16, cache=cache)
  assert len(names()) == 2
  image_files.ImageFiles(files, size=16, cache=cache)
  assert len(names()) == 2
  image_files.ImageFiles(files, size=17, cache=cache)
  image_files.ImageFiles(files, size=16, resize="stretch", cache=cache)
  image_files.ImageFiles(files[:4], size=16, cache=cache)
  assert len(names()) == 8
  stat = files[0].stat()
  os.utime(files[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
  image_files.ImageFiles(files, size=16, cache=cache)
  assert len(names()) == 10
  black = decodings.Decoding(background="black")
  image_files.ImageFiles(files, size=16, cache=cache, decoding=black)
  assert len(names()) == 12


def rows(number, value):
  return np.full((number, 2, 2, 3), value, np.uint8)


def test_killed_before_the_disk_has_it_an_image_is_not_there(tmp_path):
  """The bytes that say so are written only after the pixels."""
  cache = decoded_cache.DecodedCache(tmp_path, "k", (4, 2, 2, 3))
  cache.put(np.array([1, 2]), rows(2, 7))
  assert cache.has(np.arange(4)).tolist() == [False, True, True, False]
  other = decoded_cache.DecodedCache(tmp_path, "k", (4, 2, 2, 3))
  assert not other.has(np.arange(4)).any()
  cache.put(np.array([0, 3]), rows(2, 9))  # all: they are synced
  other = decoded_cache.DecodedCache(tmp_path, "k", (4, 2, 2, 3))
  assert other.has(np.arange(4)).all()
  np.testing.assert_array_equal(
    other.get(np.array([2, 0])), np.concatenate([rows(1, 7), rows(1, 9)])
  )


def test_many_images_are_synced_on_the_way(tmp_path, monkeypatch):
  monkeypatch.setattr(decoded_cache, "_SYNC_EVERY", 3)
  cache = decoded_cache.DecodedCache(tmp_path, "k", (9, 2, 2, 3))
  cache.put(np.array([5, 6]), rows(2, 1))
  assert (tmp_path / "whole-k.u8").read_bytes() == bytes(9)
  cache.put(np.array([7]), rows(1, 1))
  assert (tmp_path / "whole-k.u8").read_bytes() == bytes(
    [0, 0, 0, 0, 0, 1, 1, 1, 0]
  )


def test_a_cut_file_is_filled_anew(tmp_path):
  cache = decoded_cache.DecodedCache(tmp_path, "k", (3, 2, 2, 3))
  cache.put(np.arange(3), rows(3, 5))
  del cache
  (tmp_path / "whole-k.u8").write_bytes(b"\x01")
  cache = decoded_cache.DecodedCache(tmp_path, "k", (3, 2, 2, 3))
  assert cache.has(np.arange(3)).tolist() == [True, False, False]
  # Pixels that are gone are not believed to be there.
  del cache
  os.truncate(tmp_path / "images-k.u8", 12)
  cache = decoded_cache.DecodedCache(tmp_path, "k", (3, 2, 2, 3))
  assert not cache.has(np.arange(3)).any()


def test_a_full_disk_is_an_error_and_not_a_dead_process(tmp_path, monkeypatch):
  cache = decoded_cache.DecodedCache(tmp_path, "k", (3, 2, 2, 3))

  def full(*args):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(decoded_cache.os, "pwrite", full)
  with pytest.raises(OSError, match="No space left"):
    cache.put(np.array([0]), rows(1, 5))
  assert not cache.has(np.array([0])).any()


def test_a_folder_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError):
    decoded_cache.DecodedCache(tmp_path / "file", "k", (3, 2, 2, 3))
