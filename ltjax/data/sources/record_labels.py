"""The labels of ArrayRecord shards, known without reading their pictures.

They are kept in a file beside the shards, `ltjax_labels.json`:

    {"format": "ltjax-labels-1", "classes": ["cat", "dog"],
     "shards": {"train-00000-of-00008.array_record":
       {"bytes": 91312, "labels": [0, 0, 1]}}}

`records` writes it with the shards. Shards from elsewhere are read once and the
file is written then; into the data folder, where that of the shards is
read-only. A shard of another size or number of records is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np

from ltjax.data.download import prepare
from ltjax.data.files import array_records
from ltjax.data.parts import arrays, contents

NAME = "ltjax_labels.json"
_FORMAT = "ltjax-labels-1"
_TFDS_CLASSES = "label.labels.txt"
_MOST_CLASSES = 1_000_000


def read_set(path: str, data_dir: str | None = None) -> contents.Found:
  """Finds the records of a labeled set, their pictures unread.

  `path` is as of `array_records.find`, as are errors; a record without a label
  is a ValueError. The test part is `test` or, where its labels are not public,
  `validation`, or None; class names are the numbers where nothing tells them.
  """
  parts = array_records.find(path)
  train, test = _listed(parts["train"], data_dir), None
  for name in ("test", "validation"):
    if test is None and name in parts:
      found = _listed(parts[name], data_dir)
      test = None if (found.labels < 0).all() else found
  for part in filter(None, (train, test)):
    without = np.flatnonzero(part.labels < 0)
    if len(without):
      raise ValueError(
        f"{part.files[int(without[0])]}: it has no label, and neither have"
        f" {len(without) - 1} others; a labeled set needs the feature label."
      )
  highest = max(int(part.labels.max()) for part in (train, test) if part)
  names = _classes(parts["train"][0].parent, data_dir)
  if not names:
    names = tuple(map(str, range(min(highest + 1, _MOST_CLASSES))))
  for part in filter(None, (train, test)):
    arrays.check_labels(
      part.labels,
      f"{path}: labels",
      num_images=len(part.files),
      num_classes=len(names),
    )
  return contents.Content(train, test, names)


def read_pool(path: str, data_dir: str | None = None) -> contents.Listed:
  """Finds the records of an unlabeled pool; of one with parts, its `train`."""
  return _listed(array_records.find(path)["train"], data_dir)


def write(
  folder: pathlib.Path, classes: Sequence[str], shards: dict[str, Any]
) -> None:
  """Writes the file, so that a reader sees it whole or not at all.

  Args:
    folder: where; it must exist.
    classes: names, or none if nothing tells them.
    shards: `bytes` and `labels` of each shard, by its name.
  """
  content = {"format": _FORMAT, "classes": list(classes), "shards": shards}
  handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{NAME}")
  try:
    with os.fdopen(handle, "w", encoding="utf-8") as out:
      json.dump(content, out)
    os.chmod(temporary, 0o644)
    os.replace(temporary, folder / NAME)
  finally:
    pathlib.Path(temporary).unlink(missing_ok=True)


def _listed(
  shards: Sequence[pathlib.Path], data_dir: str | None
) -> contents.Listed:
  """Returns records and labels of shards, from the files or read once."""
  labels = {}
  for folder in dict.fromkeys(shard.parent for shard in shards):
    here = [shard for shard in shards if shard.parent == folder]
    labels.update(_labels(folder, here, data_dir))
  counts = [len(labels[shard]) for shard in shards]
  joined = np.concatenate([labels[shard] for shard in shards])
  return contents.Listed(array_records.Records(shards, counts), joined)


def _labels(
  folder: pathlib.Path, shards: list[pathlib.Path], data_dir: str | None
) -> dict[pathlib.Path, np.ndarray]:
  """Returns the labels of the shards of one folder."""
  known = _read(folder, data_dir)
  entries = dict(known.get("shards", {}))
  numbers = {shard: array_records.count(shard) for shard in shards}
  sizes = {shard: shard.stat().st_size for shard in shards}

  def is_known(shard: pathlib.Path) -> bool:
    entry = entries.get(shard.name, {"bytes": -1, "labels": ()})
    size, number = entry["bytes"], len(entry["labels"])
    return (size, number) == (sizes[shard], numbers[shard])

  new = [shard for shard in shards if not is_known(shard)]
  if new:
    print(f"Reading the labels of {len(new)} shards, once.", file=sys.stderr)
  for shard in new:
    records = array_records.Records([shard], [numbers[shard]])
    found = [record.label() for record in records]
    entries[shard.name] = {"bytes": sizes[shard], "labels": found}
  if new:
    classes = known.get("classes", ())
    try:
      write(folder, classes, entries)
    except OSError:  # A read-only folder, or a full disk: elsewhere, or not.
      with contextlib.suppress(OSError):
        elsewhere = _elsewhere(folder, data_dir)
        elsewhere.mkdir(parents=True, exist_ok=True)
        write(elsewhere, classes, entries)
  return {
    shard: np.asarray(entries[shard.name]["labels"], np.int32)
    for shard in shards
  }


def _read(folder: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
  """Returns what is known of a folder; nothing, if no file tells."""
  for place in (folder, _elsewhere(folder, data_dir)):
    file = place / NAME
    if not file.is_file():
      continue
    try:
      content = json.loads(file.read_text(encoding="utf-8"))
      if content["format"] != _FORMAT:
        raise ValueError(f"its format is {content['format']!r}")
      classes, shards = list(content["classes"]), dict(content["shards"])
      for entry in shards.values():
        np.asarray(entry["labels"], np.int32).reshape(int(len(entry["labels"])))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
      raise ValueError(
        f"{file}: damaged, or of another version ({error}). Remove it: the"
        " labels are then read from the records."
      ) from None
    return {"classes": classes, "shards": shards}
  return {}


def _classes(folder: pathlib.Path, data_dir: str | None) -> tuple[str, ...]:
  """Returns the class names that the index or TFDS left, if any."""
  names = _read(folder, data_dir).get("classes")
  file = folder / (NAME if names else _TFDS_CLASSES)
  if not names and file.is_file():
    names = file.read_text(encoding="utf-8").splitlines()
  return arrays.class_names(names, str(file)) if names else ()


def _elsewhere(folder: pathlib.Path, data_dir: str | None) -> pathlib.Path:
  digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
  return prepare.data_folder(data_dir) / "array_record" / digest
