"""Checks and splits on the arrays of an image set.

Everything a user hands in passes here once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ltjax import require


def check_images(images: np.ndarray, where: str) -> np.ndarray:
  """Returns images as uint8 `[N, H, W, C]`, greyscale `[N, H, W]` with `C` 1.

  `where` names file and array in errors, ValueErrors for another dtype (NaN
  pixels are named) or another shape.
  """
  if images.dtype.kind == "f":
    bad = np.isnan(images)
    if bad.any():
      first = int(np.argwhere(bad)[0][0]) if images.ndim else 0
      raise ValueError(
        f"{where}: {int(bad.sum())} pixels are NaN, the first in image "
        f"{first}. Repair or remove such images; pixels must be uint8."
      )
  if images.dtype != np.uint8:
    raise ValueError(
      f"{where}: pixels are {images.dtype}; they must be uint8, 0 ... 255. "
      "For floats in [0, 1] save np.round(x * 255).astype(np.uint8)."
    )
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
    raise ValueError(
      f"{where}: shape {images.shape}; images must be [N, H, W], [N, H, W, 1] "
      "or [N, H, W, 3]."
    )
  return images


def check_labels(
  labels: Any,
  where: str,
  *,
  num_images: int,
  num_classes: int | None = None,
  minimum: int = 0,
) -> np.ndarray:
  """Returns labels as int32 `[N]`.

  Args:
    labels: Integers `[N]`; an array, or a list as in the CIFAR pickles.
    where: File and array, for errors.
    num_images: The `N` it has to match.
    num_classes: Labels must be below it; None for any.
    minimum: Smallest label; -1 where unknown truth is allowed.

  Raises:
    ValueError: Not integers, out of range, or not one per image.
  """
  try:
    labels = np.asarray(labels)
  except ValueError:  # A ragged list.
    labels = np.empty((), object)
  if labels.dtype.kind not in "iu" and labels.size:
    raise ValueError(
      f"{where}: labels are {labels.dtype}, not integers. Save class numbers "
      "0 ... C-1, for example y.astype(np.int64)."
    )
  if labels.shape != (num_images,):
    raise ValueError(
      f"{where}: labels have shape {labels.shape}, but there are {num_images} "
      f"images; it must be ({num_images},)."
    )
  top = np.iinfo(np.int32).max if num_classes is None else num_classes - 1
  bad = np.flatnonzero((labels < minimum) | (labels > top))
  if len(bad):
    raise ValueError(
      f"{where}: label {labels[bad[0]]} of image {bad[0]} is out of range; "
      f"labels must be {minimum} ... {top} ({len(bad)} are not)."
    )
  return labels.astype(np.int32)


def class_names(names: Any, where: str) -> tuple[str, ...]:
  """Returns names found in a file, texts or bytes (CIFAR), as distinct texts.

  Raises a ValueError for no texts, or if one occurs twice.
  """
  texts = [
    name.decode("utf8", "replace") if isinstance(name, bytes) else name
    for name in (names if names is not None else ())
  ]
  if not texts or not all(isinstance(text, str) for text in texts):
    raise ValueError(f"{where}: class names must be a list of texts.")
  if len(set(texts)) != len(texts):
    raise ValueError(f"{where}: a class name occurs twice.")
  return tuple(map(str, texts))


def stratified_test(
  labels: np.ndarray, fraction: float, *, seed: int
) -> np.ndarray:
  """Chooses a test part with the same share of every class: bool `[N]`.

  Each class gives `round(fraction * n)` images, at least 1 if it has 2 or more,
  and never all of them.

  Args:
    labels: int `[N]`.
    fraction: In [0, 1), else a ValueError; 0 chooses nothing.
    seed: Chooses which images.
  """
  require.within("test_fraction", fraction, "[0, 1)")
  test = np.zeros(len(labels), bool)
  if fraction == 0:
    return test
  for label in np.unique(labels):
    members = np.flatnonzero(labels == label)
    count = max(round(fraction * len(members)), 1)
    count = min(count, len(members) - 1)
    generator = np.random.default_rng([seed, int(label)])
    test[generator.permutation(members)[:count]] = True
  return test


def moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns the channels' `(mean, std)` of uint8 `[N, H, W, C]`, in [0, 1].

  Exact integer sums make it independent of the order of the images. A channel
  of one brightness gets std 1, so that normalising by it is safe.
  """
  values = np.arange(256) / 255.0
  means, stds = [], []
  for channel in range(images.shape[3]):
    counts = np.bincount(images[..., channel].ravel(), minlength=256)
    share = counts / max(counts.sum(), 1)
    mean = float(share @ values)
    std = float(np.sqrt(share @ (values - mean) ** 2))
    means.append(mean)
    stds.append(std if std > 1e-6 else 1.0)
  return tuple(means), tuple(stds)
