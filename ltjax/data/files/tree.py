"""One walk over a folder: its pictures, and all that is passed over.

A hundred thousand files cost as many entries of directories and nothing else:
no file is opened or asked for its size. Links to folders are followed, but a
folder that a walk has seen is not seen again, so that no picture counts twice
and no circle of links is endless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import os
import pathlib
import tempfile

from ltjax.data.files import images

_SHOWN = 10
# Of operating systems and network drives; the second holds thumbnails.
_SYSTEM = frozenset({"__macosx", "@eadir", "$recycle.bin", "thumbs.db"})
# Suffixes of pictures and films that nobody reads here: told one by one.
_FOREIGN = frozenset(
  (
    ".heic .heif .hif .avif .jp2 .j2k .j2c .jpx .jxl .svg .psd .eps .ai .ico"
    " .tga .exr .hdr .dcm .dicom .nii .mha .czi .nd2 .lif .svs .ndpi .raw .cr2"
    " .cr3 .nef .arw .dng .orf .rw2 .raf .pef .srw .npy .mp4 .mov .avi .mkv"
    " .webm .m4v .mpg .wmv"
  ).split()
)
_WAYS_OUT = dict.fromkeys(
  (".heic", ".heif", ".hif"), "pip install 'ltjax[pictures]' reads them"
)
_WAYS_OUT |= {".avif": "Pillow 11.3 or later reads them"}


@dataclasses.dataclass(eq=False)
class Folder:
  """A folder and what is in it.

  Attributes:
    path: where it is.
    pictures: those directly in it, sorted.
    folders: sub-folders, sorted by name.
  """

  path: pathlib.Path
  pictures: list[pathlib.Path] = dataclasses.field(default_factory=list)
  folders: list[Folder] = dataclasses.field(default_factory=list)

  @property
  def name(self) -> str:
    """What it is called."""
    return self.path.name

  @functools.cached_property
  def count(self) -> int:
    """How many pictures are in it, at any depth."""
    return len(self.pictures) + sum(folder.count for folder in self.folders)

  @property
  def holding(self) -> list[Folder]:
    """Those sub-folders that have a picture, at any depth."""
    return [folder for folder in self.folders if folder.count]

  def all(self) -> list[pathlib.Path]:
    """Returns the pictures in it, at any depth, sorted."""
    return sorted(self._each())

  def _each(self) -> Iterator[pathlib.Path]:
    yield from self.pictures
    for folder in self.folders:
      yield from folder._each()


class Passed:
  """What a walk passed over: how many of each kind, with an example."""

  def __init__(self):
    self._counts: dict[str, int] = {}
    self._examples: dict[str, str] = {}

  def add(self, kind: str, path: str | pathlib.Path) -> None:
    """Counts a file or folder of a kind; a suffix is a kind."""
    self._counts[kind] = self._counts.get(kind, 0) + 1
    example = str(path)
    self._examples[kind] = min(self._examples.get(kind, example), example)

  def lines(self, root: pathlib.Path) -> list[str]:
    """Returns those of `unread`, and a line for all else.

    Args:
      root: the folder that the examples are told from.
    """
    found = [f"  {line}" for line in self.unread(root)]
    rest = [self._told(k, root) for k in self._kinds() if k not in _FOREIGN]
    if rest:
      found.append(f"  passed over: {', '.join(rest[:4])}")
      if rest[4:]:
        found[-1] += f", and {len(rest) - 4} other kinds of files"
    return found

  def unread(self, root: pathlib.Path) -> list[str]:
    """Returns a line for each kind of picture or film that is not read.

    Args:
      root: the folder that the examples are told from.
    """
    return [
      f"passed over, not read: {self._told(kind, root)}"
      + (f"; {_WAYS_OUT[kind]}" if kind in _WAYS_OUT else "")
      for kind in self._kinds()
      if kind in _FOREIGN
    ]

  def _kinds(self) -> list[str]:
    return sorted(self._counts, key=lambda kind: (-self._counts[kind], kind))

  def _told(self, kind: str, root: pathlib.Path) -> str:
    example = pathlib.Path(self._examples[kind])
    if example.is_relative_to(root):
      example = example.relative_to(root)
    return f"{self._counts[kind]:,} {kind} ({example})"


def walk(path: str | pathlib.Path) -> tuple[Folder, Passed]:
  """Walks over a folder.

  Args:
    path: the folder.

  Raises:
    FileNotFoundError: if there is none.
    OSError: if it, or a folder in it, cannot be listed.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_dir():
    raise FileNotFoundError(f"{path}: no such folder.")
  top, passed, seen = Folder(path), Passed(), set()
  suffixes = images.readable()
  waiting, links = [(top, top)], []  # folders, each behind that it is in
  while waiting or links:
    # Links last, so that a folder counts where it lies.
    parent, here = waiting.pop() if waiting else links.pop(0)
    status = os.stat(here.path)
    if (status.st_dev, status.st_ino) in seen:
      passed.add("link to a folder that is read already", here.path)
      parent.folders.remove(here)
      continue
    seen.add((status.st_dev, status.st_ino))
    names = []
    with os.scandir(here.path) as entries:
      for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith(".") or entry.name.lower() in _SYSTEM:
          passed.add("hidden", entry.path)
        elif _is(entry.is_dir):
          folder = Folder(here.path / entry.name)
          here.folders.append(folder)
          (links if entry.is_symlink() else waiting).append((here, folder))
        elif not _is(entry.is_file):
          passed.add("neither file nor folder", entry.path)
        elif suffix in suffixes:
          names.append(entry.name)
        else:
          passed.add(suffix or "without suffix", entry.path)
    here.pictures = [here.path / name for name in sorted(names)]
    here.folders.sort(key=lambda folder: folder.name)
  return top, passed


def counted(count: int) -> str:
  """Returns so many pictures in words."""
  return f"{count:,} picture{'' if count == 1 else 's'}"


def _is(kind: Callable[[], bool]) -> bool:
  try:
    return kind()
  except OSError:  # A link to itself.
    return False


def listed(lines: Sequence[str], prefix: str) -> str:
  """Returns the first ten lines; if there are more, a file has all of them.

  Args:
    lines: on pictures, one a line.
    prefix: of the file's name.
  """
  shown = "\n".join(f"  {line}" for line in lines[:_SHOWN])
  if len(lines) <= _SHOWN:
    return shown
  handle, path = tempfile.mkstemp(prefix=prefix, suffix=".txt")
  with os.fdopen(handle, "w", encoding="utf-8") as out:
    out.write("\n".join(lines) + "\n")
  more = f"{len(lines) - _SHOWN:,} more; {path} names all of them."
  return f"{shown}\n  and {more}"
