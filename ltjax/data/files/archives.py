"""Readers for files nobody has vouched for.

A member of a tar file can name a path outside its folder, an array can hold
Python objects which run code, a header can claim a terabyte. These readers hand
out bytes and arrays, write nothing, and refuse all else with a `ValueError`
which names the file. So do `pickles` and `images`.
"""

from __future__ import annotations

from collections.abc import Collection
import gzip
import math
import pathlib
import tarfile
import zipfile
import zlib

import numpy as np

# A member, array or idx file larger than this is refused: far above every set
# in use, far below what a crafted header can claim.
MAX_BYTES = 32 << 30
_IDX_UINT8 = 0x08

_Pathlike = str | pathlib.Path


def read_tar(path: _Pathlike, wanted: Collection[str]) -> dict[str, bytes]:
  """Reads members of a tar archive by name, without extracting.

  Every member's name is checked, also of those that are not wanted.

  Args:
    path: A .tar file, compressed or not.
    wanted: Full member names, such as `cifar-10-batches-py/test_batch`.

  Raises:
    ValueError: A member lies outside the archive's folder, is a link or a
      device; a wanted one is missing; or the archive is truncated.
  """
  found = {}
  try:
    with tarfile.open(path) as tar:
      for member in tar:
        _check_member(path, member)
        if member.isfile() and member.name in wanted:
          stream = tar.extractfile(member)
          content = stream.read() if stream else b""
          if len(content) != member.size:
            raise EOFError(f"{member.name} ends early")
          found[member.name] = content
  except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
    if isinstance(error, (FileNotFoundError, PermissionError)):
      raise
    reason = str(error).partition("\n")[0]
    raise ValueError(
      f"{path}: not a whole tar archive ({reason}); it is truncated or "
      "damaged. Delete it and fetch it again."
    ) from None
  missing = sorted(set(wanted) - set(found))
  if missing:
    raise ValueError(
      f"{path}: the archive has no member {missing[0]!r}. It is not the "
      "official archive, or not all of it."
    )
  return found


def read_idx(path: _Pathlike) -> np.ndarray:
  """Reads a uint8 idx file (the MNIST family), gzipped or not by its content.

  Raises a ValueError if header or length are not of such a file.
  """
  try:
    with open(path, "rb") as raw:
      zipped = raw.read(2) == b"\x1f\x8b"
      raw.seek(0)
      with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or not 1 <= head[3] <= 4:
          raise ValueError(f"{path}: not an idx file (starts {head!r}).")
        if head[2] != _IDX_UINT8:
          raise ValueError(
            f"{path}: idx element type 0x{head[2]:02x}; only unsigned bytes "
            "(0x08) are images or labels here."
          )
        sizes = file.read(4 * head[3])
        if len(sizes) < 4 * head[3]:
          raise EOFError("the header ends early")
        shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
        count = math.prod(shape)
        if count > MAX_BYTES:
          raise ValueError(f"{path}: claims {count} bytes, over {MAX_BYTES}.")
        content = file.read(count + 1)
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(
      f"{path}: truncated or damaged ({error}). Delete it and fetch it again."
    ) from None
  if len(content) != count:
    have = "more" if len(content) > count else f"{len(content)}"
    raise ValueError(
      f"{path}: truncated or damaged: the header says {count} bytes "
      f"({' x '.join(map(str, shape))}), there are {have}."
    )
  return np.frombuffer(content, np.uint8).reshape(shape)


def read_npz(
  path: _Pathlike, keys: dict[str, tuple[str, ...]]
) -> dict[str, np.ndarray]:
  """Reads arrays of an .npz file, never unpickling.

  `keys` has for each array its accepted names, the first found being taken:
  `{"x": ("x", "images")}`. Raises a ValueError for another or a damaged file,
  or an array of Python objects.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"{path}: no such file.")
  if not zipfile.is_zipfile(path):
    raise ValueError(f"{path}: not an .npz file, or a truncated one.")
  arrays, found = {}, None
  try:
    with np.load(path, allow_pickle=False) as npz:
      for member in npz.zip.infolist():
        if member.file_size > MAX_BYTES:
          raise ValueError(f"claims {member.file_size} bytes")
      for key, names in keys.items():
        found = next((n for n in names if n in npz.files), None)
        if found is not None:
          arrays[key] = npz[found]
          # A member that is not an array comes back as plain bytes.
          if not isinstance(arrays[key], np.ndarray):
            raise ValueError("it is not an array")
  except Exception as error:  # zip, zlib, header and memory errors.
    raise ValueError(
      f"{path}: array {found!r} cannot be read ({error}). Object arrays are "
      "refused, because they can run code; save plain numbers, and class "
      "names as a text array (np.array(names), dtype U)."
    ) from None
  return arrays


def read_npy(path: _Pathlike) -> np.ndarray:
  """As `read_npz`, the array of an .npy file."""
  try:
    with open(path, "rb") as file:
      if file.read(6) != b"\x93NUMPY":
        raise ValueError("it does not start as one does")
    # Mapped, so that a header can claim no more than the file has.
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.array(found)
  except (ValueError, EOFError, MemoryError, OverflowError) as error:
    raise ValueError(
      f"{path}: not an .npy file of numbers ({error}). Object arrays are "
      "refused, because they can run code; save integers with np.save."
    ) from None


def _check_member(path: _Pathlike, member: tarfile.TarInfo) -> None:
  """Raises `ValueError` unless a tar member is harmless."""
  pure = pathlib.PurePosixPath(member.name.replace("\\", "/"))
  if pure.is_absolute() or ".." in pure.parts or ":" in "".join(pure.parts[:1]):
    reason = "lies outside the archive's folder"
  elif not (member.isfile() or member.isdir()):
    reason = "is a link or a device"
  elif member.size > MAX_BYTES:
    reason = f"claims {member.size} bytes"
  else:
    return
  raise ValueError(
    f"{path}: the member {member.name!r} {reason}; the archive is refused."
  )
