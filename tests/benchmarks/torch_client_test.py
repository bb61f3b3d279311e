import json
import stat
import sys

import pytest

from ltjax.benchmarks import torch_client, torch_worker

SETTINGS = {"model": "resnet8", "batch_size": 4, "image": 8}
WORKER = f"""#!{sys.executable}
import json, sys
assert sys.argv[1:] == ["-m", "ltjax.benchmarks.torch_worker"]
settings = json.loads(sys.stdin.readline())
print(json.dumps(ANSWER), flush=True)
for count, line in enumerate(sys.stdin):
  seconds = 1 + count if line == "field\\n" else 10
  print(json.dumps({{"seconds": seconds}}), flush=True)
open(sys.argv[0] + ".ended", "w").write(str(settings["names"]))
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
  """Makes an interpreter that answers as told, without PyTorch."""
  monkeypatch.setattr(torch_client, "_REST", 0.0)

  def make(answer):
    path = tmp_path / "python"
    path.write_text(WORKER.replace("ANSWER", repr(answer)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)

  return make


def test_turns(python, tmp_path):
  how = {"field": {"layout": "a"}, "best": {"layout": "b"}}
  path = python({"how": how})
  with torch_client.start(python=path, **SETTINGS) as loops:
    assert list(loops) == ["torch_field", "torch_best"]
    assert loops["torch_best"].how == {"layout": "b"}
    assert loops["torch_field"].turn() == 1
    assert loops["torch_best"].turn() == 10
    assert loops["torch_field"].turn() == 3
  assert (tmp_path / "python.ended").read_text() == "['field', 'best']"


def test_errors_of_the_process(python):
  path = python({"error": "The Python of the peer has no module torch."})
  with pytest.raises(ValueError, match=r"pip install torch.*--peer_python"):
    with torch_client.start(python=path, **SETTINGS):
      pass
  path = python({"error": "There is no 'resnet50'"})
  with pytest.raises(ValueError, match="^There is no 'resnet50'$"):
    with torch_client.start(python=path, **SETTINGS):
      pass


def test_a_process_that_dies(tmp_path):
  path = tmp_path / "python"
  path.write_text("#!/bin/sh\nexit 3\n")
  path.chmod(path.stat().st_mode | stat.S_IXUSR)
  with pytest.raises(ValueError, match="ended with exit code 3"):
    with torch_client.start(python=str(path), **SETTINGS):
      pass


def test_no_such_interpreter():
  with pytest.raises(
    ValueError, match="--peer_python is '/no/python': No such"
  ):
    with torch_client.start(python="/no/python", **SETTINGS):
      pass


class Answers:
  def __init__(self):
    self.lines = []

  def write(self, text):
    self.lines.append(json.loads(text))

  def flush(self):
    pass


class Lines:
  """Lines as of a pipe."""

  def __init__(self, *lines):
    self._lines = iter(lines)

  def readline(self):
    return next(self._lines)

  def __iter__(self):
    return self._lines


FIRST = json.dumps(SETTINGS | {"names": ["field"]}) + "\n"


def test_worker_serves(monkeypatch):
  asked = []

  def make(name, **settings):
    asked.append((name, settings))
    return lambda: 2.5, {"layout": "a"}

  class Library:
    __version__ = "9.9"

  monkeypatch.setattr(torch_worker.torch_peer, "make", make)
  monkeypatch.setattr(torch_worker.torch_networks, "library", Library)
  answers = Answers()
  torch_worker.serve(Lines(FIRST, "field\n", "field\n"), answers)
  assert asked == [("field", SETTINGS)]
  assert answers.lines == [
    {"how": {"field": {"layout": "a", "torch": "9.9"}}},
    {"seconds": 2.5},
    {"seconds": 2.5},
  ]


@pytest.mark.parametrize(
  "error, said",
  [
    (
      ModuleNotFoundError("no", name="torch"),
      "The Python of the peer has no module torch.",
    ),
    (ValueError("too large"), "too large"),
    (RuntimeError("no loop ran"), "no loop ran"),
  ],
)
def test_worker_says_why_not(error, said, monkeypatch):
  def make(name, **settings):
    raise error

  monkeypatch.setattr(torch_worker.torch_peer, "make", make)
  answers = Answers()
  torch_worker.serve(Lines(FIRST), answers)
  assert answers.lines == [{"error": said}]
