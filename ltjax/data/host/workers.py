"""Processes that decode pictures for the one that trains.

A worker is told which pictures to decode, and writes their pixels into memory
that it shares with the training process. Workers know nothing of epochs or
order, so that the numbers of a run do not depend on how many there are.

They serve all sets and stages, and import neither JAX nor the program that
runs, which takes a fraction of a second; a worker of `grain` imports both, for
every pass over a set. They end with the training process, be it killed.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import functools
import mmap
from multiprocessing import connection as connections
import os
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Any
import weakref

import numpy as np

from ltjax.data.files import decoding as decodings
from ltjax.data.host import host_images

MOST = 256
# Pictures that a worker gets at a time: enough to keep it busy while others
# are served, few enough that all finish a batch together.
_CHUNK = 16
_PROGRAM = (
  "import sys; sys.path[:] = sys.argv[3:]; from ltjax.data.host import workers;"
  " workers.work(int(sys.argv[1]), int(sys.argv[2]))"
)


class Workers:
  """Processes that decode: `count` of them, 1 to `MOST`, else a ValueError."""

  def __init__(self, count: int):
    check(count)
    self._count = count
    self._lock = threading.Lock()
    self._memory, self._map = -1, mmap.mmap(-1, 1)
    self._workers: dict[connections.Connection, subprocess.Popen] = {}
    weakref.finalize(self, _end, self._workers)

  def decode(
    self,
    files: Sequence[Any],
    *,
    size: int,
    resize: str,
    decoding: decodings.Decoding = decodings.DEFAULT,
  ) -> np.ndarray:
    """Decodes pictures, all workers at once: uint8 `[N, size, size, 3]`.

    A BrokenImageError names the first picture that cannot be read, or those
    that were read when a worker was killed.

    Args:
      files, size, resize, decoding: as of `image_files.square`.
    """
    shape = (len(files), size, size, 3)
    total = int(np.prod(shape))
    if not total:
      return np.empty(shape, np.uint8)
    with self._lock:
      try:
        self._start(total)
        self._share(files, size, resize, decoding)
      except host_images.BrokenImageError:
        raise
      except BaseException:  # Answers may be under way that nobody awaits.
        self.close()
        raise
      return np.frombuffer(self._map, np.uint8, total).reshape(shape).copy()

  def close(self) -> None:
    """Ends the workers; the next picture starts new ones."""
    _end(self._workers)

  def _start(self, total: int) -> None:
    """Makes sure that workers run, and share so many bytes."""
    if self._memory < 0:
      self._memory = _anonymous_file()
      weakref.finalize(self, os.close, self._memory)
    if len(self._map) < total:
      os.ftruncate(self._memory, total)
      self._map = mmap.mmap(self._memory, total)
    while len(self._workers) < self._count:
      ours, theirs = socket.socketpair()
      with theirs:
        given = (theirs.fileno(), self._memory)
        process = subprocess.Popen(
          [sys.executable, "-c", _PROGRAM, *map(str, given), *sys.path],
          pass_fds=given,
          stdin=subprocess.DEVNULL,
          start_new_session=True,  # Ctrl-C is not for them
        )
      self._workers[connections.Connection(ours.detach())] = process

  def _share(
    self,
    files: Sequence[Any],
    size: int,
    resize: str,
    decoding: decodings.Decoding,
  ) -> None:
    """Gives every worker its next chunk until the batch is done."""
    step = max(1, min(_CHUNK, len(files) // (2 * self._count)))
    rest = iter(range(0, len(files), step))
    free, busy, broken = list(self._workers), {}, {}
    while True:
      while free and not broken:
        first = next(rest, None)
        if first is None:
          break
        worker = free.pop()
        busy[worker] = first
        some = files[first : first + step]
        task = (some, size, resize, decoding, first, len(files))
        with contextlib.suppress(ConnectionError):  # `recv` will tell.
          worker.send(task)
      if not busy:
        break
      for worker in connections.wait(list(busy)):
        assert isinstance(worker, connections.Connection)
        try:
          error = worker.recv()
        except (EOFError, ConnectionError):
          lost = files[busy[worker] : busy[worker] + step]
          raise self._lost(worker, lost) from None
        first = busy.pop(worker)
        free.append(worker)
        if error is not None:
          broken[first] = error
    if broken:
      raise host_images.BrokenImageError(broken[min(broken)])

  def _lost(self, worker: Any, files: Sequence[Any]) -> Exception:
    """Returns the error for a worker that ended by itself."""
    process = self._workers[worker]
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(5)
    self.close()
    return host_images.BrokenImageError(
      f"A process that decodes pictures ended (exit code {process.returncode})"
      f" at one of {files[0]} ... {files[-1]}. Was there too little memory, or"
      " was it killed? Fewer data.workers need less memory. The same command"
      " then goes on from what is saved."
    )


def check(count: int) -> None:
  """Raises a ValueError unless a number of workers is in range; 0 is none."""
  if not 0 <= count <= MOST:
    raise ValueError(
      f"data.workers is {count}; it must be 0 (threads) to {MOST} processes."
      f" This machine has {os.cpu_count()} processors."
    )


@functools.cache
def shared(count: int) -> Workers:
  """Returns the workers that all sets of this process share."""
  return Workers(count)


def work(connection: int, memory: int) -> None:
  """The life of a worker: decodes what it is asked for until nobody asks.

  Both arguments are descriptors, which it shares with the training process.
  """
  from ltjax.data.host import image_files

  orders, pixels = connections.Connection(connection), mmap.mmap(-1, 1)
  with contextlib.suppress(EOFError, ConnectionError):
    while True:
      files, size, resize, decoding, first, count = orders.recv()
      total = count * size * size * 3
      if len(pixels) < total:
        pixels = mmap.mmap(memory, total)
      rows = np.frombuffer(pixels, np.uint8, total)
      rows = rows.reshape(count, size, size, 3)
      error = None
      try:
        for i, file in enumerate(files, first):
          rows[i] = image_files.square(file, size, resize, decoding)
      except host_images.BrokenImageError as broken:
        error = str(broken)
      orders.send(error)


def _end(workers: dict[connections.Connection, subprocess.Popen]) -> None:
  """Hangs up and waits for the workers to end."""
  for connection in workers:
    connection.close()
  for process in workers.values():
    try:
      process.wait(5)
    except subprocess.TimeoutExpired:
      process.kill()  # It is stuck in a picture, or on a disk.
      process.wait()
  workers.clear()


def _anonymous_file() -> int:
  """Returns the descriptor of memory that ends with those who hold it."""
  if hasattr(os, "memfd_create"):
    return os.memfd_create("ltjax-pictures")
  with tempfile.TemporaryFile() as file:  # Not Linux: a file without a name.
    return os.dup(file.fileno())
