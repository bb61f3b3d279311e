"""Seals: a folder of files that has been damaged since is noticed.

A disk that fills up, a machine that loses power and a copy that broke off leave
files that are there and wrong. The seal of a folder is one more file in it, with
a digest of all the others. It is written last, so a folder without a seal was
not completed, or was written by something else.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

NAME = "seal.sha256"


def write(folder: Path) -> None:
  """Seals a folder as it is now.

  Args:
    folder: gets the file `seal.sha256`, whole or not at all.

  Raises:
    OSError: if it cannot be written.
  """
  temporary = folder / f"{NAME}.tmp"
  try:
    with open(temporary, "w", encoding="ascii") as file:
      file.write(digest(folder))
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, folder / NAME)
  finally:
    temporary.unlink(missing_ok=True)


def check(folder: Path) -> None:
  """Compares a folder with its seal; one that has none passes.

  Args:
    folder: for instance a checkpoint.

  Raises:
    ValueError: if a file was changed, added or removed since the sealing.
    OSError: if a file cannot be read.
  """
  try:
    sealed = (folder / NAME).read_bytes()
  except FileNotFoundError:
    return
  if sealed != digest(folder).encode():
    raise ValueError("its files changed after they were written")


def digest(folder: Path) -> str:
  """Returns a SHA-256 over the names and contents of a folder's files.

  Args:
    folder: read with all its sub-folders; the seal itself is left out.
  """
  sha = hashlib.sha256()
  own = {folder / NAME, folder / f"{NAME}.tmp"}
  files = {p for p in folder.rglob("*") if p.is_file()} - own
  for path in sorted(files):
    with open(path, "rb") as file:
      content = hashlib.file_digest(file, "sha256").hexdigest()
    sha.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
  return sha.hexdigest()
