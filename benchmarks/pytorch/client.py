"""PyTorch as a peer: processes that train when asked, and else are quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import json
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks import budget as budgets
from benchmarks.pytorch import loops as torch_peer

# Idle threads of a pool spin for a while; nobody else's turn begins before.
_REST = 0.3
Row = dict[str, Any]


class TorchLoop:
  """A loop, in a process of its own.

  Args:
    name: one of `torch_peer.NAMES`.
    python: the interpreter that has PyTorch; this one if empty.
    **settings: `model`, `batch_size`, `image`, `dtype`, `steps` and
      `compile_seconds`.

  Attributes:
    how: what it chose (layout, precision, compilation, PyTorch's version) once
      it is made; before that and if it is stopped, what it `tried` so far.

  Raises:
    ValueError: if there is no such interpreter, or no PyTorch.
  """

  def __init__(self, name: str, python: str, **settings: Any):
    self.how: Row = {"tried": []}
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
      self._process = subprocess.Popen(
        [python or sys.executable, "-m", "benchmarks.pytorch.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # Ctrl-C comes here only.
      )
    except OSError as error:
      raise ValueError(
        f"--peer_python is {python!r}: {error.strerror}."
      ) from None
    try:
      self._ask(json.dumps(settings | {"name": name}))
    except ValueError as error:
      self.close()
      hint = (
        " To compare with PyTorch, install it (pip install torch) here, or name"
        " an interpreter that has it by --peer_python."
      )
      raise ValueError(
        f"{error}{hint if 'no module' in str(error) else ''}"
      ) from None

  def make(
    self,
    say: Callable[[Row], None] = lambda row: None,
    budget: budgets.Budget | None = None,
  ) -> None:
    """Builds the loop.

    Args:
      say: takes what was tried, and how fast it was, as it comes.
      budget: the process ends with it.

    Raises:
      OverError: if the time is over.
      ValueError: if it cannot do what was asked.
    """
    self.how = self._ask("make", say, budget)["how"]

  def turn(self, budget: budgets.Budget | None = None) -> float:
    """Trains an epoch; returns its seconds.

    Args:
      budget: the process ends with it.

    Raises:
      OverError: if the time is over.
    """
    seconds = self._ask("turn", budget=budget)["seconds"]
    time.sleep(_REST)
    return seconds

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()  # pyrefly: ignore
    try:
      self._process.wait(timeout=10)
    except subprocess.TimeoutExpired:
      self._kill()
      self._process.wait()
    self._process.stdout.close()  # pyrefly: ignore

  def _kill(self) -> None:
    """Ends it at once, and what it started: workers of a loader, compilers."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)

  def _ask(
    self,
    line: str,
    say: Callable[[Row], None] = lambda row: None,
    budget: budgets.Budget | None = None,
  ) -> Row:
    lines, answers = self._process.stdin, self._process.stdout
    assert lines is not None and answers is not None
    budget = budget or budgets.Budget()
    budget.check()
    timer = threading.Timer(budget.left, self._kill)
    if budget.left < math.inf:
      timer.start()
    try:
      with contextlib.suppress(BrokenPipeError):
        lines.write(line + "\n")
        lines.flush()
      while answer := answers.readline():
        found = json.loads(answer)
        if "error" in found:
          raise ValueError(found["error"])
        if "tried" not in found:
          return found
        self.how["tried"].append(found["tried"])
        say(found["tried"])
    finally:
      timer.cancel()
    budget.check()
    raise ValueError(
      f"PyTorch's process ended with exit code {self._process.wait()}; what it"
      " said is above."
    )


@contextlib.contextmanager
def start(
  *,
  names: Sequence[str] = torch_peer.NAMES,
  python: str = "",
  **settings: Any,
) -> Iterator[dict[str, TorchLoop]]:
  """Starts the processes; they end with the context.

  Args:
    names: of the loops.
    python: the interpreter that has PyTorch; this one by default.
    **settings: `model`, `batch_size`, `image`, `dtype`, `steps` and
      `compile_seconds`.

  Yields:
    The loops, as `torch_field` and so on, yet to be made.

  Raises:
    ValueError: if there is no PyTorch.
  """
  with contextlib.ExitStack() as stack:
    loops = {}
    for name in names:
      loops[f"torch_{name}"] = TorchLoop(name, python, **settings)
      stack.callback(loops[f"torch_{name}"].close)
    yield loops
