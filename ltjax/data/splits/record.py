"""The record of a split: which images a run may see, and how it came to that.

It is saved beside every run. Its hash says whether two runs saw the same data,
and its fingerprint whether the data at hand is the data it was made from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile

import numpy as np

_FORMAT = "ltjax-split-1"
_COUNTED = ("labeled", "unlabeled", "validation", "probe")
_INDICES = (*_COUNTED, "irrelevant")
# Fields that came later: written only where they say something, so that splits
# made before keep their hash.
_LATER = ("irrelevant", "probe", "probe_counts")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Indices of the labeled, unlabeled and validation images, and their origin.

  Two splits are the same if their `hash` is.

  Attributes:
    labeled: `[N]` int64, sorted, into the training set; read-only.
    unlabeled: `[M]` int64, sorted, into the training set or the pool.
    validation: `[V]` int64, sorted, into the training set.
    labeled_counts: `[C]` labeled images per class.
    unlabeled_counts: `[C]`, or empty where the truth is not known.
    validation_counts: `[C]`.
    unlabeled_from: `train` or `pool`: what `unlabeled` points into.
    arguments: of `draw.build`, as JSON values;
      `draw.build(labels, **split.arguments)` makes the split again.
    fingerprint: SHA-256 of the labels it was built from.
    irrelevant: `[K]` int64, sorted, into the images of other classes that are
      mixed into the unlabeled ones, behind them. This and the next fields are
      written only where there are some; older records lack them.
    probe: `[P]` int64, sorted, into the training set: labeled images for
      evaluation alone, which may be those of the other parts.
    probe_counts: `[C]`, or empty where there are none.
  """

  labeled: np.ndarray
  unlabeled: np.ndarray
  validation: np.ndarray
  labeled_counts: tuple[int, ...]
  unlabeled_counts: tuple[int, ...]
  validation_counts: tuple[int, ...]
  unlabeled_from: str
  arguments: dict
  fingerprint: str
  irrelevant: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )
  probe: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )
  probe_counts: tuple[int, ...] = ()

  def __post_init__(self):
    for name in _INDICES:
      indices = np.array(getattr(self, name), np.int64)  # a copy of our own
      indices.setflags(write=False)
      object.__setattr__(self, name, indices)
    for name in _COUNTED:
      field = f"{name}_counts"
      object.__setattr__(self, field, tuple(map(int, getattr(self, field))))
    object.__setattr__(self, "arguments", _json_values(self.arguments))

  @property
  def hash(self) -> str:
    """SHA-256 over every field that is written, as hexadecimal."""
    return _digest(self._fields())

  def _fields(self) -> dict:
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    fields |= {name: fields[name].tolist() for name in _INDICES}
    return {k: v for k, v in fields.items() if k not in _LATER or v}

  def save(self, path: str | os.PathLike) -> None:
    """Writes the record as JSON, whole or not at all, over an older one."""
    path = pathlib.Path(path)
    record = {"format": _FORMAT, "hash": self.hash, **self._fields()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
      with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
      os.chmod(temporary, 0o644)  # mkstemp makes it private
      os.replace(temporary, path)
    except BaseException:
      pathlib.Path(temporary).unlink(missing_ok=True)
      raise

  @classmethod
  def load(cls, path: str | os.PathLike) -> Split:
    """Reads a record and makes sure that it is the one that was written.

    Raises:
      FileNotFoundError: No such file.
      ValueError: It is damaged, was changed by hand or is something else.
    """
    way_out = "restore it from a copy, or delete it to have it made again"
    try:
      text = pathlib.Path(path).read_text(encoding="utf-8")
      record = json.loads(text)
    except FileNotFoundError:
      raise FileNotFoundError(
        f"there is no split file {path}: name the split.json of a run, or leave"
        " data.split_file empty to have a split made"
      ) from None
    except (ValueError, RecursionError) as error:  # JSON, Unicode
      raise ValueError(
        f"split file {path} is damaged ({error}): {way_out}"
      ) from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
      raise ValueError(f"{path} is not a split file ({_FORMAT})")
    fields = {k: v for k, v in record.items() if k not in ("format", "hash")}
    names = {f.name for f in dataclasses.fields(cls)}
    whole = set(fields) | set(_LATER) == names
    if not whole or _digest(fields) != record.get("hash"):
      raise ValueError(
        f"split file {path} was changed after it was written (its hash does "
        f"not match): {way_out}"
      )
    try:
      return cls(**fields)
    except (TypeError, ValueError, OverflowError) as error:
      raise ValueError(
        f"split file {path} is damaged ({error}): {way_out}"
      ) from None


def check(
  split: Split,
  labels: np.ndarray,
  pool_labels: np.ndarray | None = None,
  irrelevant_labels: np.ndarray | None = None,
) -> None:
  """Raises a ValueError if a split was built from other data.

  Args:
    split: For instance a loaded one.
    labels, pool_labels, irrelevant_labels: as of `draw.build`.
  """
  others = None
  if len(split.irrelevant):
    if irrelevant_labels is None:
      came_from = split.arguments.get("unlabeled", {}).get("irrelevant")
      raise ValueError(
        f"the split has {len(split.irrelevant)} irrelevant images: set "
        f"data.unlabeled.irrelevant to where they came from ({came_from!r})"
      )
    others = irrelevant_labels
  here = fingerprint(labels, pool_labels, others)
  if here != split.fingerprint:
    parts = {"training": labels, "pool": pool_labels, "irrelevant": others}
    sizes = [f"{len(p)} {k} labels" for k, p in parts.items() if p is not None]
    raise ValueError(
      "the split was made from other data: its fingerprint is "
      f"{split.fingerprint[:12]}, that of the {' and '.join(sizes)} here is "
      f"{here[:12]}; use the data it was made from, or a new workdir"
    )


def fingerprint(
  labels: np.ndarray,
  pool: np.ndarray | None,
  irrelevant: np.ndarray | None = None,
) -> str:
  """SHA-256 of the labels of a training set, a pool and irrelevant images.

  Args:
    labels, pool, irrelevant: integers of any dtype; None for no such set.
  """
  digest = hashlib.sha256()
  for name, part in (("", labels), ("", pool), ("irrelevant:", irrelevant)):
    if part is not None:
      digest.update(f"{name}{len(part)}:".encode())
      digest.update(np.ascontiguousarray(part, "<i8").tobytes())
  return digest.hexdigest()


def _json_values(value):
  return json.loads(json.dumps(value, allow_nan=False))


def _digest(fields: dict) -> str:
  text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()
