"""Pictures of every mode, damaged ones, and bombs."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
import pytest

from ltjax.data.files import images


def _png(image) -> bytes:
  out = io.BytesIO()
  image.save(out, "PNG")
  return out.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
  check = struct.pack(">I", zlib.crc32(kind + content))
  return struct.pack(">I", len(content)) + kind + content + check


def _png_bomb(width: int, height: int) -> bytes:
  """A PNG of about a hundred bytes which claims any size."""
  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", head)
    + _chunk(b"IDAT", zlib.compress(bytes(10)))
    + _chunk(b"IEND", b"")
  )


@pytest.mark.parametrize(
  "mode, want, values",
  [
    ("L", "L", [7, 200]),
    ("1", "L", [0, 255]),
    ("LA", "L", [7, 200]),
    ("RGB", "RGB", [[1, 2, 3], [4, 5, 6]]),
    ("RGBA", "RGB", [[1, 2, 3], [4, 5, 6]]),
  ],
)
def test_modes(mode, want, values):
  pixels = np.array([values], np.uint8)
  if mode == "1":
    image = Image.fromarray(pixels).convert("1")
  elif mode in ("LA", "RGBA"):
    image = Image.fromarray(pixels).convert(mode)
    image.putalpha(255)
  else:
    image = Image.fromarray(pixels)
  read = images.read_image(_png(image))
  assert read.mode == want
  np.testing.assert_array_equal(np.asarray(read), pixels)


def test_palette_is_looked_up():
  pixels = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
  image = Image.fromarray(pixels).quantize(4)
  read = images.read_image(_png(image))
  assert read.mode == "RGB"
  np.testing.assert_array_equal(np.asarray(read), pixels)


def test_rotation_tag_is_applied(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # The camera was turned; show rotated by 90 degrees.
  path = tmp_path / "a.png"
  Image.new("RGB", (4, 2)).save(path, exif=exif)
  assert images.read_image(path).size == (2, 4)


def test_jpeg_by_content_not_by_name(tmp_path):
  path = tmp_path / "a.png"
  Image.new("L", (5, 3), 9).save(path, "JPEG")
  assert images.to_array(images.read_image(path)).shape == (3, 5, 1)


@pytest.mark.parametrize("side", [10_000, 100_000, 2**30])
def test_bomb_is_refused_before_decoding(tmp_path, side):
  path = tmp_path / "bomb.png"
  path.write_bytes(_png_bomb(side, side))
  with pytest.raises(ValueError, match="bomb.png: refused as an image bomb"):
    images.read_image(path)


def test_limit_is_exact():
  image = _png(Image.new("L", (4, 3)))
  assert images.read_image(image, max_pixels=12).size == (4, 3)
  with pytest.raises(ValueError, match="4 x 3 pixels.*limit is 11 pixels"):
    images.read_image(image, max_pixels=11)


def test_empty(tmp_path):
  path = tmp_path / "a.jpg"
  path.touch()
  with pytest.raises(ValueError, match=r"a\.jpg: .* is empty \(0 bytes\)"):
    images.read_image(path)
  with pytest.raises(ValueError, match="strip: the image file is empty"):
    images.read_image(b"", name="strip")


@pytest.mark.parametrize("keep", [4, 30, 200])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_truncated(tmp_path, kind, keep):
  noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
  path = tmp_path / "a.img"
  Image.fromarray(noise.astype(np.uint8)).save(path, kind)
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match="a.img: not a whole image"):
    images.read_image(path)


def test_formats_that_run_programs_are_not_pictures(tmp_path):
  path = tmp_path / "a.png"
  path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
  with pytest.raises(ValueError, match="a.png: not a whole image"):
    images.read_image(path)


def test_to_array_sizes():
  image = Image.new("RGB", (6, 4), (10, 20, 30))
  assert images.to_array(image).shape == (4, 6, 3)
  assert images.to_array(image, 5).shape == (5, 5, 3)
  array = images.to_array(image, (3, 2))
  assert array.shape == (3, 2, 3)
  assert (array == [10, 20, 30]).all()


def test_resize_halves_by_averaging():
  grey = np.array([[0, 0, 90, 90], [0, 0, 90, 90]] * 2, np.uint8)[
    None, ..., None
  ]
  small = images.resize(grey, 2)
  assert small.shape == (1, 2, 2, 1)
  # Antialiased: a triangle of width 4 takes 1/8 (here clipped) from across.
  left, right = int(small[0, 0, 0, 0]), int(small[0, 0, 1, 0])
  assert 0 < left < 20 and left + right == 90


def test_resize_keeps_what_has_the_size():
  x = np.zeros((2, 8, 8, 3), np.uint8)
  assert images.resize(x, None) is x
  assert images.resize(x, 8) is x
  assert images.resize(x, 4).shape == (2, 4, 4, 3)


def test_resize_of_odd_channels():
  with pytest.raises(ValueError, match="2 channels cannot be resized"):
    images.resize(np.zeros((1, 8, 8, 2), np.uint8), 4)


def test_resize_to_height_and_width():
  x = np.full((3, 8, 6, 3), 7, np.uint8)
  assert images.resize(x, (4, 10)).shape == (3, 4, 10, 3)
  assert images.resize(x, (8, 6)) is x


def test_shrinking_a_fine_pattern_gives_its_mean():
  """A filter that only looked at single pixels would give 0 or 200."""
  x = np.zeros((1, 32, 32, 1), np.uint8)
  x[:, ::2] = 200
  small = images.resize(x, 8)
  assert small.min() >= 90 and small.max() <= 110


def test_fit_turns_grey_into_rgb_and_back():
  grey = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)
  colour = images.fit(grey, (4, 4, 3))
  np.testing.assert_array_equal(colour, np.repeat(grey, 3, 3))
  np.testing.assert_array_equal(images.fit(colour, (4, 4, 1)), grey)
  assert images.fit(grey, (2, 3, 3)).shape == (2, 2, 3, 3)
  assert images.fit(colour, (5, 5, 1)).shape == (2, 5, 5, 1)
  assert images.fit(grey, (4, 4, 1)) is grey
  assert images.fit(colour[:0], (4, 4, 1)).shape == (0, 4, 4, 1)


def test_fit_weighs_the_colours_as_the_eye_does():
  colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
  grey = images.fit(colours[:, None, None, :], (1, 1, 1))
  # 0.299, 0.587 and 0.114 times 255
  assert grey.ravel().tolist() == [76, 150, 29]
