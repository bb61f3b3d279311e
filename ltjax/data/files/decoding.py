"""What pixels become that are not 8-bit grey or RGB.

A network takes bytes, grey or RGB. Pixels of 16 or 32 bits or floats are mapped
by a range of values; transparent ones are put on a background; of several pages
or frames the first counts, or none. Whatever Pillow would drop or round in
silence (channels, signs, lower bytes) is refused.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ltjax import require

_GREYS = {"white": 255, "black": 0, "grey": 128}
BACKGROUNDS = (*_GREYS, "none")
PAGES = ("error", "first")
_FULL = 65535  # of 16 bits


class Decoding(NamedTuple):
  """How pixels of other kinds are read.

  Attributes:
    low, high: the values of pixels of more than 8 bits that become 0 and 255;
      those outside are clipped. None: such pixels are refused.
    background: what transparent pixels lie on; `none` shows their own colour.
    pages: whether the `first` of several pages or frames is taken, or they are
      an `error`.
  """

  low: float | None = None
  high: float | None = None
  background: str = "white"
  pages: str = "error"


DEFAULT = Decoding()
# Of models whose description does not tell: alpha was dropped, and 16 bits were
# taken to be used in full.
BEFORE = Decoding(0, _FULL, "none", "first")


class KindError(ValueError):
  """A whole picture of a kind that is not read; its message says the way out.

  Attributes:
    values: the smallest and largest pixel, if all that lacks is their range.
  """

  def __init__(self, message: str, values: tuple[float, float] | None = None):
    super().__init__(message)
    self.values = values


def make(pixel_range: str, background: str, pages: str) -> Decoding:
  """Returns the decoding that the settings of `config.data` ask for.

  Args:
    pixel_range: `auto`, which leaves the range open, or `LOW,HIGH`.
    background, pages: as of `Decoding`.

  Raises:
    ValueError: if one is none of these.
  """
  require.choice("data.background", background, BACKGROUNDS)
  require.choice("data.pages", pages, PAGES)
  if pixel_range == "auto":
    return Decoding(background=background, pages=pages)
  try:
    low, high = map(float, pixel_range.split(","))
    if not (math.isfinite(high - low) and low < high):
      raise ValueError
  except ValueError:
    raise ValueError(
      f"data.pixel_range is {pixel_range!r}; it must be auto, or the values"
      " that become black and white, LOW,HIGH with LOW below HIGH, such as"
      " 0,4095."
    ) from None
  return Decoding(low, high, background, pages)


def check(given: Decoding) -> None:
  """Raises a ValueError unless the fields of a decoding are in range."""
  low, high, background, pages = given
  require.choice("background", background, BACKGROUNDS)
  require.choice("pages", pages, PAGES)
  if (low, high) != (None, None) and not (
    isinstance(low, int | float)
    and isinstance(high, int | float)
    and low < high < math.inf
    and low > -math.inf
  ):
    raise ValueError(f"pixels have the range {low!r}, {high!r}")


class Kind(NamedTuple):
  """What the header of a file says of its pixels, and decoding forgets.

  Attributes:
    top: the largest value of a pixel; 255 for 8 bits.
    scale: what decoded integers are multiplied by to be those of the file.
    grey: whether it has grey and alpha, whatever Pillow makes of it.
    unsigned: whether integers of 32 bits have no sign.
  """

  top: int = 255
  scale: float = 1.0
  grey: bool = False
  unsigned: bool = False


def look(image: Any, pages: str) -> Kind:
  """Looks at the header of a picture.

  Args:
    image: of Pillow, opened and not loaded.
    pages: as of `Decoding`.

  Raises:
    KindError: if it has several pages and may not, or pixels that would not be
      read as they are.
  """
  # The second picture of a camera's MPO is a preview or a map of depths.
  many = image.format != "MPO" and getattr(image, "is_animated", False)
  if many and pages == "error":
    raise KindError(
      f"it has {image.n_frames} pages or frames. data.pages=first takes the"
      " first; otherwise save each as a file."
    )
  raw = str([tile[3] for tile in image.tile])
  grey = "LA;16" in raw
  if image.format == "TIFF":
    _check_tiff(image)
  if image.format == "JPEG2000":
    return Kind(_top_of_jpeg2000(image))
  if image.format == "PPM" and isinstance(image.tile[0][3], tuple):
    top = int(image.tile[0][3][1])
    # Pillow spreads grey over 16 bits, and colour over 8.
    return Kind(max(top, 255), top / _FULL if image.mode == "I" else 1.0)
  if ";16" in raw or image.mode in ("I", "F"):
    return Kind(_FULL, 1.0, grey, image.format == "TIFF" and "I;32N" in raw)
  return Kind()


def convert(image: Any, kind: Kind, given: Decoding) -> Any:
  """Converts a decoded picture of any mode to `L` or `RGB`.

  Args:
    image: of Pillow, loaded.
    kind: of its file.
    given: the range and the background.

  Raises:
    KindError: if its pixels have more than 8 bits and no range, are not finite,
      or are of a colour space that cannot be converted.
  """
  if image.mode in ("I", "F") or image.mode.startswith("I;16"):
    return _map(image, kind, given)
  if kind.top > 255 and (given.low, given.high) != (0, kind.top):
    raise KindError(
      f"its channels have values of 0 ... {kind.top}, of which only the upper 8"
      f" bits can be read. If they use them all, data.pixel_range=0,{kind.top}"
      " says so; otherwise save it with 8 bits."
    )
  if image.mode in ("LAB", "HSV"):
    raise KindError(f"its colours are {image.mode}. Save it as RGB.")
  is_grey = kind.grey or image.mode in ("1", "L", "LA", "La")
  colour = "L" if is_grey else "RGB"
  if not image.has_transparency_data:
    return image.convert(colour)
  image = image.convert("LA" if is_grey else "RGBA")
  alpha, image = image.getchannel("A"), image.convert(colour)
  if given.background == "none":
    return image
  return _paste(image, alpha, given.background)


def reason(head: bytes) -> str:
  """Returns why a picture is not identified, as far as its start tells.

  Args:
    head: the first 12 bytes of the file.
  """
  if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
    return (
      "a TIFF of a kind that Pillow does not read, such as one of 5 channels,"
      " of channels of more than 8 bits, or of floats of 64 bits. Save it as"
      " grey, or as RGB of 8 bits."
    )
  if head[4:8] == b"ftyp":
    return (
      "of a format that this installation does not read. pip install"
      " 'ltjax[pictures]' reads HEIC; Pillow 11.3 or later reads AVIF."
    )
  return ""


def _map(image: Any, kind: Kind, given: Decoding) -> Any:
  """Maps grey pixels of more than 8 bits by the range."""
  from PIL import Image

  stored = np.asarray(image)
  if kind.unsigned:
    stored = stored.view(np.uint32)
  values = stored.astype(np.float64)
  if kind.scale != 1:
    values = np.rint(values * kind.scale)
  bad = ~np.isfinite(values)
  if bad.any():
    raise KindError(
      f"{int(bad.sum())} of its pixels are NaN or infinite. Give them values."
    )
  if given.low is None or given.high is None:
    low, high = float(values.min()), float(values.max())
    likely = f"{low:g},{high:g}"
    if low >= 0 and (values == np.rint(values)).all():  # of so many bits
      likely = f"0,{max(255, 2 ** math.ceil(math.log2(high + 1)) - 1)}"
    raise KindError(
      f"its pixels have more than 8 bits, with values of {low:g} ... {high:g}."
      " data.pixel_range=LOW,HIGH says which become black and white, such as"
      f" {likely}; otherwise save it with 8 bits.",
      (low, high),
    )
  shares = np.clip((values - given.low) / (given.high - given.low), 0, 1)
  mapped = Image.fromarray(np.rint(255 * shares).astype(np.uint8))
  clear = image.info.get("transparency")
  if clear is None or given.background == "none":
    return mapped
  alpha = Image.fromarray(np.where(stored == clear, 0, 255).astype(np.uint8))
  return _paste(mapped, alpha, given.background)


def _paste(image: Any, alpha: Any, background: str) -> Any:
  from PIL import Image

  level = _GREYS[background]
  canvas = Image.new(
    image.mode, image.size, level if image.mode == "L" else (level,) * 3
  )
  canvas.paste(image, mask=alpha)
  return canvas


def _check_tiff(image: Any) -> None:
  """Refuses what Pillow drops from a TIFF, or takes for something else."""
  tags = image.tag_v2
  samples, bands = tags.get(277, 1), len(image.getbands())
  if samples != bands:
    raise KindError(
      f"it has {samples} channels, of which {bands} would be read. Save it with"
      " those that count: grey, RGB, or these and alpha."
    )
  if image.mode in ("LA", "RGBA") and 338 not in tags:
    raise KindError(
      f"it does not say whether the last of its {samples} channels is"
      " transparency. Save it as grey or RGB."
    )
  if image.mode not in ("I", "F") and 2 in tags.get(339, (1,)):
    raise KindError("its 8 bits have a sign. Save it with 16 bits.")
  if image.mode not in ("1", "L", "P") and tags.get(262) == 0:
    raise KindError("in its pixels of more than 8 bits, white is 0. Invert it.")


def _top_of_jpeg2000(image: Any) -> int:
  """Returns the largest value of a pixel, by the depth of the first channel."""
  place = image.fp.tell()
  image.fp.seek(0)
  head = image.fp.read(4096)
  image.fp.seek(place)
  start = head.find(b"\xff\x4f\xff\x51")  # of the codestream, and of SIZ
  depth = head[start + 42 : start + 43] if start >= 0 else b""
  if depth not in (b"\x07", b"\x0f"):
    raise KindError(
      "it is a JPEG 2000 of pixels that have neither 8 nor 16 bits. Save it as"
      " a TIFF or PNG."
    )
  return 2 ** (depth[0] + 1) - 1
