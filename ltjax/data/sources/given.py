"""Arrays that a program hands over, where a config names a source.

They are named by their content: `arrays:KIND:DIGEST` stands in
`config.data.source`, so that a run goes on with the arrays it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import hashlib
from typing import Any

import numpy as np

from ltjax.data.parts import arrays, contents, group_by
from ltjax.data.sources import unlabeled as pools

# What labels may be: class numbers, or names.
NUMBERS, NAMES = "numbers", "names"


@dataclasses.dataclass(frozen=True)
class Given:
  """A set, and perhaps unlabeled images, in host memory.

  Attributes:
    content: train part, test part or None, class names.
    pool: the unlabeled images; None for none.
    kind: `NAMES` if classes are told by name, else `NUMBERS`.
  """

  content: contents.Read
  pool: pools.Pool | None
  kind: str

  @property
  def source(self) -> str:
    """What `config.data.source` calls the set."""
    train, test, names = self.content[:3]
    found = [*train, *(test or ()), np.array(names)]
    if self.content.groups is not None:
      found.append(self.content.groups)
    return f"arrays:{self.kind}:{_digest(found)}"

  @property
  def pool_source(self) -> str:
    """What `config.data.unlabeled.source` calls the pool; there is one."""
    assert self.pool is not None
    return f"arrays:{_digest([self.pool.images, self.pool.labels])}"


def make(
  images: Any,
  labels: Any,
  *,
  unlabeled: Any = None,
  test: tuple[Any, Any] | None = None,
  class_names: Sequence[str] | None = None,
  groups: Any = None,
) -> Given:
  """Checks arrays, and puts them in the form that all readers give.

  Args:
    images: uint8 `[N, H, W, C]` or `[N, H, W]`, N of 1 or more.
    labels: `[N]`, integers from 0 or names.
    unlabeled: uint8 `[M, H, W, C]`; or a pair of these and `[M]` labels, -1
      where unknown, which serve diagnostics; None for none.
    test: images and labels; None for none.
    class_names: a name a class, in the order of the class numbers; None for
      those that occur in `labels`, in alphabetic order, or numbers.
    groups: `[N]` integers or texts; images of one group stay on one side of
      every split of `images`. None for no groups.

  Raises:
    ValueError: Another dtype or shape, NaN, labels that do not go with images
      or names, fewer than 2 classes, or parts of different image shapes.
  """
  pixels = check_images(images, "images")
  if not len(pixels):
    raise ValueError("images: there are none; fit needs some of each class.")
  named = class_names is not None or _is_text(np.asarray(labels))
  names = _names(labels, class_names)
  train = contents.Part(pixels, numbers(labels, names, "labels", len(pixels)))
  if len(names) < 2:
    raise ValueError(
      f"labels: there is {len(names)} class ({', '.join(names)}); a classifier"
      " needs 2 or more."
    )
  held, pool = None, None
  if test is not None:
    seen = check_images(*_pair(test, "test")[:1], "test images", pixels.shape)
    held = contents.Part(
      seen, numbers(test[1], names, "test labels", len(seen))
    )
  if unlabeled is not None:
    truth = None
    if isinstance(unlabeled, tuple):
      unlabeled, truth = _pair(unlabeled, "unlabeled")
    seen = check_images(unlabeled, "unlabeled images", pixels.shape)
    if not len(seen):
      raise ValueError("unlabeled: there are none; leave unlabeled out.")
    known = np.full(len(seen), -1, np.int32)
    if truth is not None:
      known = arrays.check_labels(
        truth,
        "unlabeled labels",
        num_images=len(seen),
        num_classes=len(names),
        minimum=-1,
      )
    pool = pools.Pool(seen, known)
  content = contents.Content(train, held, names)
  if groups is not None:
    of_each = np.asarray(groups)
    group_by.check_array(of_each, len(pixels), "groups")
    content = group_by.add(
      content, of_each.tolist(), {}, how="the argument groups", where="groups"
    )
  return Given(content, pool, NAMES if named else NUMBERS)


def check_images(
  images: Any, where: str, like: Sequence[int] | None = None
) -> np.ndarray:
  """As `arrays.check_images`, for arrays at hand.

  Args:
    images: uint8 `[N, H, W, C]` or `[N, H, W]`, else a ValueError.
    where: what to call them in errors.
    like: a shape whose last three sizes they must have; None for any.
  """
  pixels = arrays.check_images(np.asarray(images), where)
  if like is not None and pixels.shape[1:] != tuple(like[-3:]):
    raise ValueError(
      f"{where}: they are {pixels.shape[1:]}, and the images that the network"
      f" learns from {tuple(like[-3:])}; bring them to that size (an image"
      " alone is image[None])."
    )
  return pixels


def numbers(
  labels: Any, names: Sequence[str], where: str, num_images: int
) -> np.ndarray:
  """Returns labels as class numbers, int32 `[N]`.

  Args:
    labels: `[N]`, class numbers or names; others are a ValueError.
    names: one a class.
    where: what to call them in errors.
    num_images: N.
  """
  found = np.asarray(labels)
  if _is_text(found):
    number = {name: c for c, name in enumerate(names)}
    for i, name in enumerate(found.ravel().tolist()):
      if name not in number:
        some = ", ".join(map(repr, names[:10])) + ", ..." * (len(names) > 10)
        raise ValueError(
          f"{where}: {name!r} of image {i} is none of the {len(names)} classes"
          f" {some}."
        )
    listed = [number[name] for name in found.ravel().tolist()]
    found = np.array(listed, np.int32).reshape(found.shape)
  return arrays.check_labels(
    found, where, num_images=num_images, num_classes=len(names)
  )


def _names(labels: Any, given: Sequence[str] | None) -> tuple[str, ...]:
  """The names of the classes."""
  if given is not None:
    return arrays.class_names(np.asarray(given).tolist(), "class_names")
  found = np.asarray(labels)
  if _is_text(found):
    return tuple(sorted(set(found.ravel().tolist())))
  found = arrays.check_labels(found, "labels", num_images=np.size(found))
  there = np.unique(found)
  gaps = np.flatnonzero(there != np.arange(len(there)))
  if len(gaps):
    raise ValueError(
      f"labels: class {gaps[0]} has no image, but class {there[-1]} has: class"
      " numbers must be 0 ... C-1, as np.unique(labels, return_inverse=True)[1]"
      " makes them."
    )
  return tuple(map(str, there.tolist()))


def _is_text(labels: np.ndarray) -> bool:
  if labels.dtype.kind == "O":
    return all(isinstance(x, str) for x in labels.ravel().tolist())
  return labels.dtype.kind == "U"


def _pair(given: Any, where: str) -> tuple[Any, Any]:
  if not isinstance(given, tuple | list) or len(given) != 2:
    raise ValueError(f"{where} must be a pair, (images, labels).")
  return given[0], given[1]


def _digest(found: Sequence[Any]) -> str:
  """SHA-256 of arrays, shapes included; 64 bits tell runs apart."""
  sha = hashlib.sha256()
  for array in found:
    sha.update(f"{array.dtype}{array.shape}".encode())
    sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return sha.hexdigest()[:16]
