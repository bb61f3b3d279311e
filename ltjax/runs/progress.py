"""What a person sees while a run trains.

On a terminal, one live line: the stage, its bar, the epoch, images per second,
loss, accuracy, and the time left; a stage that ends leaves one line behind. In
a file, a pipe or a batch queue plain lines: one for each epoch and, in long
epochs, at most one each 30 seconds. In a notebook, one line that changes. The
time left is estimated by the rate of the last half minute, compiling left out,
and for stages to come by that of the run so far.
"""

from __future__ import annotations

import atexit
import collections
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import os
import sys
import time
from typing import Any, NamedTuple, TextIO

from ltjax.runs import progress_notebook

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
    in_stage, in_run: seconds left for either; None if not known yet.
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


_PLAIN_INTERVAL = 30.0  # seconds
_RATE_WINDOW = 30.0  # seconds


class Progress:
  """Shows how far a run is. Use it as a context manager.

  Leaving the context, also by an exception, gives the terminal back as it was.

  Args:
    total_images: images the whole run trains on, over all stages and epochs.
    stream: where to write.
    interactive: live line (True) or plain lines (False); None: a live line if
      `stream` is a terminal that can show one, or by default a notebook.
    clock: seconds, monotonic.
  """

  def __init__(
    self,
    total_images: int,
    stream: TextIO | None = None,
    interactive: bool | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._total = total_images
    self._stream = sys.stderr if stream is None else stream
    self._clock = clock
    self._stage: Stage | None = None
    self._before = 0  # images of the stages before this one
    self._here = 0  # images of those stages that this process trained on
    self._began = clock()
    self._window = collections.deque([(self._began, 0)])
    self._printed = clock()
    self._live: Any = None
    self._notebook: progress_notebook.Notebook | None = None
    if interactive is None and stream is None and progress_notebook.present():
      self._notebook = progress_notebook.Notebook(self._line, clock=clock)
    elif interactive is None:
      interactive = self._stream.isatty() and os.environ.get("TERM") != "dumb"
    if interactive:
      self._live = self._start_live()

  def stage(
    self,
    name: str,
    index: int,
    stages: int,
    epochs: int,
    images_per_epoch: int,
    *,
    resumed_at: int = 0,
  ) -> None:
    """Begins a stage; the one before it counts as done.

    Args:
      name: as in `loop1/consistency`.
      index: of this stage, from 0.
      stages: how many the run has.
      epochs: of this stage; 0 for one that does not train.
      images_per_epoch: trained on in each epoch.
      resumed_at: images of this stage done by an earlier process.
    """
    self._end_stage()
    # One assignment: the thread that draws never sees an empty window.
    self._window = collections.deque([(self._clock(), resumed_at)])
    self._printed = self._clock()
    self._stage = Stage(
      name=name,
      index=index,
      stages=stages,
      epochs=epochs,
      images_per_epoch=images_per_epoch,
      resumed_at=resumed_at,
      started=self._clock(),
      done=resumed_at,
    )

  def skip(self, images: int) -> None:
    """Counts `images` of stages that an earlier process has finished."""
    self._before += images

  def update(
    self,
    images_done_in_stage: int,
    epoch: int,
    loss: float | None = None,
    accuracy: float | None = None,
  ) -> None:
    """Says how far the stage is; cheap, call it as often as you like.

    Args:
      images_done_in_stage: since the stage began, resumed ones included.
      epoch: the one running or just ended, from 1.
      loss, accuracy: None keeps the last one; the accuracy is in [0, 1].
    """
    stage = self._stage
    if stage is None:
      raise RuntimeError("call stage(...) before update(...)")
    now = self._clock()
    per_epoch = max(stage.images_per_epoch, 1)
    epoch_ended = images_done_in_stage // per_epoch > stage.done // per_epoch
    stage.done, stage.epoch = images_done_in_stage, epoch
    stage.loss = stage.loss if loss is None else float(loss)
    stage.accuracy = stage.accuracy if accuracy is None else float(accuracy)
    if stage.updates == 1 and now > self._window[-1][0]:
      self._window.popleft()  # the first call compiles: no measure of the rate
    stage.updates += 1
    self._window.append((now, stage.done))
    while len(self._window) > 2 and now - self._window[1][0] > _RATE_WINDOW:
      self._window.popleft()
    if self._notebook is not None:
      self._notebook.refresh()
    elif self._live is None and (
      epoch_ended or now - self._printed >= _PLAIN_INTERVAL
    ):
      self._printed = now
      self._print(str(self._line()))

  def message(self, text: str) -> None:
    """Prints `text`; on a terminal it goes above the live line."""
    self._print(text)

  def close(self) -> None:
    """Gives the terminal back; closing twice is fine."""
    try:
      self._end_stage()
    finally:
      self._stop_live()

  def __enter__(self) -> Progress:
    return self

  def __exit__(self, *unused: object) -> None:
    self.close()

  def _start_live(self) -> Any:
    from rich import console, live, spinner

    # While the line lives, what others print to the terminal goes above it.
    turning = spinner.Spinner("dots")
    ours = self._stream is sys.stderr
    terminal = console.Console(file=self._stream, force_terminal=True)
    started = live.Live(
      get_renderable=lambda: renderable(self._line(), turning),
      console=terminal,
      refresh_per_second=4,
      transient=True,
      redirect_stderr=ours,
      redirect_stdout=ours and sys.stdout.isatty(),
    )
    started.start()
    atexit.register(self.close)
    return started

  def _stop_live(self) -> None:
    notebook, self._notebook = self._notebook, None
    if notebook is not None:
      notebook.stop()
    live, self._live = self._live, None
    if live is not None:
      atexit.unregister(self.close)
      with _unless_closed():
        live.stop()

  def _end_stage(self) -> None:
    stage, self._stage = self._stage, None
    if stage is None:
      return
    self._before += stage.total
    self._here += stage.done - stage.resumed_at
    lives = self._live is not None or self._notebook is not None
    if lives and stage.done >= stage.total:
      self._print(ended(stage, self._clock()))

  def _print(self, text: str) -> None:
    with _unless_closed():
      if self._notebook is not None:
        self._notebook.print(text)
      elif self._live is None:
        print(text, file=self._stream, flush=True)
      else:
        self._live.console.print(
          text, markup=False, highlight=False, soft_wrap=True
        )

  def _left(self) -> tuple[float | None, float | None]:
    """Seconds left for the stage, and for the run."""
    stage, rate = self._stage, self._rate()
    if stage is None or not rate:
      return None, None
    in_stage = max(stage.total - stage.done, 0) / rate
    later = max(self._total - self._before - stage.total, 0)
    here = self._here + stage.done - stage.resumed_at
    elapsed = self._window[-1][0] - self._began
    average = here / elapsed if elapsed > 0 and here > 0 else rate
    return in_stage, in_stage + later / average

  def _rate(self) -> float | None:
    (first, images), (last, more) = self._window[0], self._window[-1]
    return (more - images) / (last - first) if last > first else None

  def _line(self) -> Line | None:
    stage = self._stage
    if stage is None:
      return None
    in_stage, in_run = self._left()
    return Line(stage, self._rate(), in_stage, in_run, self._clock())


@contextlib.contextmanager
def _unless_closed() -> Iterator[None]:
  """Lets a run go on when nobody reads its lines any more."""
  try:
    yield
  except (BrokenPipeError, ValueError) as error:
    if isinstance(error, ValueError) and "closed file" not in str(error):
      raise
