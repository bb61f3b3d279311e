"""A board: what the jobs that run side by side say, a line each.

On a terminal the last line of each job's log lives at the bottom. Elsewhere a
job's last line is printed when it is a new one, at most each 30 seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import os
import sys
import time
from typing import Any, TextIO

from ltjax.launch import jobs

_PLAIN_INTERVAL = 30.0  # seconds
_READ_INTERVAL = 0.5  # seconds


class Board:
  """Shows the last line of each running job. Use it as a context manager.

  Args:
    stream: where to write.
    interactive: live lines (True) or plain ones (False); None: live lines if
      `stream` is a terminal that can show them.
    clock: seconds, monotonic.
  """

  def __init__(
    self,
    stream: TextIO | None = None,
    interactive: bool | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._stream = sys.stderr if stream is None else stream
    self._clock = clock
    self._read = -_READ_INTERVAL
    self._lines: dict[str, str] = {}
    self._printed: dict[str, tuple[float, str]] = {}
    if interactive is None:
      interactive = self._stream.isatty() and os.environ.get("TERM") != "dumb"
    self._interactive = interactive
    self._live: Any = None

  def __enter__(self) -> Board:
    if self._interactive:
      from rich import console, live

      self._live = live.Live(
        get_renderable=self._rows,
        console=console.Console(file=self._stream, force_terminal=True),
        refresh_per_second=2,
        transient=True,
      )
      self._live.start()
    return self

  def __exit__(self, *unused: object) -> None:
    if self._live is not None:
      self._live.stop()
      self._live = None

  def say(self, text: str) -> None:
    """Prints `text`; on a terminal it goes above the live lines."""
    if self._live is None:
      print(text, file=self._stream, flush=True)
    else:
      self._live.console.print(
        text, markup=False, highlight=False, soft_wrap=True
      )

  def watch(self, running: Sequence[jobs.Job]) -> None:
    """Reads the logs of the jobs that run; cheap, call it as often as you like.

    Args:
      running: the jobs.
    """
    now = self._clock()
    if now - self._read < _READ_INTERVAL:
      return
    self._read = now
    # One assignment: the thread that draws never sees half of it.
    self._lines = {job.name: _said(job) for job in running}
    if self._live is None:
      for name, line in self._lines.items():
        when, before = self._printed.setdefault(name, (now, ""))
        if line != before and now - when >= _PLAIN_INTERVAL:
          self._printed[name] = (now, line)
          self.say(f"{name}: {line}")

  def _rows(self) -> Any:
    from rich import table, text

    grid = table.Table.grid(padding=(0, 2, 0, 0))
    for name, line in self._lines.items():
      cells = [text.Text(name), text.Text(line, overflow="ellipsis")]
      for cell in cells:
        cell.no_wrap = True
      grid.add_row(*cells)
    return grid


def _said(job: jobs.Job) -> str:
  """Returns a job's last line; none where that is its command, or of before."""
  line = jobs.last_line(job.log)
  return "" if line.startswith("$ ") else line
