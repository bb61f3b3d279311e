"""Copies of test images among those to learn from, where a test is none.

Two images are copies if their pixels, or the bytes of their unread files, are
the same. Pictures of 32 pixels or more that only look alike (another size or
quality of the same) have one difference hash: rows and columns of a picture
shrunk to 9 x 8 and 8 x 9 say where it grows brighter. Those are told of, and
never taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import hashlib
import pathlib
from typing import Any

import numpy as np

from ltjax import require
from ltjax.data.host import host_images
from ltjax.data.sources import labeled as sources
from ltjax.data.sources import unlabeled as pools

CHOICES = ("auto", "error", "drop", "keep", "ignore")
# Published sets are taken as they are, repetitions included.
_OWN = frozenset("folder list csv npz arrays pickle mat".split())
# Bytes of a file that tell it from another one of its size.
_BYTES = 1 << 16
_SMALLEST, _FLAT = 32, 2.0  # pixels; grey levels
_SHOWN = 5
_AT_ONCE = 1000  # images in memory as floats, or read

Images = np.ndarray | host_images.HostImages


def settle(
  data: sources.Dataset,
  pool: pools.Pool | None,
  choice: str,
  *,
  pool_source: str = "",
) -> tuple[sources.Dataset, pools.Pool | None]:
  """Looks for copies of test images, and does with them as was chosen.

  Args:
    data: the set; what was found is added to `understood`.
    pool: the unlabeled images of another source; None for none.
    choice: `error`; `drop`, which leaves them out of training, validation and
      pool; `keep`, which tells of them; `ignore`, which does not look; or
      `auto`, an `error` in sets and pools of the user's own, and for published
      ones `ignore`.
    pool_source: name of the pool; `found` for the unlabeled images of `data`.

  Raises:
    ValueError: if there are some, with their numbers.
  """
  require.choice("data.copies", choice, CHOICES)
  ours = choice != "auto" or data.name.partition(":")[0] in _OWN
  if choice == "auto":
    theirs = pool_source.partition(":")[0] in _OWN
    choice = "error" if ours or theirs else "ignore"
  if choice == "ignore":
    return data, pool
  parts: dict[str, Images] = {"training": data.train_images}
  if pool is not None:
    parts["unlabeled"] = pool.images
  elif pool_source == "found" and data.unlabeled is not None:
    parts["unlabeled"] = data.unlabeled
  *learned, test = identities([*parts.values(), data.test_images])
  hits = {
    name: np.isin(ids, test) for name, ids in zip(parts, learned, strict=True)
  }
  if not ours:  # a published set with a pool of the user's
    hits["training"][:] = False
  said = [*_told(parts, hits), *_two_classes(data, learned[0])]
  said += _alike(parts, hits, data.test_images)
  if "unlabeled" in parts:
    both = int(np.isin(learned[1], learned[0]).sum())
    if both:
      said.append(
        f"{both:,} unlabeled images are also among the labeled set's."
      )
  found = sum(int(hit.sum()) for hit in hits.values())
  if found and choice == "error":
    raise ValueError(
      f"{' '.join(_told(parts, hits))} What is learned is not tested by them:"
      " take them out of one part, or set --config.data.copies=drop to leave"
      " them out of training, or keep to accept it."
    )
  if found and choice == "drop":
    said.append("They are left out of training.")
    data, pool = _without(data, pool, hits)
  lines = ([data.understood] if data.understood else []) + said
  return dataclasses.replace(data, understood="\n".join(lines)), pool


def identities(parts: Sequence[Images]) -> list[np.ndarray]:
  """Returns a number for each image, the same for copies, int64 `[N]` each.

  Args:
    parts: uint8 `[N, H, W, C]`. Unread pictures are known by their files, and
      of these only such are opened as have the size of another.
  """
  keys: list[list[Any]] = []
  sizes: dict[int, int] = {}
  for part in parts:
    files = part.files() if isinstance(part, host_images.HostImages) else None
    if files is not None:
      keys.append([(path, path.stat().st_size) for path in files])
      for _, size in keys[-1]:
        sizes[size] = sizes.get(size, 0) + 1
    else:
      keys.append([_digest(image) for image in _each(part)])
  numbers: dict[Any, int] = {}

  def number(key: Any) -> int:
    if isinstance(key, tuple):
      path, size = key
      key = (size, _start(path)) if sizes[size] > 1 else (size, b"")
    return numbers.setdefault(key, len(numbers))

  return [
    np.array([number(key) for key in part], np.int64).reshape(-1)
    for part in keys
  ]


def difference_hashes(images: np.ndarray) -> list[bytes]:
  """Returns a hash of how each image looks, 16 bytes; empty if it is flat.

  Args:
    images: uint8 `[N, H, W, C]`.
  """
  return [
    key
    for first in range(0, len(images), _AT_ONCE)
    for key in _hashes(images[first : first + _AT_ONCE])
  ]


def _hashes(images: np.ndarray) -> list[bytes]:
  grey = images.astype(np.float32).mean(axis=3)
  wide, high = _shrunk(grey, 8, 9), _shrunk(grey, 9, 8)
  brighter = [np.diff(wide, axis=2) > 0, np.diff(high, axis=1) > 0]
  bits = [part.reshape(len(images), 64) for part in brighter]
  packed = np.packbits(np.concatenate(bits, axis=1), axis=1)
  flat = wide.reshape(len(images), 72).std(axis=1) < _FLAT
  return [
    b"" if none else row.tobytes()
    for row, none in zip(packed, flat, strict=True)
  ]


def _told(
  parts: Mapping[str, Images], hits: Mapping[str, np.ndarray]
) -> list[str]:
  """A sentence for each part with copies."""
  return [
    f"{hit.sum():,} of {len(hit):,} {name} images are test images too"
    f" ({_some(parts[name], np.flatnonzero(hit))})."
    for name, hit in hits.items()
    if hit.any()
  ]


def _two_classes(data: sources.Dataset, ids: np.ndarray) -> list[str]:
  """A sentence, if copies of an image have several labels."""
  pairs = np.unique(np.stack([ids, data.train_labels]), axis=1)
  number, times = np.unique(pairs[0], return_counts=True)
  several = number[times > 1]
  if not len(several):
    return []
  where = np.flatnonzero(ids == several[0])
  names = sorted({data.class_names[data.train_labels[i]] for i in where})
  return [
    f"{len(several):,} images are in two classes or more, the first in"
    f" {' and '.join(names)} ({_some(data.train_images, where)})."
  ]


def _alike(
  parts: Mapping[str, Images],
  hits: Mapping[str, np.ndarray],
  test: Images,
) -> list[str]:
  """A sentence for each part with images that look like test images."""
  read = [*parts.values(), test]
  if not all(isinstance(part, np.ndarray) for part in read):
    return []
  if min(test.shape[1:3]) < _SMALLEST:
    return []
  known = set(difference_hashes(np.asarray(test))) - {b""}
  said = []
  for name, part in parts.items():
    found = difference_hashes(np.asarray(part))
    near = np.array([key in known for key in found], bool) & ~hits[name]
    if near.any():
      said.append(
        f"{near.sum():,} {name} images look much like test images"
        f" ({_some(part, np.flatnonzero(near))}): look whether they are"
        " pictures of the same thing."
      )
  return said


def _without(
  data: sources.Dataset,
  pool: pools.Pool | None,
  hits: Mapping[str, np.ndarray],
) -> tuple[sources.Dataset, pools.Pool | None]:
  """The set and the pool without the images that were hit."""
  stay = ~hits["training"]
  for c, name in enumerate(data.class_names):
    if not (data.train_labels[stay] == c).any():
      raise ValueError(
        f"class {c} ({name}) has no training image but copies of test images;"
        " give it others, or set --config.data.copies=keep."
      )
  place = np.cumsum(stay) - 1
  validation = data.validation[stay[data.validation]]
  groups = data.groups
  if groups is not None:
    groups = groups[stay[: len(groups)]]
  data = dataclasses.replace(
    data,
    train_images=data.train_images[stay],
    train_labels=data.train_labels[stay],
    validation=place[validation],
    groups=groups,
  )
  if "unlabeled" not in hits:
    return data, pool
  left = ~hits["unlabeled"]
  if not left.any():
    raise ValueError(
      "All unlabeled images are copies of test images: name others in"
      " data.unlabeled.source, or set it to train."
    )
  if pool is not None:
    return data, dataclasses.replace(
      pool, images=pool.images[left], labels=pool.labels[left]
    )
  assert data.unlabeled is not None
  theirs = data.unlabeled_groups
  return dataclasses.replace(
    data,
    unlabeled=data.unlabeled[left],
    unlabeled_groups=theirs if theirs is None else theirs[left],
  ), None


def _some(part: Images, where: np.ndarray) -> str:
  """The first few of some images, by their files or numbers."""
  files = part.files() if isinstance(part, host_images.HostImages) else None
  names = [str(files[i]) if files else f"image {i}" for i in where[:_SHOWN]]
  return ", ".join(names) + ", ..." * (len(where) > _SHOWN)


def _each(part: Images) -> Iterator[np.ndarray]:
  """The images of a part, one after the other."""
  if isinstance(part, np.ndarray):
    yield from part
    return
  for first in range(0, len(part), _AT_ONCE):
    yield from part.read(np.arange(first, min(first + _AT_ONCE, len(part))))


def _digest(image: np.ndarray) -> bytes:
  return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _start(path: pathlib.Path) -> bytes:
  with path.open("rb") as file:
    return hashlib.blake2b(file.read(_BYTES), digest_size=16).digest()


def _shrunk(grey: np.ndarray, height: int, width: int) -> np.ndarray:
  """Means of cells, `[N, height, width]` of `[N, H, W]`."""
  for axis, size in ((1, height), (2, width)):
    starts = np.arange(size) * grey.shape[axis] // size
    ends = np.append(starts[1:], grey.shape[axis])
    shape = [1, 1, 1]
    shape[axis] = size
    grey = np.add.reduceat(grey, starts, axis=axis) / np.reshape(
      (ends - starts).astype(np.float32), shape
    )
  return grey
