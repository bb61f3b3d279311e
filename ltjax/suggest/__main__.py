"""`python -m ltjax.suggest --workdir=DIR IMAGES...`: what to label next."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

from ltjax.data.files import images
from ltjax.devices import compilation
from ltjax.report import predictions
from ltjax.runs import pictures
from ltjax.runs import trained as trained_lib
from ltjax.suggest import gallery, of_run


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.suggest",
    description="Ranks unlabeled pictures by what a label would tell, or labels"
    " by how likely they are wrong; writes a table and a page of thumbnails.",
  )
  parser.add_argument("--workdir", required=True, help="folder of the run")
  parser.add_argument(
    "--by",
    choices=of_run.BY,
    default="margin",
    help="margin: the two best classes are close; entropy; rare: perhaps of a"
    " few-shot class; coreset: far from all that is labeled",
  )
  parser.add_argument(
    "--label_errors",
    action="store_true",
    help="look at the labels of the run instead; takes no IMAGES",
  )
  parser.add_argument("--number", type=int, default=100, help="at most")
  parser.add_argument(
    "--out", type=Path, metavar="FILE.csv", help="the page lies beside it"
  )
  parser.add_argument(
    "--head", choices=tuple(trained_lib.HEADS), default="balanced"
  )
  parser.add_argument(
    "--calibrated",
    action="store_true",
    help="with the calibration of `ltjax.evaluate --calibrate`",
  )
  parser.add_argument(
    "--data_dir", help="data sets; else LTJAX_DATA, else a cache folder"
  )
  parser.add_argument(
    "images", nargs="*", metavar="IMAGES", help="pictures, and folders of them"
  )
  compilation.add_flag(parser)
  options = parser.parse_args(argv)
  compilation.enable(options.compilation_cache)
  name = "label_errors.csv" if options.label_errors else "suggest.csv"
  out = options.out or Path(name)
  try:
    if out.suffix != ".csv":
      raise ValueError(f"--out is {str(out)!r}; it must be a .csv file.")
    if options.label_errors:
      bad, about = _label_errors(options, out)
    else:
      bad, about = _suggest(options, out)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(about)
  print(f"{out}\n{gallery.beside(out)}")
  return bad


def _suggest(options: argparse.Namespace, out: Path) -> tuple[int, str]:
  if not options.images:
    raise ValueError(
      "Name pictures, or folders of them, to choose from; or look at the labels"
      " of the run by --label_errors."
    )
  files = pictures.find(
    options.images, lambda line: print(f"note: {line}", file=sys.stderr)
  )
  found = of_run.suggest(
    options.workdir,
    files,
    number=options.number,
    by=options.by,
    head=options.head,
    calibrated=options.calibrated,
    data_dir=options.data_dir,
  )
  for row in found.errors:
    print(f"error: {row['image']}: {row['error']}", file=sys.stderr)
  predictions.write(out, found.rows)
  decoding = trained_lib.load(options.workdir).decoding
  about = (
    f"{len(found.rows):,} of {len(files):,} pictures, by {options.by}, the most"
    " telling first."
  )
  shown = (
    gallery.Shown(
      images.read_image(Path(row["image"]), decoding=decoding),
      (
        f"{row['class']} {row['probability']:.2f}",
        f"score {row['score']:.3f}",
        row["image"],
      ),
    )
    for row in found.rows
  )
  page = gallery.page("To label next", about, shown)
  gallery.beside(out).write_text(page, encoding="utf-8")
  return int(bool(found.errors)), about


def _label_errors(options: argparse.Namespace, out: Path) -> tuple[int, str]:
  if options.images:
    raise ValueError(
      "--label_errors looks at the labels of the run; leave out"
      f" {options.images[0]}."
    )
  found = of_run.check_labels(
    options.workdir,
    number=options.number,
    head=options.head,
    data_dir=options.data_dir,
  )
  predictions.write(out, found.rows)
  shown = (
    gallery.Shown(
      gallery.of_array(found.pixels(place)),
      (
        f"label: {row['class']} {row['probability']:.2f}",
        f"seems: {row['seems']} {row['seems_probability']:.2f}",
        str(row["image"]),
      ),
    )
    for place, row in enumerate(found.rows)
  )
  page = gallery.page("Labels to check", found.about, shown)
  gallery.beside(out).write_text(page, encoding="utf-8")
  return 0, found.about


if __name__ == "__main__":
  sys.exit(main())
