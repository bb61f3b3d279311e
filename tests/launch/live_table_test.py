"""The table: a line each for jobs that run side by side."""

import io

from ltjax.launch import jobs, live_table


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def logs(tmp_path, *names):
  """Returns jobs with logs, and a function that writes to them."""
  found = [jobs.Job(name, ["x"], tmp_path / name) for name in names]

  def write(name, text):
    with open(tmp_path / name, "a") as log:
      log.write(text + "\n")

  for job in found:
    write(job.name, "$ x")
  return found, write


def test_plain_lines_come_when_they_are_new_and_not_too_often(tmp_path):
  running, write = logs(tmp_path, "a", "b")
  stream, clock = io.StringIO(), Clock()
  with live_table.LiveTable(stream, clock=clock) as shown:
    shown.say("a begins")
    clock.now += 60
    shown.watch(running)
    assert stream.getvalue() == "a begins\n"  # The command is no news.
    write("a", "epoch 1")
    clock.now += 29
    shown.watch(running)
    assert stream.getvalue() == "a begins\n"
    clock.now += 1
    shown.watch(running)
    assert stream.getvalue() == "a begins\na: epoch 1\n"
    write("a", "epoch 2 " + 200 * "x")  # is not broken into lines
    write("b", "epoch 9")
    clock.now += 30
    shown.watch(running)
    wanted = f"a begins\na: epoch 1\na: epoch 2 {200 * 'x'}\nb: epoch 9\n"
    assert stream.getvalue() == wanted
    clock.now += 60
    shown.watch(running)
    assert stream.getvalue() == wanted


def test_a_terminal_has_a_line_a_job(tmp_path, monkeypatch):
  monkeypatch.setenv("COLUMNS", "40")
  monkeypatch.setenv("TERM", "xterm")
  running, write = logs(tmp_path, "seed0", "seed1")
  write("seed0", "[1/5] embedding")
  write("seed1", "[2/5] a line that is longer than the terminal is wide")
  stream, clock = io.StringIO(), Clock()
  with live_table.LiveTable(stream, True, clock=clock) as shown:
    clock.now += 1
    shown.watch(running)
    shown._live.refresh()
    shown.say("seed2: finished before [/not markup]")
    clock.now += 1
    shown.watch(running[:1])
    drawn = stream.getvalue()
    shown._live.refresh()
    last = stream.getvalue()[len(drawn) :]
  assert "seed0  [1/5] embedding" in drawn
  assert "seed1  [2/5] a line that is longer" in drawn and "…" in drawn
  assert "wide" not in drawn
  assert "seed2: finished before [/not markup]" in drawn
  assert "seed0" in last and "seed1" not in last
