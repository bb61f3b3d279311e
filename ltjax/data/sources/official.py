"""The sets of the field, from their official files."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltjax.data.download import catalogue, prepare
from ltjax.data.files import archives, pickles
from ltjax.data.parts import arrays, contents
from ltjax.data.sources import packed

_DIGITS_TEST_PER_CLASS = 50


def read_digits() -> contents.Read:
  """Reads scikit-learn's digits; 50 images per class become the test part.

  The set has no official split: the test part is drawn with a fixed seed, and
  balanced. Train uint8 `[1297, 8, 8, 1]`, test `[500, 8, 8, 1]`; brightness 0
  ... 16 becomes 0 ... 255.
  """
  from sklearn import datasets

  bunch: Any = datasets.load_digits()
  pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = bunch.target.astype(np.int32)
  held = np.zeros(len(labels), bool)
  generator = np.random.default_rng(0)
  for label in range(10):
    members = generator.permutation(np.flatnonzero(labels == label))
    held[members[:_DIGITS_TEST_PER_CLASS]] = True
  train = contents.Part(pixels[~held], labels[~held])
  test = contents.Part(pixels[held], labels[held])
  return contents.Content(train, test, tuple(map(str, range(10))))


def read_cifar(name: str, data_dir: str | None = None) -> contents.Read:
  """Reads the official pickled batches, in a folder or the .tar.gz, or a pack.

  Args:
    name: `cifar10` or `cifar100` (the 100 fine classes).
    data_dir: The data folder; the set is fetched if it is not there.

  Returns:
    Train part, uint8 `[50000, 32, 32, 3]`, of a pack `PackedImages`; test part,
    `[10000, ...]`; names.

  Raises:
    FileNotFoundError: It is missing and cannot be fetched.
    ValueError: A batch is damaged, hostile, or not what it should be.
  """
  archive = catalogue.ARCHIVES[name]
  label_key, names_key = (
    ("labels", "label_names")
    if name == "cifar10"
    else ("fine_labels", "fine_label_names")
  )
  where = prepare.prepare(name, data_dir)
  if (where / packed.RECORD).is_file():
    return packed.read(where)
  members = [f"{archive.folder}/{member}" for member in archive.members]
  unpacked = archives.read_tar(where, members) if where.is_file() else {}

  def read(member: str) -> tuple[dict, str]:
    source = unpacked.get(f"{archive.folder}/{member}", where / member)
    title = f"{where}/{member}"
    return pickles.read_pickle(source, name=title), title

  meta, title = read(archive.meta)
  names = arrays.class_names(meta.get(names_key), f"{title}: {names_key}")

  def part(batches: tuple[str, ...]) -> contents.Part:
    pixels, labels = [], []
    for member in batches:
      batch, title = read(member)
      data = batch.get("data")
      if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.shape[1:] != (3072,)
      ):
        raise ValueError(f"{title}: 'data' must be uint8 [N, 3072].")
      pixels.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
      labels.append(
        arrays.check_labels(
          batch.get(label_key),
          f"{title}: {label_key}",
          num_images=len(data),
          num_classes=len(names),
        )
      )
    return contents.Part(np.concatenate(pixels), np.concatenate(labels))

  return contents.Content(part(archive.train), part(archive.test), names)


def read_idx(name: str, data_dir: str | None = None) -> contents.Read:
  """Reads the four idx files of `fashion_mnist` or `mnist`, fetched if missing.

  Train uint8 `[60000, 28, 28, 1]`, test `[10000, ...]`. Raises as `read_cifar`.
  """
  folder = prepare.prepare(name, data_dir)
  parts = []
  for stems in (catalogue.IDX_STEMS[:2], catalogue.IDX_STEMS[2:]):
    paths = [catalogue.idx_file(folder, stem) for stem in stems]
    pixels, labels = (archives.read_idx(path) for path in paths if path)
    if pixels.ndim != 3:
      raise ValueError(f"{paths[0]}: shape {pixels.shape}, not [N, H, W].")
    pixels = arrays.check_images(pixels, str(paths[0]))
    labels = arrays.check_labels(
      labels, str(paths[1]), num_images=len(pixels), num_classes=10
    )
    parts.append(contents.Part(pixels, labels))
  fashion = name == "fashion_mnist"
  names = catalogue.FASHION_NAMES if fashion else map(str, range(10))
  return contents.Content(parts[0], parts[1], tuple(names))
