"""What a reader finds where a set lies: its parts, and what goes with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ltjax.data.files import decoding as decodings
from ltjax.data.host import host_images

Images = np.ndarray | host_images.HostImages


class Part(NamedTuple):
  """Images, uint8 `[N, H, W, C]`, and their labels, int32 `[N]`."""

  images: Images
  labels: np.ndarray


class Listed(NamedTuple):
  """Pictures yet to be read, and labels, int32 `[N]`; -1 where there is none.

  Files are paths, or records of ArrayRecord files.
  """

  files: Any
  labels: np.ndarray


_Kind = TypeVar("_Kind")


class Content(NamedTuple, Generic[_Kind]):
  """A set as it lies on a disk or in memory, of `Part`s or, unread, `Listed`.

  Attributes:
    train: the images to draw a split from.
    test: those to test on; None where a share of `train` has to be held out.
    names: a name a class.
    validation: images to choose by; None where they are drawn from `train`.
    unlabeled: images or files without a label: `data.unlabeled.source=found`.
    groups: int32 `[N]`, a number for each image of `train`: images of one
      group, such as a patient's, stay on one side of every split.
    unlabeled_groups: the same of each unlabeled image, -1 for none; None where
      they are not known.
    understood: what was made of the files, to be read before training.
    decoding: how pictures were decoded, where a range was found in them.
  """

  train: _Kind
  test: _Kind | None
  names: tuple[str, ...]
  validation: _Kind | None = None
  unlabeled: Any = None
  groups: np.ndarray | None = None
  unlabeled_groups: np.ndarray | None = None
  understood: str = ""
  decoding: decodings.Decoding | None = None


Read = Content[Part]
Found = Content[Listed]


def opened(found: Found, read: Callable[[Any], Images]) -> Read:
  """Returns a set that was found with its pictures read.

  Args:
    found: the set.
    read: from files to images; called once for each part that there is.
  """

  def part(listed: Listed | None) -> Any:
    return listed and Part(read(listed.files), listed.labels)

  return Content(
    part(found.train),
    part(found.test),
    found.names,
    validation=part(found.validation),
    unlabeled=found.unlabeled and read(found.unlabeled),
    groups=found.groups,
    unlabeled_groups=found.unlabeled_groups,
    understood=found.understood,
    decoding=found.decoding,
  )
