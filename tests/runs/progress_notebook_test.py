"""In a notebook: one text, replaced again and again. IPython is a fake here."""

import sys
import types

import pytest

from ltjax.runs import progress, progress_notebook


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def shown(monkeypatch):
  """Puts a kernel in place; returns all that it displayed, in order."""
  texts = []

  class Handle:
    def update(self, data, *, raw):
      assert raw
      texts.append(data["text/plain"])

  def display(data, *, raw, display_id):
    assert raw and display_id
    texts.append(data["text/plain"])
    return Handle()

  shell = types.SimpleNamespace(kernel=object())
  ipython = types.ModuleType("IPython")
  ipython.get_ipython = lambda: shell
  ipython.display = types.ModuleType("IPython.display")
  ipython.display.display = display
  monkeypatch.setitem(sys.modules, "IPython", ipython)
  monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
  return texts


def test_one_text_that_changes(shown, clock, capsys):
  with progress.Progress(400, clock=clock) as line:
    line.stage("embedding", 0, 2, 2, 100)
    for step in range(1, 21):
      clock.now += 0.1
      line.update(10 * step, (step - 1) // 10 + 1, loss=1 / step)
    line.message("CE: accuracy 40.0")
    line.stage("classifier", 1, 2, 2, 100)
    clock.now += 1.0
    line.update(100, 1, accuracy=0.5)
  live = [text.splitlines()[-1] for text in shown if text]
  assert live[0].startswith("[1/2] embedding  epoch 1/2  100 images/s  loss 0.")
  assert live[-2].startswith("[2/2] classifier  epoch 1/2  100 images/s")
  # What stays, in order; a stage that was left half-way leaves nothing.
  assert shown[-1].splitlines() == [
    "CE: accuracy 40.0",
    "[1/2] embedding  done in 0:00:02  loss 0.05",
  ]
  assert capsys.readouterr() == ("", "")


def test_at_most_four_a_second(shown, clock):
  with progress.Progress(10**6, clock=clock) as line:
    line.stage("embedding", 0, 1, 1, 10**6)
    before = len(shown)
    for step in range(1000):
      clock.now += 0.01
      line.update(step, 1)
    assert 35 <= len(shown) - before <= 40  # in 10 seconds


def test_a_notebook_is_a_kernel_with_ipython(shown, monkeypatch):
  assert progress_notebook.present()
  shell = types.SimpleNamespace()  # IPython on a terminal
  monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
  assert not progress_notebook.present()
  monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
  assert not progress_notebook.present()
  monkeypatch.delitem(sys.modules, "IPython")
  assert not progress_notebook.present()


def test_a_stream_that_was_asked_for_gets_plain_lines(shown, capsys):
  with progress.Progress(100, sys.stderr) as line:
    line.stage("embedding", 0, 1, 1, 100)
    line.update(100, 1)
  assert shown == []
  assert capsys.readouterr().err.startswith("[1/1] embedding  epoch 1/1")
