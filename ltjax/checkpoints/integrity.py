"""Integrity: a checkpoint that has been damaged since is noticed.

The seal of a folder is one more file in it, with a digest of all the others. It
is written last: a folder without a seal is whole (orbax renames it when it is
complete), and the process was killed before it could be sealed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

NAME = "seal.sha256"


def write(folder: Path) -> None:
  """Seals a folder as it is now, by `seal.sha256`, whole or not at all."""
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
  """Returns a SHA-256 over the names and contents of a folder's files."""
  sha = hashlib.sha256()
  own = {folder / NAME, folder / f"{NAME}.tmp"}
  files = {p for p in folder.rglob("*") if p.is_file()} - own
  for path in sorted(files):
    with open(path, "rb") as file:
      content = hashlib.file_digest(file, "sha256").hexdigest()
    sha.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
  return sha.hexdigest()


def fingerprint(tree: Any) -> str:
  """Returns a SHA-256 over the paths, types and bytes of a tree's arrays."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    sha.update(jax.tree_util.keystr(path).encode())
    sha.update(f"{leaf.dtype}{leaf.shape or (1,)}".encode())
    array = np.ascontiguousarray(leaf)
    sha.update(array.reshape(-1).view(np.uint8).data)  # bfloat16 has no .data
  return sha.hexdigest()
