"""PyTorch as a peer: a process that trains when asked, and else is quiet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from ltjax.benchmarks import torch_peer

# Idle threads of a pool spin for a while; nobody else's turn begins before.
_REST = 0.3


class TorchLoop:
  """A loop of the process.

  Args:
    ask: `name -> answer`, has the process train an epoch of a loop.
    name: of the loop.
    how: what it chose: layout, precision, compilation, PyTorch's version.
  """

  def __init__(self, ask: Any, name: str, how: dict[str, Any]):
    self._ask, self._name, self.how = ask, name, how

  def turn(self) -> float:
    """Trains an epoch; returns its seconds."""
    seconds = self._ask(self._name)["seconds"]
    time.sleep(_REST)
    return seconds


@contextlib.contextmanager
def start(
  *,
  names: Sequence[str] = torch_peer.NAMES,
  python: str = "",
  **settings: Any,
) -> Iterator[dict[str, TorchLoop]]:
  """Starts the process; it ends with the context.

  Args:
    names: of the loops.
    python: the interpreter that has PyTorch; this one by default.
    **settings: `model`, `batch_size`, `image`, `dtype` and `steps`.

  Yields:
    The loops, as `torch_field` and so on.

  Raises:
    ValueError: if there is no PyTorch, or it cannot do what was asked.
  """
  root = str(Path(__file__).parents[2])
  paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
  try:
    process = subprocess.Popen(
      [python or sys.executable, "-m", "ltjax.benchmarks.torch_worker"],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
  except OSError as error:
    raise ValueError(
      f"--peer_python is {python!r}: {error.strerror}."
    ) from None
  lines, answers = process.stdin, process.stdout
  assert lines is not None and answers is not None

  def ask(line: str) -> dict[str, Any]:
    with contextlib.suppress(BrokenPipeError):
      lines.write(line + "\n")
      lines.flush()
    answer = answers.readline()
    if not answer:
      raise ValueError(
        f"PyTorch's process ended with exit code {process.wait()}; what it said"
        " is above."
      )
    return json.loads(answer)

  try:
    said = ask(json.dumps(settings | {"names": list(names)}))
    if "error" in said:
      raise ValueError(
        f"{said['error']} To compare with PyTorch, install it (pip install"
        " torch) here, or name an interpreter that has it by --peer_python."
        if "no module" in said["error"]
        else said["error"]
      )
    yield {
      f"torch_{name}": TorchLoop(ask, name, said["how"][name]) for name in names
    }
  finally:
    with contextlib.suppress(BrokenPipeError):
      lines.close()
    try:
      process.wait(timeout=10)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
    answers.close()
