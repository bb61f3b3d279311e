"""How far a run is, in a notebook: one text below the cell, which changes."""

from __future__ import annotations

from collections.abc import Callable
import importlib
import sys
import time
from typing import Any

_INTERVAL = 0.25  # seconds


def present() -> bool:
  """Returns whether this is the kernel of a notebook."""
  module = sys.modules.get("IPython")  # which a kernel has imported
  shell = module.get_ipython() if module else None
  return getattr(shell, "kernel", None) is not None


class Notebook:
  """Shows lines that stay and one that changes, in the output of a cell.

  `line` gives the one that changes, nothing where it is None.
  """

  def __init__(
    self,
    line: Callable[[], object],
    *,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._line = line
    self._clock = clock
    self._stay: list[str] = []
    self._drawn = clock()
    display = importlib.import_module("IPython.display").display
    self._handle: Any = display(self._text(), raw=True, display_id=True)

  def refresh(self) -> None:
    """Draws the line anew, at most every quarter of a second."""
    if self._clock() - self._drawn >= _INTERVAL:
      self._draw()

  def print(self, text: str) -> None:
    """Adds a text that stays."""
    self._stay.append(text)
    self._draw()

  def stop(self) -> None:
    """Leaves only what stays."""
    self._line = lambda: None
    self._draw()

  def _draw(self) -> None:
    self._drawn = self._clock()
    self._handle.update(self._text(), raw=True)

  def _text(self) -> dict[str, str]:
    line = self._line()
    lines = self._stay if line is None else [*self._stay, str(line)]
    return {"text/plain": "\n".join(lines)}
