"""Classifies pictures: `python -m ltjax.predict --workdir=DIR IMAGES...`.

Pictures of any size and kind are brought to the channels and the size that the
network was trained on. One that cannot be read is reported and passed over;
the others are classified all the same, and the exit code says 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np

from ltjax.data.files import decoding as decodings
from ltjax.data.files import images as pictures
from ltjax.data.files import tree
from ltjax.devices import compilation
from ltjax.runs import trained as trained_lib

BATCH_SIZE = 64
_MODES = {1: "L", 3: "RGB"}

# A picture's record, with `error` in it where it could not be read.
Record = dict[str, Any]


def find(
  paths: Iterable[str | Path], tell: Callable[[str], None] | None = None
) -> list[Path]:
  """Returns the pictures that files and folders name, each once, in order.

  Args:
    paths: files (of any suffix), and folders, searched at any depth.
    tell: gets a line for each kind of picture in folders that is not read.

  Raises:
    FileNotFoundError: if a path does not exist.
    ValueError: if a folder holds no picture.
  """
  found: dict[Path, None] = {}
  for path in map(Path, paths):
    if not path.exists():
      raise FileNotFoundError(f"{path}: no such picture or folder.")
    if not path.is_dir():
      found[path] = None
      continue
    top, passed = tree.walk(path)
    inside = top.all()
    if not inside:
      raise ValueError(
        f"{path}: no pictures in this folder. Suffixes that count:"
        f" {', '.join(sorted(pictures.readable()))}."
        + "".join(f"\n{line}" for line in passed.unread(path))
      )
    if tell:
      for line in passed.unread(path):
        tell(f"{path}: {line}")
    found |= dict.fromkeys(inside)
  return list(found)


def read(
  path: Path,
  image_shape: tuple[int, int, int],
  resize: str = "stretch",
  decoding: decodings.Decoding = decodings.DEFAULT,
) -> np.ndarray:
  """Returns a picture as a network takes it.

  Args:
    path: the file.
    image_shape: `(H, W, C)` to bring the picture to.
    resize: `stretch` it, or `crop` its middle; see `images.to_square`.
    decoding: what becomes of pixels that are not 8-bit grey or RGB.

  Returns:
    uint8 `[H, W, C]`.

  Raises:
    ValueError: if it is empty, too large, damaged or no picture.
    OSError: if the file cannot be read.
  """
  height, width, channels = image_shape
  image = pictures.read_image(path, decoding=decoding)
  image = image.convert(_MODES[channels])
  if resize == "crop":
    return pictures.to_square(image, height, resize)
  return pictures.to_array(image, (height, width))


def predict(
  trained: trained_lib.Trained,
  files: Sequence[Path],
  *,
  head: str = "balanced",
  top: int = 1,
  batch_size: int = BATCH_SIZE,
) -> Iterator[Record]:
  """Classifies pictures, a batch at a time.

  Args:
    trained: the model.
    files: the pictures.
    head: `balanced` for g, `random` for g'.
    top: how many of the most probable classes to tell.
    batch_size: pictures in memory at a time.

  Yields:
    In the order of `files`: `image`, and `class`, `label`, `probability` of the
    most probable class, and with `top` above 1 a list `top` of those of as many
    classes; or `image` and `error`.

  Raises:
    ValueError: if `top` is not between 1 and the number of classes.
  """
  num_classes = len(trained.classes)
  if not 1 <= top <= num_classes:
    raise ValueError(
      f"--top is {top}; the model has {num_classes} classes, so choose 1 to"
      f" {num_classes}."
    )
  run = trained.predictor(head)
  size = max(min(batch_size, len(files)), 1)
  for first in range(0, len(files), size):
    chunk = files[first : first + size]
    batch = np.zeros((size, *trained.picture_shape), np.uint8)
    errors: dict[int, str] = {}
    for i, path in enumerate(chunk):
      try:
        batch[i] = read(
          path, trained.picture_shape, trained.resize, trained.decoding
        )
      except (OSError, ValueError) as error:
        errors[i] = str(error)
    probabilities = run(batch)
    for i, path in enumerate(chunk):
      if i in errors:
        yield {"image": str(path), "error": errors[i]}
        continue
      order = np.argsort(-probabilities[i], kind="stable")[:top]
      best = [_named(trained, label, probabilities[i]) for label in order]
      more = {"top": best} if top > 1 else {}
      yield {"image": str(path), **best[0], **more}


def _named(
  trained: trained_lib.Trained, label: int, probabilities: np.ndarray
) -> Record:
  return {
    "class": trained.classes[label],
    "label": int(label),
    "probability": round(float(probabilities[label]), 6),
  }


class Table:
  """Aligned lines, a picture each; the widths are known beforehand.

  Args:
    files: the pictures that will come.
    classes: one name a class.
    top: classes a picture.
  """

  def __init__(self, files: Sequence[Path], classes: Sequence[str], top: int):
    self._image = max(map(_width, ["image", *map(str, files)]))
    self._class = max(map(_width, ["class", *classes]))
    self._top = top

  def header(self) -> str:
    """Returns the line above the first."""
    pair = f"{_pad('class', self._class)}  probability"
    return "  ".join([_pad("image", self._image), *[pair] * self._top])

  def line(self, record: Record) -> str:
    """Returns the line of a picture.

    Args:
      record: as `predict` gives it, without error.
    """
    cells = [_pad(record["image"], self._image)]
    for best in record.get("top", [record]):
      cells.append(_pad(best["class"], self._class))
      cells.append(f"{best['probability']:>11.4f}")
    return "  ".join(cells)


def _shown(text: str) -> str:
  """Returns a text with what a terminal cannot show, or would obey, escaped."""
  return "".join(
    c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
  )


def _width(text: str) -> int:
  from rich import cells

  return cells.cell_len(_shown(text))


def _pad(text: str, width: int) -> str:
  return _shown(text) + " " * (width - _width(text))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.predict",
    description="Classifies pictures with the model of a finished run.",
  )
  parser.add_argument("--workdir", required=True, help="folder of the run")
  parser.add_argument(
    "--head",
    choices=tuple(trained_lib.HEADS),
    default="balanced",
    help="balanced: g, the class-balanced one (default); random: g'",
  )
  parser.add_argument(
    "--top", type=int, default=1, help="classes a picture, most probable first"
  )
  parser.add_argument("--format", choices=("table", "jsonl"), default="table")
  parser.add_argument(
    "images", nargs="+", metavar="IMAGES", help="pictures, and folders of them"
  )
  compilation.add_flag(parser)
  options = parser.parse_args(argv)
  compilation.enable(options.compilation_cache)
  table = options.format == "table"
  bad = 0

  def tell(line: str) -> None:
    text = f"note: {line}" if table else json.dumps({"note": line})
    print(_shown(text), file=sys.stderr)

  try:
    files = find(options.images, tell)
    trained = trained_lib.load(options.workdir)
    records = predict(trained, files, head=options.head, top=options.top)
    layout = Table(files, trained.classes, options.top)
    for number, record in enumerate(records):
      if table and number == 0:
        print(layout.header())
      if "error" not in record:
        print(layout.line(record) if table else json.dumps(record))
        continue
      bad += 1
      sys.stdout.flush()
      text = f"error: {record['error']}" if table else json.dumps(record)
      print(_shown(text), file=sys.stderr)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  if bad:
    print(
      f"error: {bad} of {len(files)} pictures could not be read.",
      file=sys.stderr,
    )
  return 1 if bad else 0


if __name__ == "__main__":
  sys.exit(main())
