"""The line that says how far a stage is, as text and for a live terminal.

A line is a row of parts, each with an importance. A terminal too narrow for
all of them loses the least important first, never half a part.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any, NamedTuple

_BAR_WIDTH = 12


@dataclasses.dataclass
class Stage:
  """The stage now running; `done` counts images from its very beginning."""

  name: str
  index: int
  stages: int
  epochs: int
  images_per_epoch: int
  resumed_at: int
  started: float
  done: int = 0
  epoch: int = 1
  updates: int = 0
  loss: float | None = None
  accuracy: float | None = None

  @property
  def total(self) -> int:
    """Images the stage trains on, over all its epochs."""
    return self.epochs * self.images_per_epoch


class Line(NamedTuple):
  """All that a line shows.

  Args:
    stage: the stage now running.
    rate: images per second; None if not known yet.
    in_stage: seconds left for the stage; None if not known yet.
    in_run: seconds left for the run; None if not known yet.
    now: seconds, of the clock of `stage.started`.
  """

  stage: Stage
  rate: float | None
  in_stage: float | None
  in_run: float | None
  now: float

  def __str__(self) -> str:
    return "  ".join(text for _, text in self.parts())

  def parts(self) -> list[tuple[int, str]]:
    """The parts, left to right, each with its importance."""
    stage = self.stage
    found = [(9, _heading(stage))]
    if stage.epochs:
      found.append((8, f"epoch {stage.epoch}/{stage.epochs}"))
    if not stage.updates:
      what = "compiling " if stage.epochs else ""
      found.append((6, what + duration(self.now - stage.started)))
    if self.rate:
      found.append((3, f"{self.rate:,.0f} images/s"))
    found.extend(_results(stage))
    if self.in_stage is not None:
      found.append((6, f"left {duration(self.in_stage)}"))
    if self.in_run is not None:
      found.append((8, f"run {duration(self.in_run)}"))
    return found

  def fitting(self, width: int) -> list[str | None]:
    """The parts that fit `width` columns; None stands for the bar."""
    parts: list[tuple[int, str | None]] = list(self.parts())
    if self.stage.epochs:
      parts.insert(1, (4, None))
    while len(parts) > 1 and _width(parts) > width:
      parts.remove(min(parts, key=lambda part: part[0]))
    return [text for _, text in parts]


def ended(stage: Stage, now: float) -> str:
  """The line that a stage leaves behind on a terminal."""
  texts = [text for _, text in _results(stage)]
  took = f"done in {duration(now - stage.started)}"
  return "  ".join([_heading(stage), took, *texts])


def renderable(line: Line | None, spinner: Any) -> Any:
  """What rich draws: spinner, heading, bar, numbers."""
  return "" if line is None else _Fitted(line, spinner)


def duration(seconds: float) -> str:
  """Seconds as `h:mm:ss`."""
  minutes, second = divmod(int(seconds + 0.5), 60)
  hours, minute = divmod(minutes, 60)
  return f"{hours}:{minute:02}:{second:02}"


class _Fitted(NamedTuple):
  line: Line
  spinner: Any

  def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
    from rich import progress_bar, table, text

    stage = self.line.stage
    bar = progress_bar.ProgressBar(
      total=max(stage.total, 1), completed=stage.done, width=_BAR_WIDTH
    )
    texts = self.line.fitting(options.max_width - 3)
    cells = [bar if words is None else text.Text(words) for words in texts]
    grid = table.Table.grid(padding=(0, 2, 0, 0))
    for _ in range(len(cells) + 1):
      grid.add_column(no_wrap=True)
    grid.add_row(self.spinner, *cells)
    yield grid


def _heading(stage: Stage) -> str:
  return f"[{stage.index + 1}/{stage.stages}] {stage.name}"


def _results(stage: Stage) -> Iterator[tuple[int, str]]:
  if stage.loss is not None:
    yield 5, f"loss {stage.loss:.4g}"
  if stage.accuracy is not None:
    yield 7, f"accuracy {100 * stage.accuracy:.1f}%"


def _width(parts: list[tuple[int, str | None]]) -> int:
  texts = [_BAR_WIDTH if text is None else len(text) for _, text in parts]
  return sum(texts) + 2 * (len(texts) - 1)
