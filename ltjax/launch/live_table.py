"""A live table, on a terminal: the last line of the log of each running job.

Elsewhere a job's last line is printed when it is a new one, each 30 seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import sys
import time
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ltjax.launch import jobs


class LiveTable:
  """Shows the last line of each running job. Use it as a context manager.

  Args:
    stream, terminal: where to write, standard error if None, and whether that
      is a terminal; None asks it.
    clock: seconds, monotonic.
  """

  def __init__(
    self,
    stream: TextIO | None = None,
    terminal: bool | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._lines: dict[str, str] = {}
    self._console = Console(
      file=stream or sys.stderr, force_terminal=terminal, soft_wrap=True
    )
    self._live = None
    if self._console.is_terminal and not self._console.is_dumb_terminal:
      self._live = Live(
        get_renderable=self._table,
        console=self._console,
        refresh_per_second=2,
        transient=True,
      )
    self._every = 30.0 if self._live is None else 0.5
    self._clock, self._read = clock, clock()

  def __enter__(self) -> LiveTable:
    if self._live:
      self._live.start()
    return self

  def __exit__(self, *unused: object) -> None:
    if self._live:
      self._live.stop()

  def say(self, text: str) -> None:
    """Prints `text`, above the table."""
    self._console.print(text, markup=False, highlight=False)

  def watch(self, running: Sequence[jobs.Job]) -> None:
    """Reads the logs of the jobs that run; cheap, call it often."""
    if self._clock() - self._read < self._every:
      return
    self._read, before = self._clock(), self._lines
    # One assignment: the thread that draws never sees half of it.
    self._lines = {job.name: _said(job) for job in running}
    if self._live is None:
      for name, line in self._lines.items():
        if line and line != before.get(name):
          self.say(f"{name}: {line}")

  def _table(self) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, line in self._lines.items():
      cells = [Text(name), Text(line, overflow="ellipsis")]
      for cell in cells:
        cell.no_wrap = True
      table.add_row(*cells)
    return table


def _said(job: jobs.Job) -> str:
  """Returns a job's last line; none where that is its command, or of before."""
  line = jobs.last_line(job.log)
  return "" if line.startswith("$ ") else line
