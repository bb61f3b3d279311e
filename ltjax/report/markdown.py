"""Tables in Markdown, with fractions shown as per cent."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table, readable as it is: the first column to the left.

  A bar or a line break in a cell is taken care of.
  """
  cells = [[_cell(text) for text in row] for row in [header, *rows]]
  widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
  lines = [_line(row, widths) for row in cells]
  rule = [
    "-" * width if i == 0 else "-" * (width - 1) + ":"
    for i, width in enumerate(widths)
  ]
  return "\n".join([lines[0], _line(rule, widths), *lines[1:]]) + "\n"


def percent(fraction: float | None) -> str:
  """A fraction as per cent with one decimal; a dash for None."""
  return "–" if fraction is None else f"{100 * fraction:.1f}"


def spread(mean: float | None, deviation: float | None) -> str:
  """`mean ± deviation`, both fractions shown as per cent."""
  if mean is None or deviation is None:
    return percent(mean)
  return f"{percent(mean)} ± {percent(deviation)}"


def _cell(text: str) -> str:
  return " ".join(text.split()).replace("|", "\\|")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
  padded = [
    cell.ljust(width) if i == 0 else cell.rjust(width)
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
  ]
  return "| " + " | ".join(padded) + " |"
