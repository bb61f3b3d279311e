"""Ranges, backgrounds and pages: what a decoding may be, and what it does."""

import io

import numpy as np
from PIL import Image
import pytest

from ltjax.data.files import decoding as decodings
from ltjax.data.files import images

VALUES = np.array([[0, 100, 300, 500, 4095]], np.uint16)


def saved(image, kind="PNG"):
  out = io.BytesIO()
  image.save(out, kind)
  return out.getvalue()


def read(data, *args, **fields):
  decoding = decodings.Decoding(*args, **fields)
  return np.asarray(images.read_image(data, decoding=decoding))


def test_settings_make_a_decoding():
  assert decodings.make("auto", "white", "error") == decodings.DEFAULT
  assert decodings.make(" -1.5, 4e3", "black", "first") == decodings.Decoding(
    -1.5, 4000.0, "black", "first"
  )


@pytest.mark.parametrize(
  "settings, message",
  [
    (("4095", "white", "error"), "data.pixel_range is '4095'; .* 0,4095"),
    (("9,1", "white", "error"), "LOW below HIGH"),
    (("1,1", "white", "error"), "LOW below HIGH"),
    (("0,inf", "white", "error"), "LOW below HIGH"),
    (("nan,1", "white", "error"), "LOW below HIGH"),
    (("1,2,3", "white", "error"), "data.pixel_range"),
    (("auto", "red", "error"), "data.background is 'red'; .* white, black"),
    (("auto", "white", "all"), "data.pages is 'all'; .* error, first"),
  ],
)
def test_settings_out_of_range(settings, message):
  with pytest.raises(ValueError, match=message):
    decodings.make(*settings)


@pytest.mark.parametrize(
  "fields",
  [
    {"low": 1.0},
    {"low": 2, "high": 1},
    {"low": "0", "high": 1},
    {"low": 0, "high": float("inf")},
    {"background": "red"},
    {"pages": "all"},
  ],
)
def test_a_decoding_out_of_range(fields):
  with pytest.raises(ValueError):
    decodings.check(decodings.Decoding(**fields))
  decodings.check(decodings.DEFAULT)
  decodings.check(decodings.BEFORE)


def test_values_between_low_and_high_become_bytes():
  data = saved(Image.fromarray(VALUES))
  found = read(data, 100, 500)
  # (300 - 100) / 400 * 255 = 127.5, to the even number; the ends are clipped.
  assert found.tolist() == [[0, 0, 128, 255, 255]]
  assert read(data, 0, 4095).tolist() == [[0, 6, 19, 31, 255]]


def test_an_open_range_is_refused_with_the_values():
  with pytest.raises(
    decodings.KindError, match="of 0 ... 4095.*as 0,4095"
  ) as e:
    read(saved(Image.fromarray(VALUES)))
  assert e.value.values == (0, 4095)


def test_a_range_leaves_8_bits_alone():
  grey = Image.fromarray(np.array([[0, 7, 255]], np.uint8))
  assert read(saved(grey), 0, 4095).tolist() == [[0, 7, 255]]


def test_what_16_bits_were_before_is_kept():
  """To one grey level, of the upper bytes that older models were given."""
  found = images.read_image(
    saved(Image.fromarray(VALUES * 16)), decoding=decodings.BEFORE
  )
  upper = (VALUES * 16 >> 8).astype(int)
  assert np.abs(np.asarray(found).astype(int) - upper).max() <= 1
  hidden = Image.new("RGBA", (1, 1), (1, 2, 3, 0))
  found = images.read_image(saved(hidden), decoding=decodings.BEFORE)
  assert np.asarray(found).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
  "background, half, none",
  [("white", 227, 255), ("black", 100, 0), ("grey", 164, 128)],
)
def test_transparent_pixels_lie_on_the_background(background, half, none):
  """`a c + (1 - a) b`, rounded; checked on grey and on colour."""
  grey = np.array([[200, 200, 200]], np.uint8)
  alpha = np.array([[255, 128, 0]], np.uint8)
  pair = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
  found = read(saved(pair), background=background)
  assert found.tolist() == [[200, half, none]]
  found = read(saved(pair.convert("RGBA")), background=background)
  assert found.tolist() == [[[200] * 3, [half] * 3, [none] * 3]]
