"""A time budget: how much of it is left, and what happens at its end.

What is measured takes long and is told as it is found, so it may be stopped at
any time: when its seconds are over, by SIGTERM, by Ctrl-C. A compiler that does
not look up is not waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import math
import os
import signal
import threading
import time

GRACE = 10.0  # Seconds that a call may go on when the time is over.


class OverError(Exception):
  """The time is over, or the process was asked to stop.

  Args:
    why: in words.
    signum: the signal that asked; 0 if none.
  """

  def __init__(self, why: str, signum: int = 0):
    super().__init__(why)
    self.signum = signum


class Budget:
  """Seconds from now on.

  Args:
    seconds: how many; 0 for as many as it takes.
  """

  def __init__(self, seconds: float = 0.0):
    self._seconds, self._began = seconds, time.monotonic()

  @property
  def left(self) -> float:
    """Seconds that are left; infinity if there is no limit, never below 0."""
    if not self._seconds:
      return math.inf
    return max(self._began + self._seconds - time.monotonic(), 0.0)

  def check(self) -> None:
    """Raises OverError if the time is over."""
    if not self.left:
      raise OverError(f"{self._seconds:g} s are over")


@contextlib.contextmanager
def limit(
  seconds: float, last_words: Callable[[], None], grace: float = GRACE
) -> Iterator[Budget]:
  """Has SIGTERM and Ctrl-C raise OverError, and ends what hangs.

  Args:
    seconds: the budget; 0 for none.
    last_words: called if the process must be ended while it hangs, in a thread
      of its own; it ends with exit code 0.
    grace: seconds after which something hangs.

  Yields:
    The budget.
  """

  def stop(signum: int, frame: object) -> None:
    del frame
    raise OverError(f"stopped by {signal.Signals(signum).name}", signum)

  def end() -> None:
    last_words()
    os._exit(0)

  signals = (signal.SIGTERM, signal.SIGINT)
  if threading.current_thread() is not threading.main_thread():
    signals = ()  # Python delivers none to other threads.
  before = [signal.signal(s, stop) for s in signals]
  timer = threading.Timer(seconds + grace, end)
  timer.daemon = True
  if seconds:
    timer.start()
  try:
    yield Budget(seconds)
  finally:
    timer.cancel()
    for signum, old in zip(signals, before, strict=True):
      signal.signal(signum, old)
