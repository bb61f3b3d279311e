"""TFDS sets, read without TensorFlow.

`tfds.data_source` gives random access to sets prepared in the array_record
format and decodes pictures with Pillow. Only preparing needs TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ltjax.data.download import prepare
from ltjax.data.files import images
from ltjax.data.parts import arrays, contents

_TEST_SPLITS = ("test", "validation")  # The first that exists.


def read(
  name: str, *, data_dir: str | None, image_size: int | None
) -> contents.Read:
  """Reads a TFDS image classification set; prepares it if it is missing.

  Args:
    name: TFDS name, with a config and version if wanted: `emnist/letters`.
    data_dir: The data folder; the set lies in its `tfds` sub-folder.
    image_size: Resize to this square; None if all images have one size.

  Returns:
    Train part, test part (split `test`, else `validation`) or None, names.

  Raises:
    FileNotFoundError: It is missing and cannot be prepared.
    ValueError: Unknown, not an image classification set, or mixed sizes.
  """
  import tensorflow_datasets as tfds

  builder = prepare.tfds_builder(name, data_dir)
  features = builder.info.features
  keys = builder.info.supervised_keys
  if not (
    keys
    and isinstance(features[keys[0]], tfds.features.Image)
    and isinstance(features[keys[1]], tfds.features.ClassLabel)
  ):
    raise ValueError(
      f"tfds:{name} is not an image classification set: it is supervised by "
      f"{keys}."
    )
  try:
    train = builder.as_data_source("train")
  except Exception:  # TFDS says "not prepared" in many ways.
    prepare.prepare(f"tfds:{name}", data_dir)
    builder = prepare.tfds_builder(name, data_dir)
    train = builder.as_data_source("train")
  label = features[keys[1]]
  rest = _part(train, keys, name, image_size, label.num_classes)
  splits = set(builder.info.splits) or set(_TEST_SPLITS)
  split = next((s for s in _TEST_SPLITS if s in splits), None)
  test = None
  if split is not None:
    source = builder.as_data_source(split)
    test = _part(source, keys, name, image_size, label.num_classes)
  return contents.Content(rest, test, tuple(map(str, label.names)))


def _part(
  source: Any,
  keys: tuple[str, str],
  name: str,
  image_size: int | None,
  num_classes: int,
) -> contents.Part:
  """Decodes one split."""
  pixels, labels = [], []
  for i in range(len(source)):
    example = source[i]
    one = np.asarray(example[keys[0]])[None]
    one = images.resize(arrays.check_images(one, f"tfds:{name}"), image_size)[0]
    pixels.append(one)
    labels.append(int(example[keys[1]]))
    if one.shape != pixels[0].shape:
      raise ValueError(
        f"tfds:{name}: image {i} is {one.shape}, image 0 {pixels[0].shape}. "
        "Set image_size to resize all to one square."
      )
  truth = arrays.check_labels(
    np.asarray(labels, np.int64),
    f"tfds:{name}: labels",
    num_images=len(pixels),
    num_classes=num_classes,
  )
  return contents.Part(np.stack(pixels), truth)
