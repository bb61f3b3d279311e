"""Packs: the images of a named set that some configs need, in few bytes.

A pack lies in the data folder where the set itself would. It holds all labels,
the test images, and those training images that were packed, as lossless WebP
strips; `pack.json` says what for, with checksums. `ltjax.pack` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from ltjax.data.files import images
from ltjax.data.host import host_images
from ltjax.data.parts import arrays, contents

FORMAT = "ltjax-pack-1"
RECORD = "pack.json"


class PackedImages(host_images.HostImages):
  """Images of which only some are there.

  Args:
    images: uint8 `[P, H, W, C]`, those that are.
    index: `[P]` which of all they are.
    count: N, how many there would be.
    name: of the pack and the part of the set, for errors.
    packed_for: what they were packed for, for errors.
  """

  def __init__(
    self,
    images: np.ndarray,
    index: np.ndarray,
    count: int,
    *,
    name: str,
    packed_for: tuple[str, ...],
  ):
    self._images, self._index = images, index
    self._name, self._packed_for = name, packed_for
    self._place = np.full(count, -1)
    self._place[index] = np.arange(len(index))
    self.shape = (count, *images.shape[1:])  # pyrefly: ignore

  def read(self, index: np.ndarray) -> np.ndarray:
    """See `HostImages`; a ValueError if one of them was not packed."""
    index = np.asarray(index)
    place = self._place[index]
    missing = index[place < 0]
    if len(missing):
      raise ValueError(
        f"{self._name}: {len(missing):,} of {len(index):,} images that are"
        f" asked for were not packed, image {missing[0]} first. The pack is"
        f" for {'; '.join(self._packed_for)}. Where the whole set lies, pack"
        " this config too: python -m ltjax.pack --config=CONFIG"
      )
    return self._images[place]

  def resized(self, image_size: int | None) -> PackedImages:
    """Returns them at another size, as `images.resize`."""
    return PackedImages(
      images.resize(self._images, image_size),
      self._index,
      len(self),
      name=self._name,
      packed_for=self._packed_for,
    )


def read(path: pathlib.Path) -> contents.Read:
  """Reads a pack. Every checksum is looked at.

  Train images are `PackedImages`, test images uint8 `[T, H, W, C]`. A file that
  is missing or altered is a ValueError.
  """
  title = str(path / RECORD)
  try:
    record = json.loads((path / RECORD).read_text())
  except (OSError, ValueError) as error:
    raise ValueError(f"{title}: not a pack's record ({error}).") from None
  if not isinstance(record, dict) or record.get("format") != FORMAT:
    raise ValueError(f"{title}: not of the format {FORMAT!r}.")
  if record.get("checksum") != checksum(record):
    raise ValueError(f"{title}: wrong checksum; it was altered. Pack it again.")
  names = arrays.class_names(record["class_names"], f"{title}: class_names")
  train, test = (
    arrays.check_labels(
      record[f"{part}_labels"],
      f"{title}: {part}_labels",
      num_images=len(record[f"{part}_labels"]),
      num_classes=len(names),
    )
    for part in ("train", "test")
  )
  index = np.asarray(record["train"])
  some = _strips(path, record["strips"]["train"], len(index), record["shape"])
  whole = _strips(path, record["strips"]["test"], len(test), record["shape"])
  packed = PackedImages(
    some,
    index,
    len(train),
    name=str(path),
    packed_for=tuple(record["packed_for"]),
  )
  return contents.Content(
    contents.Part(packed, train), contents.Part(whole, test), names
  )


def checksum(record: Mapping[str, Any]) -> str:
  """Returns the SHA-256 of all else that a record says, sums of strips too."""
  rest = {k: v for k, v in record.items() if k != "checksum"}
  return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _strips(
  path: pathlib.Path,
  strips: Mapping[str, str],
  count: int,
  shape: tuple[int, int, int],
) -> np.ndarray:
  """Returns the images of strips, one under the other in each."""
  parts = [np.zeros((0, *shape), np.uint8)]
  for name, want in strips.items():
    try:
      content = (path / name).read_bytes()
    except OSError as error:
      raise ValueError(
        f"{path / name}: {error.strerror}. Pack it again."
      ) from None
    if hashlib.sha256(content).hexdigest() != want:
      raise ValueError(
        f"{path / name}: wrong checksum ({len(content)} bytes); it is truncated"
        " or altered. Copy or pack it again."
      )
    strip = images.read_image(content, name=str(path / name))
    parts.append(images.to_array(strip).reshape(-1, *shape))
  found = np.concatenate(parts)
  if len(found) != count:
    raise ValueError(f"{path}: {len(found)} images, the record says {count}.")
  return found
