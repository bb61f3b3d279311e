"""Interrupts: SIGTERM and Ctrl-C ask a run to save and stop."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import signal
import threading


class Interrupted(Exception):
  """The run was asked to stop, and has saved; it exits with 128 + `signum`."""

  def __init__(self, signum: int):
    super().__init__(signal.Signals(signum).name)
    self.signum = signum


class Flag:
  """Set by a signal; `signum` is None as long as none came."""

  def __init__(self):
    self.signum: int | None = None

  def raise_if_set(self) -> None:
    """Raises Interrupted if a signal came."""
    if self.signum is not None:
      raise Interrupted(self.signum)


@contextlib.contextmanager
def catch() -> Iterator[Flag]:
  """Turns SIGTERM and SIGINT into a flag; a second one stops at once.

  Off the main thread no signals arrive, and the flag stays unset.
  """
  flag = Flag()
  if threading.current_thread() is not threading.main_thread():
    yield flag
    return

  def handler(signum, frame):
    del frame
    if flag.signum is not None:
      raise KeyboardInterrupt
    flag.signum = signum

  signals = (signal.SIGTERM, signal.SIGINT)
  before = [signal.signal(s, handler) for s in signals]
  try:
    yield flag
  finally:
    for s, old in zip(signals, before, strict=True):
      signal.signal(s, old)
