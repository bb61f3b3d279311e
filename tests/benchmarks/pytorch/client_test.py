import json
import stat
import sys

import pytest

from benchmarks import budget as budgets
from benchmarks.pytorch import client as torch_client
from benchmarks.pytorch import worker as torch_worker

SETTINGS = {"model": "resnet8", "batch_size": 4, "image": 8}
WORKER = f"""#!{sys.executable}
import json, sys, time
assert sys.argv[1:] == ["-m", "benchmarks.pytorch.worker"]
settings = json.loads(sys.stdin.readline())
def answer(**value):
  print(json.dumps(value), flush=True)
answer(**FIRST)
turns = 0
for line in sys.stdin:
  if line == "make\\n":
    answer(tried={{"layout": "a", "images_per_second": 5.0}})
    time.sleep(SLEEP)
    answer(**MADE)
  else:
    turns += 1
    answer(seconds=turns if settings["name"] == "field" else 10)
open(sys.argv[0] + settings["name"], "w").write(str(settings["model"]))
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
  """Makes an interpreter that answers as told, without PyTorch."""
  monkeypatch.setattr(torch_client, "_REST", 0.0)

  def make(first=None, made=None, sleep=0.0):
    path = tmp_path / "python"
    text = WORKER.replace("FIRST", repr(first or {"torch": "9.9"}))
    made = {"how": {"layout": "b"}} if made is None else made
    path.write_text(
      text.replace("MADE", repr(made)).replace("SLEEP", f"{sleep}")
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)

  return make


def test_turns(python, tmp_path):
  with torch_client.start(python=python(), **SETTINGS) as loops:
    assert list(loops) == ["torch_field", "torch_best"]
    said = []
    for loop in loops.values():
      loop.make(said.append)
    assert [row["layout"] for row in said] == ["a", "a"]
    assert loops["torch_best"].how == {"layout": "b"}
    assert loops["torch_field"].turn() == 1
    assert loops["torch_best"].turn() == 10
    assert loops["torch_field"].turn() == 2
  for name in ("field", "best"):
    assert (tmp_path / f"python{name}").read_text() == "resnet8"


def test_errors_of_the_process(python):
  path = python({"error": "The Python of the peer has no module torch."})
  with pytest.raises(ValueError, match=r"pip install torch.*--peer_python"):
    with torch_client.start(python=path, **SETTINGS):
      pass
  path = python(made={"error": "There is no 'resnet50'"})
  with torch_client.start(python=path, **SETTINGS) as loops:
    with pytest.raises(ValueError, match="^There is no 'resnet50'$"):
      loops["torch_best"].make()


def test_the_process_ends_with_the_budget(python):
  path = python(sleep=60)
  with torch_client.start(names=("best",), python=path, **SETTINGS) as loops:
    (loop,) = loops.values()
    with pytest.raises(budgets.OverError, match="1 s are over"):
      loop.make(budget=budgets.Budget(1))
    # What it tried first is known all the same.
    assert loop.how["tried"] == [{"layout": "a", "images_per_second": 5.0}]


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


FIRST = json.dumps(SETTINGS | {"name": "field"}) + "\n"


class Library:
  __version__ = "9.9"


def test_worker_serves(monkeypatch):
  asked = []

  def make(name, *, say, **settings):
    asked.append((name, settings))
    say({"layout": "b"})
    return lambda: 2.5, {"layout": "a"}

  monkeypatch.setattr(torch_worker.torch_peer, "make", make)
  monkeypatch.setattr(torch_worker.torch_networks, "library", Library)
  answers = Answers()
  torch_worker.serve(Lines(FIRST, "make\n", "turn\n", "turn\n"), answers)
  assert asked == [("field", SETTINGS)]
  assert answers.lines == [
    {"torch": "9.9"},
    {"tried": {"layout": "b"}},
    {"how": {"layout": "a", "torch": "9.9"}},
    {"seconds": 2.5},
    {"seconds": 2.5},
  ]


def test_worker_says_that_there_is_no_torch(monkeypatch):
  def library():
    raise ModuleNotFoundError("no", name="torch")

  monkeypatch.setattr(torch_worker.torch_networks, "library", library)
  answers = Answers()
  torch_worker.serve(Lines(FIRST), answers)
  said = "The Python of the peer has no module torch."
  assert answers.lines == [{"error": said}]


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_worker_says_why_not(error, monkeypatch):
  def make(name, **settings):
    raise error("too large")

  monkeypatch.setattr(torch_worker.torch_peer, "make", make)
  monkeypatch.setattr(torch_worker.torch_networks, "library", Library)
  answers = Answers()
  torch_worker.serve(Lines(FIRST, "make\n"), answers)
  assert answers.lines == [{"torch": "9.9"}, {"error": "too large"}]
