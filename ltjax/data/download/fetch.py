"""Fetching one file so that a half one is never taken for whole.

The content goes to a `.part` file and moves into place with one `os.replace`
once length and checksum are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import os
import pathlib
import sys
import tempfile
import urllib.request

_CHUNK = 1 << 18


def fetch(
  url: str,
  path: pathlib.Path,
  *,
  checksum: str | None = None,
  timeout: float = 30.0,
) -> pathlib.Path:
  """Downloads a file, with a progress bar, and verifies it.

  Args:
    url: Where it is.
    path: Where it goes; its folder is made.
    checksum: `md5:HEX` or `sha256:HEX`; None checks the length only.
    timeout: Seconds without any data after which it fails.

  Raises:
    OSError: It cannot be reached or written.
    ValueError: It is truncated, or the checksum is wrong.
  """
  with urllib.request.urlopen(url, timeout=timeout) as response:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(
      prefix=f".{path.name}.", suffix=".part", dir=path.parent
    )
    try:
      with os.fdopen(handle, "wb") as out:
        total = int(response.headers.get("Content-Length") or 0)
        with progress(path.name, total) as advance:
          while chunk := response.read(_CHUNK):
            out.write(chunk)
            advance(len(chunk))
        size = out.tell()
        out.flush()
        os.fsync(out.fileno())
      if size < total:
        raise ValueError(f"{url}: truncated, {size} of {total} bytes arrived.")
      verify(pathlib.Path(part), checksum, name=url)
      os.chmod(part, 0o644)
      os.replace(part, path)
    finally:
      with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
  return path


def verify(path: pathlib.Path, checksum: str | None, *, name: str = "") -> None:
  """Compares a file with its checksum.

  Args:
    path: The file.
    checksum: `md5:HEX` or `sha256:HEX`, else a ValueError; None accepts any.
    name: What to call it in the error; its path if empty.
  """
  if checksum is None:
    return
  kind, _, want = checksum.partition(":")
  with open(path, "rb") as file:
    have = hashlib.file_digest(file, kind).hexdigest()
  if have != want:
    raise ValueError(
      f"{name or path}: wrong checksum ({kind} {have}, must be {want}; "
      f"{path.stat().st_size} bytes). It is truncated, altered or not the "
      "official file."
    )


def check_writable(folder: pathlib.Path) -> None:
  """Raises `OSError` unless a file can be written into a folder."""
  with tempfile.NamedTemporaryFile(dir=folder, prefix=".ltjax."):
    pass


@contextlib.contextmanager
def progress(title: str, total: int = 0) -> Iterator[Callable[[int], None]]:
  """Shows how far a transfer is: a bar on a terminal, else one line.

  Yields a function to call with the number of bytes that arrived; `total` is 0
  where nobody knows.
  """
  if not sys.stderr.isatty():
    size = f" ({total / 1e6:.1f} MB)" if total else ""
    print(f"fetching {title}{size}", file=sys.stderr, flush=True)
    yield lambda count: None
    return
  from rich import console
  from rich import progress as bars

  with bars.Progress(
    bars.TextColumn("{task.description}"),
    bars.BarColumn(),
    bars.DownloadColumn(),
    bars.TransferSpeedColumn(),
    bars.TimeRemainingColumn(),
    console=console.Console(stderr=True),
  ) as bar:
    task = bar.add_task(title, total=total or None)
    yield lambda count: bar.update(task, advance=count)
