"""Turns folders or lists of pictures into ArrayRecord files.

    python -m ltjax.data.records PICTURES OUT --shards=8

PICTURES is a folder of class folders (`PICTURES/CLASS/*.jpg`, or the same in
`train/` and `test/`, or `val/`), or `list:PATH` with --root=FOLDER, as
`data.source` of a config has it. OUT gets so many shards of each part, and
`ltjax_labels.json` with labels and class names. The bytes of the pictures are
copied as they are, in the order of the source, so that OUT as
`arrayrecord:OUT` trains to the same numbers as PICTURES: same images, numbers,
splits, pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import os
import pathlib
import sys
from typing import Any

import numpy as np

from ltjax.data.files import array_records, examples
from ltjax.data.sources import folders, lists, record_labels

_MOST_SHARDS = 99_999


def write(
  source: str | pathlib.Path,
  out: str | pathlib.Path,
  *,
  shards: int = 8,
  root: str = "",
  tell: Callable[[str], None] | None = None,
) -> dict[str, int]:
  """Writes the pictures of a source as ArrayRecord files.

  Args:
    source: a folder of class folders, or `list:PATH`.
    out: the folder of the shards; it is made.
    shards: files of each part; less where there are fewer pictures.
    root: the folder that the paths of a list start from.
    tell: gets what was made of a folder, and what of it is not written.

  Returns:
    How many pictures each part has.

  Raises:
    FileExistsError: if there are shards already.
    FileNotFoundError: if a folder, a list or a picture is missing.
    OSError: if `out` cannot be written.
    ValueError: if the source is damaged or has validation pictures beside test
      pictures, or `shards` is out of range.
  """
  if not 1 <= shards <= _MOST_SHARDS:
    raise ValueError(f"shards is {shards}; it must be 1 to {_MOST_SHARDS}.")
  kind, colon, path = str(source).partition(":")
  if kind == "list" and colon:
    found = lists.read_set(path, root)
  else:
    found = folders.find_classes(
      path if kind == "folder" and colon else source, unlabeled=False
    )
    if found.validation is not None:
      raise ValueError(
        f"{source} has validation and test pictures, and ArrayRecord files are"
        " for training and test pictures: move one of the two elsewhere."
      )
    if tell:
      tell(found.understood)
  out = pathlib.Path(out).expanduser()
  if out.is_dir() and any(out.glob("*.array_record*")):
    raise FileExistsError(f"{out} holds shards already; choose another folder.")
  out.mkdir(parents=True, exist_ok=True)
  parts: dict[str, Any] = {"train": found.train}
  if found.test:
    parts["test"] = found.test
  entries, counts, written = {}, {}, []
  try:
    for name, part in parts.items():
      number = min(shards, len(part.files))
      counts[name] = len(part.files)
      for i, chosen in enumerate(
        np.array_split(np.arange(len(part.files)), number)
      ):
        final = f"{name}-{i:05}-of-{number:05}.array_record"
        labels = [int(part.labels[j]) for j in chosen]
        files = [part.files[j] for j in chosen]
        written.append((out / f".{final}.partial", out / final))
        _write_shard(written[-1][0], files, labels)
        size = written[-1][0].stat().st_size
        entries[final] = {"bytes": size, "labels": labels}
    # Only a whole set appears under its names.
    for partial, final in written:
      os.replace(partial, final)
    record_labels.write(out, found.names, entries)
  finally:
    for partial, _ in written:
      partial.unlink(missing_ok=True)
  return counts


def _write_shard(
  path: pathlib.Path, files: list[pathlib.Path], labels: list[int]
) -> None:
  """Writes one shard, a record for each picture."""
  from array_record.python import array_record_module

  # Pictures are compressed already; a group a record, for random access.
  writer: Any = array_record_module.ArrayRecordWriter(
    str(path), "group_size:1,uncompressed"
  )
  try:
    for file, label in zip(files, labels, strict=True):
      features = {"image": file.read_bytes(), "label": label}
      name = f"{file.parent.name}/{file.name}".encode()
      writer.write(examples.encode(features | {"file_name": name}))
  finally:
    writer.close()
  if array_records.count(path) != len(files):
    raise OSError(f"{path}: not all pictures were written; is the disk full?")


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.data.records",
    description="Turns folders or lists of pictures into ArrayRecord files.",
  )
  parser.add_argument("pictures", help="folder of class folders, or list:PATH")
  parser.add_argument("out", help="folder for the shards")
  parser.add_argument("--shards", type=int, default=8, help="files of a part")
  parser.add_argument("--root", default="", help="where paths of lists start")
  options = parser.parse_args(argv)
  try:
    counts = write(
      options.pictures,
      options.out,
      shards=options.shards,
      root=options.root,
      tell=lambda text: print(text, file=sys.stderr),
    )
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  told = ", ".join(f"{count:,} {part}" for part, count in counts.items())
  print(f"{told} pictures are in {options.out}; use arrayrecord:{options.out}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
