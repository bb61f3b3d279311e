"""Street View House Numbers: MATLAB files of digits cut from photographs.

    train_32x32.mat   73,257 images        X  uint8 [32, 32, 3, N]
    test_32x32.mat    26,032               y  [N, 1], 1 ... 9, and 10 for "0"
    extra_32x32.mat   531,131 easier ones, in use as unlabeled images

Here digit `d` is class `d`: label 10 becomes 0. Code that counts from the
files' order has a long tail from 1 down to 0, as has
`data.labeled.class_order = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)`.
"""

from __future__ import annotations

import pathlib

import numpy as np

from ltjax.data.download import prepare
from ltjax.data.parts import arrays, contents


def read(data_dir: str | None = None) -> contents.Read:
  """Reads train uint8 `[73257, 32, 32, 3]`, test `[26032, ...]`, and names.

  Fetches the set if it is missing; raises as `official.read_cifar`.
  """
  folder = prepare.prepare("svhn", data_dir)
  train, test = (
    _labeled(folder / f"{part}_32x32.mat") for part in ("train", "test")
  )
  if train[0].shape[1:] != test[0].shape[1:]:
    raise ValueError(
      f"{folder}: train images are {train[0].shape[1:]}, test images "
      f"{test[0].shape[1:]}; they must have one shape."
    )
  return contents.Content(train, test, tuple(map(str, range(10))))


def read_mat(path: str | pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
  """Reads a .mat file of the layout of SVHN.

  Returns uint8 `[N, H, W, C]`, and classes int32 `[N]`, None without a `y`.
  Raises a ValueError for another layout or a damaged file.
  """
  found = _numbers(path, ("X", "y"))
  if "X" not in found:
    raise ValueError(
      f"{path}: no array 'X'; SVHN's layout is X uint8 [H, W, C, N] and y "
      "[N, 1]."
    )
  x = found["X"]
  if x.dtype != np.uint8 or x.ndim != 4 or x.shape[2] not in (1, 3):
    raise ValueError(
      f"{path}: X is {x.dtype} {x.shape}; SVHN's layout is uint8 [H, W, C, N] "
      "with 1 or 3 channels."
    )
  pixels = np.ascontiguousarray(x.transpose(3, 0, 1, 2))
  pixels = arrays.check_images(pixels, f"{path}: X")
  if "y" not in found:
    return pixels, None
  labels = found["y"].ravel()
  if len(labels) != len(pixels):
    raise ValueError(
      f"{path}: y has {len(labels)} labels for {len(pixels)} images; it must "
      "have one an image."
    )
  wrong = np.flatnonzero(~np.isin(labels, np.arange(1, 11)))
  if len(wrong):
    raise ValueError(
      f"{path}: label {labels[wrong[0]]} of image {wrong[0]}; SVHN's labels "
      "are 1 ... 10, and 10 is the digit 0."
    )
  return pixels, labels.astype(np.int32) % 10


def _numbers(
  path: str | pathlib.Path, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
  """Returns the arrays of a .mat file that are there, all of real numbers."""
  from scipy import io

  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{path}: no such file.")
  try:
    content = io.loadmat(path, variable_names=names)
  except Exception as error:  # Of whatever kind the bytes lead to.
    raise ValueError(
      f"{path}: not a whole .mat file ({error}). Fetch it again, or save it "
      "with -v7 as plain numbers."
    ) from None
  found = {name: content[name] for name in names if name in content}
  for name, array in found.items():
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
      raise ValueError(f"{path}: {name} is not an array of real numbers.")
  return found


def _labeled(path: pathlib.Path) -> contents.Part:
  pixels, labels = read_mat(path)
  if labels is None:
    raise ValueError(f"{path}: no array 'y', the labels 1 ... 10.")
  return contents.Part(pixels, labels)
