"""A process of PyTorch that trains an epoch whenever it is told to.

It reads a line of JSON with the settings, answers how its loops run, and then
answers each name of a loop with the seconds of an epoch; at the end of its input
it ends. `torch_client` starts it. A process of its own keeps the two libraries
apart: their threads, and on a GPU their versions of cuDNN. It needs no JAX.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any

from ltjax.benchmarks import torch_networks, torch_peer


def serve(lines: IO[str], answers: IO[str]) -> None:
  """Answers until the lines end.

  Args:
    lines: first the settings, `names` of loops among them; then names.
    answers: gets a line of JSON for each.
  """

  def answer(value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()

  settings = json.loads(lines.readline())
  names = settings.pop("names")
  try:
    loops = {name: torch_peer.make(name, **settings) for name in names}
  except ModuleNotFoundError as error:
    answer({"error": f"The Python of the peer has no module {error.name}."})
    return
  except (ValueError, RuntimeError) as error:
    answer({"error": str(error)})
    return
  torch = torch_networks.library()
  how = {name: loops[name][1] | {"torch": torch.__version__} for name in names}
  answer({"how": how})
  for line in lines:
    answer({"seconds": loops[line.strip()][0]()})


if __name__ == "__main__":
  # What PyTorch or a compiler prints must not come between the answers.
  answers_only = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  serve(sys.stdin, answers_only)
