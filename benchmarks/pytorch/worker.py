"""A process of PyTorch that trains an epoch whenever it is told to.

It reads a line of JSON with the settings of one loop and answers which PyTorch
it has; told to `make` the loop it tells what it tries, a line each, and then
how the loop runs; told to take a `turn` it answers the seconds of an epoch. At
the end of its input it ends. `torch_client` starts it. A process of its own
keeps the two libraries apart: their threads, and on a GPU their versions of
cuDNN. It needs no JAX.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any

from benchmarks.pytorch import loops as torch_peer
from benchmarks.pytorch import networks as torch_networks


def serve(lines: IO[str], answers: IO[str]) -> None:
  """Answers until the lines end.

  Args:
    lines: first the settings, the `name` of the loop among them; then `make`,
      and `turn` again and again.
    answers: gets lines of JSON.
  """

  def answer(**value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()

  settings = json.loads(lines.readline())
  try:
    torch = torch_networks.library()
  except ModuleNotFoundError as error:
    answer(error=f"The Python of the peer has no module {error.name}.")
    return
  answer(torch=torch.__version__)
  turn = None
  for line in lines:
    try:
      if line.strip() == "make":
        turn, how = torch_peer.make(
          **settings, say=lambda row: answer(tried=row)
        )
        answer(how=how | {"torch": torch.__version__})
      else:
        assert turn is not None
        answer(seconds=turn())
    except (ValueError, RuntimeError) as error:
      answer(error=str(error))


if __name__ == "__main__":
  # What PyTorch or a compiler prints must not come between the answers.
  answers_only = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  serve(sys.stdin, answers_only)
