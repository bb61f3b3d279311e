"""Labeled image sets by name, all in one shape.

    digits                     scikit-learn's 8 x 8 digits; nothing to fetch
    cifar10, cifar100          the official python archives, packed or not; or a
                               pack of some of the images (`ltjax.pack`)
    fashion_mnist, mnist       idx files, gzipped or not
    svhn                       MATLAB files of house numbers; digit d is class d
    tfds:NAME                  prepared TFDS sets, read without TensorFlow
    folder:PATH                class sub-folders of pictures
    list:PATH                  list files of pictures and classes, see `lists`
    csv:PATH                   a table of pictures and classes, see `tables`
    arrayrecord:PATH           ArrayRecord files, see `array_records`
    npz:PATH                   arrays x, y, optionally x_test, y_test, classes,
                               groups

No tail is cut here: `splits` does that.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import difflib
import re

import numpy as np

from ltjax.data.download import catalogue
from ltjax.data.files import decoding as decodings
from ltjax.data.files import images
from ltjax.data.host import host_images, image_files
from ltjax.data.parts import arrays, contents, grouped
from ltjax.data.parts import group_by as grouping
from ltjax.data.sources import (
  folders,
  lists,
  npz,
  official,
  packed,
  record_labels,
  svhn,
  tables,
  tfds_sets,
)

# The field's constants, as published with the code of most papers. (The std
# of cifar10 there is the mean over images of each image's own std; the set's
# true one is 0.247, 0.243, 0.262. Kept, for comparable numbers.)
_MOMENTS = {
  "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
  "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
  "fashion_mnist": ((0.2860,), (0.3530,)),
  "mnist": ((0.1307,), (0.3081,)),
  "svhn": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_NAMED = ("digits", *catalogue.ARCHIVES, *catalogue.IDX_SETS, "svhn")
_WITH_PATH = {
  "tfds": "NAME",
  "folder": "PATH",
  "npz": "PATH",
  "list": "PATH",
  "csv": "PATH",
  "arrayrecord": "PATH",
}
# Pictures that give the mean and std where not all are decoded beforehand.
_SAMPLE = 1000
# A mirrored digit or letter is another one, or none.
_NO_FLIP = frozenset(
  "digits mnist svhn svhn_cropped kmnist emnist qmnist omniglot".split()
)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One labeled image set in host memory.

  Attributes:
    name: As given to `load`, such as `cifar10` or `folder:/x`.
    train_images: uint8 `[N, H, W, C]`; unread `HostImages` where `pictures` was
      given to `load`, `PackedImages` where a pack was found.
    train_labels: int32 `[N]`, each in `[0, num_classes)`.
    test_images: uint8 `[T, H, W, C]`; `T` may be 0.
    test_labels: int32 `[T]`.
    class_names: One name per class.
    mean, std: Per channel, in [0, 1]: the field's constants for known sets,
      computed from the train images for others.
    flip: Whether a mirrored image keeps its class (no for digits).
    validation: int64 `[V]`, those of the train images that the set keeps for
      validation by itself; empty where they are drawn.
    unlabeled: uint8 `[M, H, W, C]`, images that came without label; None for
      none.
    groups: int32 `[N - V]`, see `contents.Content`, of the other train images;
      None where there are none.
    unlabeled_groups: int32 `[M]`, -1 for none, of the unlabeled images; None
      where they are not known. None of them is of a test image's group.
    understood: What was made of the files; empty where nothing had to be.
    decoding: How pictures are decoded, those of a pool too.
  """

  name: str
  train_images: np.ndarray | host_images.HostImages
  train_labels: np.ndarray
  test_images: np.ndarray | host_images.HostImages
  test_labels: np.ndarray
  class_names: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  flip: bool
  validation: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )
  unlabeled: np.ndarray | host_images.HostImages | None = None
  groups: np.ndarray | None = None
  unlabeled_groups: np.ndarray | None = None
  understood: str = ""
  decoding: decodings.Decoding = decodings.DEFAULT

  @property
  def num_classes(self) -> int:
    """Number of classes."""
    return len(self.class_names)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of every image."""
    return self.train_images.shape[1:]  # pyrefly: ignore


def load(
  name: str,
  *,
  data_dir: str | None = None,
  image_size: int | None = None,
  test_fraction: float = 0.2,
  seed: int = 0,
  root: str = "",
  pictures: image_files.Reader | None = None,
  given: contents.Read | None = None,
  columns: Mapping[str, str] | None = None,
  group_by: str = "",
  unlabeled: bool = True,
  decoding: decodings.Decoding = decodings.DEFAULT,
  broken: str = "error",
) -> Dataset:
  """Loads a labeled set; fetches a named one that is missing.

  Args:
    name: One of the sources in this module's docstring.
    data_dir: Where named sets are kept; None for `LTJAX_DATA` or the cache.
    image_size: Resize all images to this square, bilinear and antialiased; None
      keeps their size. Folders with mixed sizes need it. `mean` and `std` of a
      known set stay the field's constants.
    test_fraction: Share of each class held out as the test part where the
      source has none; 0 leaves the test part empty.
    seed: Chooses which images those are.
    root: The folder that the paths in list files and tables start from.
    pictures: Leaves the pictures of a folder, of lists, of a table or of
      ArrayRecord files unread, to be read by this. The last three need it.
      `mean` and `std` are then those of 1000 pictures, evenly spaced.
    given: The content of a set that is no source but arrays at hand, see
      `ltjax.data.sources.given`; `name` is what it is called.
    columns: The names of a table's columns, see `tables`.
    group_by: What images have in common that stay on one side of every split: a
      table's column, or a pattern on the paths of pictures.
    unlabeled: Whether unlabeled pictures of a folder are wanted.
    decoding: What becomes of pixels of a folder that are not 8-bit grey or RGB;
      `pictures` have their own.
    broken: What becomes of broken pictures of a folder, see `folders`.

  Raises:
    FileNotFoundError: The set is missing and cannot be fetched.
    ValueError: Unknown source, or the files are not what they should be.
  """
  if image_size is not None and not 1 <= image_size <= 4096:
    raise ValueError(f"image_size is {image_size}; it must be 1 ... 4096.")
  kind, colon, path = name.partition(":")
  if kind == "arrays" and given is None:
    raise ValueError(
      f"{name}: the images of this run were handed to ltjax.fit as arrays and"
      " are in no file. Open the run with ltjax.load(workdir) and hand the"
      " arrays to its evaluate."
    )
  known = kind in (_WITH_PATH if colon else _NAMED) and (path or not colon)
  if given is None and not known:
    raise ValueError(_unknown(name))
  if group_by and kind not in ("folder", "list", "csv"):
    raise ValueError(
      f"data.group_by is {group_by!r}, which goes with folder:, list: and csv:,"
      f" and data.source is {name!r}. An npz has groups in its array groups,"
      " ltjax.fit in its argument of that name; leave data.group_by empty."
    )
  if given is not None:
    found = given
  elif kind in ("folder", "list", "csv", "arrayrecord") and pictures:
    unread = _unread(kind, path, root, data_dir, columns, group_by, unlabeled)
    found = contents.opened(unread, pictures)
  elif kind in ("list", "csv", "arrayrecord"):
    raise ValueError(
      f"{name}: set data.image_size, the pixels to bring the pictures to."
    )
  elif kind == "folder":
    found = folders.read_classes(
      path,
      image_size=image_size,
      unlabeled=unlabeled,
      group_by=group_by,
      decoding=decoding,
      broken=broken,
    )
  elif kind == "npz":
    found = npz.read(path)
  elif kind == "tfds":
    found = tfds_sets.read(path, data_dir=data_dir, image_size=image_size)
  elif kind == "digits":
    found = official.read_digits()
  elif kind == "svhn":
    found = svhn.read(data_dir)
  elif kind in catalogue.ARCHIVES:
    found = official.read_cifar(kind, data_dir)
  else:
    found = official.read_idx(kind, data_dir)
  if found.test is None:
    found = _hold_out(name, found, test_fraction, seed=seed)
  train, test, class_names = found[:3]
  assert test is not None
  if not len(train.labels):
    raise ValueError(f"{name}: the set has no training images.")
  # TFDS names may carry a config and a version: emnist/letters:3.1.0.
  known = re.split("[/:]", path)[0] if kind == "tfds" else name
  train_images, test_images = (
    _resized(part.images, image_size) for part in (train, test)
  )
  mean, std = _MOMENTS.get(known) or arrays.moments(_some(train_images))
  labels, validation = train.labels, np.zeros(0, np.int64)
  if found.validation is not None:
    validation = len(labels) + np.arange(len(found.validation.labels))
    held_out = _resized(found.validation.images, image_size)
    train_images = host_images.concatenate([train_images, held_out])
    labels = np.concatenate([labels, found.validation.labels])
  return Dataset(
    name=name,
    train_images=train_images,
    train_labels=labels,
    test_images=test_images,
    test_labels=test.labels,
    class_names=class_names,
    mean=mean,
    std=std,
    flip=known not in _NO_FLIP,
    validation=validation,
    unlabeled=found.unlabeled
    if found.unlabeled is None
    else _resized(found.unlabeled, image_size),
    groups=found.groups,
    unlabeled_groups=found.unlabeled_groups,
    understood=found.understood,
    decoding=found.decoding or decoding,
  )


def _resized(
  part: np.ndarray | host_images.HostImages, image_size: int | None
) -> np.ndarray | host_images.HostImages:
  """Returns images at their size; pictures yet to be read come at theirs."""
  if isinstance(part, packed.PackedImages):
    return part.resized(image_size)
  if isinstance(part, host_images.HostImages):
    return part
  return np.ascontiguousarray(images.resize(part, image_size))


def _hold_out(
  name: str, found: contents.Read, fraction: float, *, seed: int
) -> contents.Read:
  """Holds out a test part; by whole groups, where there are some."""
  train, groups = found.train, found.groups
  if groups is None:
    held = arrays.stratified_test(train.labels, fraction, seed=seed)
    if fraction > 0:
      _check_two(name, train.labels, found.names)
  else:
    held = grouped.stratified_test(
      train.labels,
      groups,
      fraction,
      seed=seed,
      names=found.names,
      where=name,
    )
  parts = [
    contents.Part(train.images[side], train.labels[side])
    for side in (~held, held)
  ]
  found = found._replace(train=parts[0], test=parts[1])
  if groups is None:
    return found
  found = found._replace(groups=groups[~held])
  if not held.any():
    return found
  theirs = np.unique(groups[held])
  told = f"test part    {len(theirs):,} of these groups"
  if found.unlabeled_groups is not None:
    clear = ~np.isin(found.unlabeled_groups, theirs)
    if not clear.all():
      told += f"; {grouping.left_out(int((~clear).sum()))}"
      found = found._replace(
        unlabeled=found.unlabeled[clear] if clear.any() else None,
        unlabeled_groups=found.unlabeled_groups[clear],
      )
  return found._replace(
    understood="\n".join(filter(None, (found.understood, told)))
  )


def _check_two(
  name: str, labels: np.ndarray, class_names: tuple[str, ...]
) -> None:
  """Raises a ValueError if a class has one image, too few to split."""
  counts = np.bincount(labels, minlength=len(class_names))
  for c in np.flatnonzero(counts == 1):
    raise ValueError(
      f"{name}: class {c} ({class_names[c]}) has 1 image, and the set has no "
      "test part: testing needs one image of each class and training another."
      " Give it more, leave the class out, or bring a test part of your own."
    )


def _unread(
  kind: str,
  path: str,
  root: str,
  data_dir: str | None,
  columns: Mapping[str, str] | None,
  group_by: str,
  unlabeled: bool,
) -> contents.Found:
  """Finds the pictures of a set, unread."""
  if kind == "folder":
    return folders.find_classes(path, unlabeled=unlabeled, group_by=group_by)
  if kind == "csv":
    return tables.read_set(path, root, columns=columns, group_by=group_by)
  if kind == "arrayrecord":
    return record_labels.read_set(path, data_dir)
  found = lists.read_set(path, root)
  if group_by:
    base = lists.base(path, root)
    found = grouping.by_path(found, group_by, base, f"{kind}:{path}")
  return found


def _some(part: np.ndarray | host_images.HostImages) -> np.ndarray:
  """All images of an array, some of those that are to be read."""
  if isinstance(part, np.ndarray):
    return part
  count = min(_SAMPLE, len(part))
  return part.read(np.arange(count) * len(part) // count)


def _unknown(name: str) -> str:
  near = difflib.get_close_matches(name, _NAMED, 1)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  forms = [f"{kind}:{argument}" for kind, argument in _WITH_PATH.items()]
  return (
    f"Unknown image set {name!r}.{hint} Known: {', '.join([*_NAMED, *forms])}."
  )
