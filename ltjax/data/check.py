"""Decodes every picture of a source once, and lists those that are broken.

    python -m ltjax.data.check photos
    python -m ltjax.data.check list:lists/train.txt --root=pictures

A folder is searched at any depth; `list:PATH` and `arrayrecord:PATH` are as in
a config. A line for each picture that cannot be decoded goes to the standard
output, and the exit code is 1 if there is one. For sets that stay in their
files while training, where a broken picture would stop the run that meets it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent import futures
import sys
from typing import Any

from ltjax.data.files import array_records, images, tree
from ltjax.data.files import decoding as decodings
from ltjax.data.sources import lists

_AT_ONCE = 1024


def find(source: str, root: str = "") -> list[Any]:
  """Returns the pictures of a source: files, or records.

  Args:
    source: a folder, `list:PATH` or `arrayrecord:PATH`.
    root: the folder that the paths of a list start from.

  Raises:
    FileNotFoundError: if there is no such folder, list or record file.
    ValueError: if a list or record file is damaged.
  """
  kind, _, path = source.partition(":")
  if kind == "list":
    found = []
    for name in path.split(","):
      listed = lists.read(name, root)
      lists.check_exist(listed.files, name)
      found += listed.files
    return found
  if kind == "arrayrecord":
    return [
      record
      for part in array_records.find(path).values()
      for record in array_records.Records(
        part, [array_records.count(shard) for shard in part]
      )
    ]
  top, passed = tree.walk(path if kind == "folder" else source)
  for line in passed.lines(top.path):
    print(line.strip(), file=sys.stderr)
  return top.all()


def broken(
  files: Sequence[Any], decoding: decodings.Decoding = decodings.DEFAULT
) -> Iterator[str]:
  """Yields what is wrong with each picture that cannot be decoded, in order.

  Args:
    files: paths, or records.
    decoding: what becomes of pixels that are not 8-bit grey or RGB.
  """

  def look(file: Any) -> str:
    name = str(file)
    try:
      source = file
      if isinstance(file, array_records.Record):
        source, name = file.picture()
      images.decode(source, name=name, decoding=decoding)
    except (OSError, ValueError) as error:
      return str(error) if name in str(error) else f"{name}: {error}"
    return ""

  with futures.ThreadPoolExecutor(thread_name_prefix="check") as threads:
    for first in range(0, len(files), _AT_ONCE):
      some = files[first : first + _AT_ONCE]
      yield from filter(None, threads.map(look, some))


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.data.check",
    description="Decodes pictures and lists those that are broken.",
  )
  parser.add_argument("source", help="folder, list:PATH or arrayrecord:PATH")
  parser.add_argument("--root", default="", help="where paths of lists start")
  parser.add_argument(
    "--pixel_range", default="auto", help="as data.pixel_range in a config"
  )
  parser.add_argument(
    "--pages", default="error", help="as data.pages in a config"
  )
  options = parser.parse_args(argv)
  count = 0
  try:
    decoding = decodings.make(options.pixel_range, "white", options.pages)
    files = find(options.source, options.root)
    for line in broken(files, decoding):
      print(line)
      count += 1
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  told = f"{count:,} of {len(files):,} pictures cannot be read."
  print(told, file=sys.stderr)
  return 1 if count else 0


if __name__ == "__main__":
  sys.exit(main())
