"""The class table: what a run will learn from, readable at a glance.

One row per class with a bar for its labeled and unlabeled images, grouped into
many-, medium- and few-shot classes, in at most 100 columns of plain text. Bars
are linear and each column has its own scale: the longest bar is its largest
class, and a class with images always shows at least a sliver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import unicodedata

from ltjax.data.splits import record

_EIGHTHS = " ▏▎▍▌▋▊▉"
_BAR = 20  # cells at most
_NAME = 20  # cells at most
_LINE = 100  # cells at most, unless counts reach the billions
_MAX_CLASSES = 40  # more than this: only the ends of each group are shown
_ENDS = 3


def class_table(
  split: record.Split,
  test_counts: Sequence[int],
  class_names: Sequence[str],
  groups: Mapping[str, Sequence[int]],
) -> str:
  """Draws the images per class of a split.

  Args:
    split: The split.
    test_counts: `[C]` test images per class.
    class_names: `[C]` names; long ones are cut.
    groups: Class indices by group name, in the order to show them. A group of
      many classes is shortened if there are more than 40 classes in all, and
      its total shown.

  Returns:
    Lines without a newline at the end.
  """
  columns = _columns(split, test_counts)
  names = [_printable(name) for name in class_names]
  wide = max([_width(n) for n in names] + [5])
  digits = len(str(max(len(names) - 1, 0)))
  group_wide = max([len(g) for g in groups] + [5])
  short = len(names) > _MAX_CLASSES

  class_wide = digits + 1 + wide
  fixed = group_wide + 2 + class_wide + sum(2 + c.width(0) for c in columns)
  bars = sum(c.bar for c in columns)
  cells_left = (_LINE - fixed) // bars
  for column in columns:
    column.cells = max(min(_BAR, cells_left), 1)

  header = [_pad("group", group_wide), _pad("class", class_wide)]
  header += [c.header() for c in columns]
  rule = "─" * max(len("  ".join(header).rstrip()), 1)
  lines = ["  ".join(header).rstrip(), rule]
  for group, ids in groups.items():
    ids, label = list(ids), group
    hidden = range(0)
    if short and len(ids) > 2 * _ENDS + 1:
      hidden = range(_ENDS, len(ids) - _ENDS)
    for k, i in enumerate(ids):
      if k in hidden:
        if k == hidden.start:
          middle = f"{'⋮':>{digits}} {len(hidden)} more classes"
          lines.append(f"{_pad('', group_wide)}  {middle}")
        continue
      title = f"{i:>{digits}} {names[i]}"
      cells = [_pad(label, group_wide), _pad(title, class_wide)]
      cells += [c.cell(i) for c in columns]
      lines.append("  ".join(cells).rstrip())
      label = ""
    if short and ids:
      title = f"{'Σ':>{digits}} {len(ids)} classes"
      cells = [_pad("", group_wide), _pad(title, class_wide)]
      cells += [c.number(c.sum(ids)) for c in columns]
      lines.append("  ".join(cells).rstrip())
    if ids:
      lines.append(rule)
  cells = [_pad("total", group_wide), _pad("", class_wide)]
  cells += [c.number(c.total) for c in columns]
  lines.append("  ".join(cells).rstrip())
  cells = [_pad("max / min", group_wide + 2 + class_wide)]
  cells += [c.text(c.ratio()) for c in columns]
  lines.append("  ".join(cells).rstrip())
  if len(split.irrelevant):
    others = f"{len(split.irrelevant):,} unlabeled images of other classes"
    lines.append(f"and {others}")
  return "\n".join(lines)


class _Column:
  """One column of counts, with or without bars."""

  def __init__(self, name, counts, total, *, bar):
    self.name, self.counts, self.total, self.bar = name, counts, total, bar
    shown = [f"{n:,}" for n in [*counts, total]]
    self.cells = _BAR
    self.digits = max(len(s) for s in [*shown, "" if bar else name])

  def width(self, cells: int) -> int:
    return self.digits + (1 + cells if self.bar else 0)

  def text(self, number: str, bar: str = "") -> str:
    cell = f"{number:>{self.digits}}"
    return f"{cell} {bar:<{self.cells}}" if self.bar else cell

  def number(self, n: int | None) -> str:
    return self.text("?" if n is None else f"{n:,}")

  def header(self) -> str:
    if not self.bar:
      return f"{self.name:>{self.digits}}"
    return _pad(self.name, self.width(self.cells))

  def cell(self, i: int) -> str:
    if not self.counts:
      return self.text("?")
    n = self.counts[i]
    return self.text(f"{n:,}", _draw(n, max(self.counts), self.cells))

  def sum(self, ids: Sequence[int]) -> int | None:
    return sum(self.counts[i] for i in ids) if self.counts else None

  def ratio(self) -> str:
    if not self.counts:
      return "?"
    if min(self.counts) == 0:
      return "-" if max(self.counts) == 0 else "∞"
    return f"{max(self.counts) / min(self.counts):.4g}"


def _columns(split: record.Split, test_counts: Sequence[int]) -> list[_Column]:
  test = [int(n) for n in test_counts]
  columns = [
    _Column("labeled", split.labeled_counts, len(split.labeled), bar=True),
    _Column(
      "unlabeled", split.unlabeled_counts, len(split.unlabeled), bar=True
    ),
  ]
  if len(split.validation):
    held_out = split.validation_counts
    columns.append(
      _Column("valid.", held_out, len(split.validation), bar=False)
    )
  if len(split.probe):
    columns.append(
      _Column("probe", split.probe_counts, len(split.probe), bar=False)
    )
  return [*columns, _Column("test", test, sum(test), bar=False)]


def _draw(n: int, largest: int, cells: int) -> str:
  """A bar of eighths of a cell; one eighth at least for a number above zero."""
  if n == 0:
    return ""
  eighths = max(round(n / largest * cells * 8), 1)
  full, rest = divmod(eighths, 8)
  return "█" * full + (_EIGHTHS[rest] if rest else "")


def _printable(name: str) -> str:
  """The name in at most `_NAME` cells and without control characters."""
  name = "".join(ch if ch.isprintable() else "?" for ch in str(name))
  if _width(name) <= _NAME:
    return name
  while _width(name) > _NAME - 1:
    name = name[:-1]
  return name + "…"


def _width(text: str) -> int:
  """Cells that a terminal needs: two for wide East Asian characters."""
  return sum(
    0
    if unicodedata.combining(ch)
    else 1 + (unicodedata.east_asian_width(ch) in "WF")
    for ch in text
  )


def _pad(text: str, width: int) -> str:
  return text + " " * (width - _width(text))
