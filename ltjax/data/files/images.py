"""Pictures from files: checked, decoded, resized.

A picture of a few bytes can unfold to gigabytes, so its header is read first.
One that cannot be used is an error, never a hole in the set.
"""

from __future__ import annotations

import functools
import io
import pathlib
from typing import Any
import warnings

import numpy as np

from ltjax import require
from ltjax.data.files import decoding as decodings

# 64 megapixels: no photograph to train on is larger, and 192 MiB decoded.
MAX_PIXELS = 1 << 26
_ALWAYS = (
  ".png .apng .jpg .jpeg .jpe .jfif .bmp .gif .ppm .pgm .pnm .pbm .pfm .tif"
  " .tiff .webp"
)
_JPEG2000 = ".jp2 .j2k .j2c .jpx"
_AVIF = ".avif"
_HEIF = ".heic .heif .hif"
# All that some machine reads; `readable` has what this one does.
SUFFIXES = frozenset(f"{_ALWAYS} {_JPEG2000} {_AVIF} {_HEIF}".split())
RESIZES = ("stretch", "crop")

_Pathlike = str | pathlib.Path


@functools.cache
def formats() -> tuple[str, ...]:
  """Returns the formats that this machine reads, by Pillow's names.

  HEIF is that of pillow-heif, the extra `pictures`.
  """
  from PIL import features

  found = ["PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP"]
  if features.check("jpg_2000"):
    found.append("JPEG2000")
  if "avif" in features.modules and features.check("avif"):
    found.append("AVIF")
  try:
    import pillow_heif  # pyrefly: ignore
  except ImportError:
    return tuple(found)
  pillow_heif.register_heif_opener()
  return (*found, "HEIF")


@functools.cache
def readable() -> frozenset[str]:
  """Returns the suffixes, in lower case, of pictures that can be read here."""
  there = {
    _JPEG2000: "JPEG2000" in formats(),
    _AVIF: "AVIF" in formats(),
    _HEIF: "HEIF" in formats(),
  }
  kinds = [kind for kind, known in there.items() if known]
  return frozenset(" ".join([_ALWAYS, *kinds]).split())


def read_image(
  source: _Pathlike | bytes,
  *,
  name: str = "",
  max_pixels: int = MAX_PIXELS,
  decoding: decodings.Decoding = decodings.DEFAULT,
) -> Any:
  """Decodes one picture to mode `L` (greyscale) or `RGB`.

  The size in the header is compared with `max_pixels` before any pixel is
  decoded. A palette is looked up, and the camera's rotation tag is applied.

  Args:
    source: A file's path, or its bytes.
    name: What to call it in errors; the path if empty.
    max_pixels: Most width x height accepted.
    decoding: What becomes of pixels that are not 8-bit grey or RGB.

  Raises:
    ValueError: Anything but a whole picture, within the limit; a
      `decoding.KindError` if it is whole, and of a kind that is not read.
  """
  from PIL import Image

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Odd metadata does no harm.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return decode(source, name=name, max_pixels=max_pixels, decoding=decoding)


def decode(
  source: _Pathlike | bytes,
  *,
  name: str = "",
  max_pixels: int = MAX_PIXELS,
  least: int = 0,
  decoding: decodings.Decoding = decodings.DEFAULT,
) -> Any:
  """As `read_image`, for threads: it leaves the warning filters alone.

  Args:
    source, name, max_pixels, decoding: As of `read_image`.
    least: A JPEG may be decoded at a half, a quarter or an eighth of its size,
      which is faster, where both sides keep so many pixels; 0 for full size.
  """
  from PIL import Image, ImageOps, UnidentifiedImageError

  is_bytes = isinstance(source, bytes)
  name = name or ("image" if is_bytes else str(source))
  if not (source if is_bytes else pathlib.Path(source).stat().st_size):
    raise ValueError(f"{name}: the image file is empty (0 bytes).")
  try:
    opened = io.BytesIO(source) if is_bytes else source
    with Image.open(opened, formats=formats()) as image:
      width, height = image.size
      if width * height > max_pixels:
        raise Image.DecompressionBombError(f"{width} x {height} pixels")
      kind = decodings.look(image, decoding.pages)
      if least:
        image.draft(None, (least, least))
      image.load()
      image = ImageOps.exif_transpose(image)
      return decodings.convert(image, kind, decoding)
  except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
    raise ValueError(
      f"{name}: refused as an image bomb ({e}); the limit is {max_pixels} "
      "pixels. Shrink the picture if it is a real one."
    ) from None
  except decodings.KindError as error:
    raise decodings.KindError(f"{name}: {error}", error.values) from None
  except UnidentifiedImageError as error:
    head = source if is_bytes else _head(source)
    if why := decodings.reason(head):
      raise decodings.KindError(f"{name}: {why}") from None
    raise ValueError(
      f"{name}: not a whole image ({error}). Replace or remove it."
    ) from None
  except PermissionError as error:
    raise ValueError(
      f"{name}: it cannot be read ({error.strerror}). Change its permissions or"
      " remove it."
    ) from None
  except Exception as error:  # Decoders raise nearly anything.
    raise ValueError(
      f"{name}: not a whole image ({error}). Replace or remove it."
    ) from None


def _head(path: _Pathlike) -> bytes:
  with open(path, "rb") as file:
    return file.read(12)


def to_array(
  image: Any, image_size: int | tuple[int, int] | None = None
) -> np.ndarray:
  """Turns a PIL image, `L` or `RGB`, into uint8 `[H, W, 1]` or `[H, W, 3]`.

  `image_size` is the side of a square, or height and width, in pixels:
  bilinear, antialiased when shrinking, not cropped; None keeps the size.
  """
  from PIL import Image

  if image_size is not None:
    square = isinstance(image_size, int)
    height, width = (image_size,) * 2 if square else image_size
    if image.size != (width, height):
      image = image.resize((width, height), Image.Resampling.BILINEAR)
  array = np.array(image, np.uint8)
  return array[..., None] if array.ndim == 2 else array


def to_square(image: Any, size: int, resize: str) -> np.ndarray:
  """Turns a PIL image of any shape into uint8 `[size, size, 1]` or `[.., 3]`.

  Args:
    image: A PIL image of mode `L` or `RGB`.
    size: Pixels of a side.
    resize: `stretch` the picture, or `crop`: bring its shorter side to `size`
      and cut out the middle, else a ValueError. Bilinear, antialiased.
  """
  from PIL import Image

  require.choice("data.resize", resize, RESIZES)
  if resize == "stretch":
    return to_array(image, size)
  width, height = image.size
  side = min(width, height)
  left, top = (width - side) / 2, (height - side) / 2
  box = (left, top, left + side, top + side)
  if side != size or width != height:
    image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
  return to_array(image)


def resize(
  images: np.ndarray, image_size: int | tuple[int, int] | None
) -> np.ndarray:
  """Resizes every image of uint8 `[N, H, W, C]`, as `to_array` does.

  Images that are neither grey nor RGB are a ValueError.
  """
  if not image_size:
    return images
  square = isinstance(image_size, int)
  height, width = (image_size,) * 2 if square else image_size
  if images.shape[1:3] == (height, width):
    return images
  from PIL import Image

  if images.shape[3] not in (1, 3):
    raise ValueError(
      f"Images with {images.shape[3]} channels cannot be resized; only 1 "
      "(grey) or 3 (RGB). Leave out image_size."
    )
  out = np.empty((len(images), height, width, images.shape[3]), "u1")
  for i, array in enumerate(images):
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    out[i] = to_array(image, (height, width))
  return out


def fit(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
  """Resizes images and turns grey into RGB, or RGB into grey, to fit a set.

  Args:
    images: uint8 `[N, H, W, C]`, `C` 1 or 3; grey is
      `0.299 R + 0.587 G + 0.114 B`.
    shape: `(height, width, channels)` wanted, channels 1 or 3.
  """
  if images.shape[3] == 3 and shape[2] == 1:
    weights = np.array([0.299, 0.587, 0.114])
    grey = [np.rint(image @ weights) for image in images]
    images = np.array(grey, np.uint8).reshape(*images.shape[:3], 1)
  images = resize(images, shape[:2])
  return np.repeat(images, 3, axis=3) if images.shape[3] < shape[2] else images
