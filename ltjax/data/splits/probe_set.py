"""The probe set: labeled images that judge an embedding, and never train it.

An embedding learned without labels is judged by a linear classifier, which the
field trains on *balanced* labels: on all training images but those for
validation, in SDCLR (Jiang et al. 2021) 45,000 of CIFAR-10 and 400 of each
class of CIFAR-100. These are labels of unlabeled images too, so that only an
evaluation may see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from ltjax.data.splits import generators, index_files, record, settings


def add(
  split: record.Split,
  labels: np.ndarray,
  wanted: Mapping,
  *,
  class_names: Sequence[str],
) -> record.Split:
  """Adds a probe set to a split.

  Args:
    split: Without a probe set; it stays so if `images` is `none`.
    labels: `[N]` integers, the classes of the training images.
    wanted: `images`: `none`, or `train` for all training images that are not
      for validation; of each class `per_class` of them, drawn with the split's
      seed, if that is above 0; or those of `index_file`.
    class_names: `[C]`, for messages.

  Raises:
    FileNotFoundError: There is no such index file.
    ValueError: A setting is wrong, a class has too few images, or the file has
      images of the validation set.
  """
  block = settings.complete("probe", wanted, settings.PROBE)
  if block["images"] == "none":
    for key in ("per_class", "index_file"):
      if block[key]:
        raise ValueError(
          f"data.probe.{key} is {block[key]!r} but data.probe.images is "
          "'none': set data.probe.images to 'train'"
        )
    return split
  names = tuple(class_names)
  free = np.ones(len(labels), bool)
  free[split.validation] = False
  if block["index_file"]:
    chosen = _of_file(block, labels, free, names)
  elif block["per_class"]:
    chosen = _of_each_class(split, block["per_class"], labels, free, names)
  else:
    chosen = np.flatnonzero(free)
  counts = np.bincount(labels[chosen], minlength=len(names))
  return dataclasses.replace(
    split,
    probe=chosen,
    probe_counts=tuple(counts.tolist()),
    arguments=split.arguments | {"probe": settings.recorded(block)},
  )


def _of_file(
  block: settings.Settings,
  labels: np.ndarray,
  free: np.ndarray,
  names: tuple[str, ...],
) -> np.ndarray:
  field = "data.probe.index_file"
  chosen = index_files.read(
    block["index_file"], field, labels=labels, names=names
  )
  held_out = chosen[~free[chosen]]
  if len(held_out):
    raise ValueError(
      f"{field} {block['index_file']!r}: {len(held_out)} of its images are "
      f"for validation, such as {held_out[0]}; name the validation images it "
      "goes with in data.validation.index_file, or hold none out"
    )
  return chosen


def _of_each_class(
  split: record.Split,
  count: int,
  labels: np.ndarray,
  free: np.ndarray,
  names: tuple[str, ...],
) -> np.ndarray:
  have = np.bincount(labels[free], minlength=len(names))
  for c in np.flatnonzero(have < count):
    raise ValueError(
      f"class {c} ({names[c]}) runs out of probe images: data.probe.per_class "
      f"is {count}, and it has {have[c]} training images beside those for "
      f"validation; lower data.probe.per_class to {have.min()}, or to 0 for "
      "all images"
    )
  order, seed = split.arguments["order"], split.arguments["seed"]
  parts = []
  for c in range(len(names)):
    # Other numbers than those of the labeled set: a small probe set must not
    # consist of images that the embedding was trained on.
    images = generators.of_class(labels, c, order=order, seed=[seed, c, 2])
    parts.append(images[free[images]][:count])
  return np.sort(np.concatenate(parts))
