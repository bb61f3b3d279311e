import io
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from ltjax.runs import progress


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock():
  return Clock()


def plain(total, clock):
  out = io.StringIO()
  shown = progress.Progress(total, out, clock=clock)
  return shown, lambda: out.getvalue().splitlines()


class TestPlain:
  def test_one_line_for_each_epoch(self, clock):
    shown, lines = plain(200, clock)
    with shown:
      shown.stage("embedding", 0, 1, 2, 100)
      for step in range(1, 21):
        clock.now += 0.5
        epoch = (step - 1) // 10 + 1
        shown.update(10 * step, epoch, loss=1 / step, accuracy=step / 20)
    assert lines() == [
      "[1/1] embedding  epoch 1/2  20 images/s  loss 0.1  accuracy 50.0%  "
      "left 0:00:05  run 0:00:05",
      "[1/1] embedding  epoch 2/2  20 images/s  loss 0.05  accuracy 100.0%  "
      "left 0:00:00  run 0:00:00",
    ]

  def test_long_epochs_speak_each_half_minute(self, clock):
    shown, lines = plain(1000, clock)
    shown.stage("embedding", 0, 1, 1, 1000)
    for step in range(1, 101):
      clock.now += 1.0
      shown.update(10 * step, 1)
    assert len(lines()) == 4  # at 30, 60 and 90 seconds and at the end
    assert lines()[0].endswith("10 images/s  left 0:01:10  run 0:01:10")

  def test_an_update_over_many_epochs_is_one_line(self, clock):
    shown, lines = plain(500, clock)
    shown.stage("classifier", 0, 1, 5, 100)
    shown.update(0, 1)
    shown.update(299, 3)
    shown.update(299, 3)
    assert len(lines()) == 1
    assert "epoch 3/5" in lines()[0]

  def test_keeps_the_last_loss_and_accuracy(self, clock):
    shown, lines = plain(20, clock)
    shown.stage("a", 0, 1, 2, 10)
    shown.update(10, 1, loss=0.5, accuracy=0.25)
    shown.update(20, 2)
    assert "loss 0.5  accuracy 25.0%" in lines()[1]

  def test_the_rate_leaves_out_compiling_and_the_distant_past(self, clock):
    shown, lines = plain(10_000, clock)
    shown.stage("a", 0, 1, 100, 100)
    clock.now = 60.0
    shown.update(100, 1)  # the first step, compiled for a minute
    assert "  2 images/s" in lines()[-1]
    clock.now += 1.0
    shown.update(200, 2)
    assert "  100 images/s" in lines()[-1]
    for epoch in range(3, 50):
      clock.now += 4.0
      shown.update(100 * epoch, epoch)
    assert "  25 images/s" in lines()[-1]

  def test_the_run_counts_the_stages_to_come(self, clock):
    shown, lines = plain(1000, clock)
    shown.skip(300)
    shown.stage("b", 1, 4, 2, 100, resumed_at=100)
    clock.now += 10.0
    shown.update(200, 2)
    # 100 images took 10 seconds here; 500 more are to come after this stage.
    assert lines()[-1].endswith("left 0:00:00  run 0:00:50")
    shown.stage("c", 2, 4, 1, 200)
    clock.now += 5.0
    shown.update(100, 1)
    shown.update(200, 1)
    # 300 images in 15 seconds: 20 a second for the 300 of the last stage.
    assert lines()[-1].endswith("left 0:00:00  run 0:00:15")

  def test_messages_and_stages_without_training(self, clock):
    shown, lines = plain(10, clock)
    with shown:
      shown.stage("loop1/pseudo_label", 0, 2, 0, 0)
      shown.message("few 41.8 [bold]")
      shown.stage("b", 1, 2, 1, 10)
      shown.update(10, 1)
    assert lines()[0] == "few 41.8 [bold]"
    assert lines()[1].startswith("[2/2] b  epoch 1/1")
    assert len(lines()) == 2

  def test_update_before_stage_is_refused(self, clock):
    shown, _ = plain(10, clock)
    with pytest.raises(RuntimeError, match=r"call stage\(...\) before"):
      shown.update(1, 1)

  @pytest.mark.parametrize("how", ["closed", "broken"])
  def test_a_reader_that_went_away_stops_nothing(self, clock, how):
    out = io.StringIO()
    if how == "broken":

      def broken(text):
        raise BrokenPipeError

      out.write = broken
    shown = progress.Progress(10, out, clock=clock)
    out.isatty = lambda: False
    if how == "closed":
      out.close()
    with shown:
      shown.stage("a", 0, 1, 1, 10)
      shown.update(10, 1)
      shown.message("text")

  def test_other_value_errors_are_not_hidden(self, clock):
    out = io.StringIO()

    def wrong(text):
      raise ValueError("another error")

    out.write = wrong
    with pytest.raises(ValueError, match="another error"):
      progress.Progress(10, out, clock=clock).message("text")

  def test_a_dumb_terminal_gets_plain_lines(self, monkeypatch):
    out = io.StringIO()
    out.isatty = lambda: True
    monkeypatch.setenv("TERM", "dumb")
    with progress.Progress(10, out) as shown:
      shown.message("text")
    assert out.getvalue() == "text\n"


HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class TestLive:
  def test_draws_and_restores(self, clock):
    out = io.StringIO()
    with progress.Progress(20, out, interactive=True, clock=clock) as shown:
      shown.stage("embedding", 0, 2, 2, 10)
      clock.now += 1.0
      shown.update(10, 1, loss=0.5, accuracy=0.5)
      shown.message("above [bold] the line")
      clock.now += 1.0
      shown.update(20, 2)
      shown.stage("classifier", 1, 2, 1, 0)
    text = out.getvalue()
    assert text.index(HIDE) < text.index("above [bold] the line")
    assert "[1/2] embedding  done in 0:00:02  loss 0.5  accuracy 50.0%" in text
    assert text.rindex(SHOW) > text.rindex(HIDE)
    shown.close()
    assert out.getvalue() == text

  def test_a_stage_cut_short_is_not_called_done(self, clock):
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
      with progress.Progress(20, out, interactive=True, clock=clock) as shown:
        shown.stage("embedding", 0, 1, 2, 10)
        shown.update(10, 1)
        raise KeyboardInterrupt
    assert "done in" not in out.getvalue()
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE)


def start_on_terminal(script):
  """Starts a script with a terminal as standard error."""
  ours, theirs = pty.openpty()
  process = subprocess.Popen(
    [sys.executable, "-c", textwrap.dedent(script)],
    stdin=theirs,
    stdout=subprocess.PIPE,
    stderr=theirs,
    env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
  )
  os.close(theirs)
  return process, ours


def read_until(terminal, text=None):
  """Reads the terminal until `text` shows, or to its end."""
  seen = b""
  deadline = time.monotonic() + 30
  while time.monotonic() < deadline:
    try:
      chunk = os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the other end is closed
      break
    seen += chunk
    if not chunk or (text and text in seen.decode(errors="ignore")):
      break
  return seen.decode(errors="ignore")


class TestTerminal:
  def test_a_live_line_and_clean_output(self):
    process, terminal = start_on_terminal("""
      from ltjax.runs import progress
      import sys, time
      with progress.Progress(100) as shown:
        shown.stage("embedding", 0, 1, 2, 50)
        for step in range(1, 11):
          time.sleep(0.06)
          shown.update(10 * step, (step + 4) // 5, loss=0.5)
        print("to stdout")
        print("to stderr", file=sys.stderr)
    """)
    seen = read_until(terminal)
    out, _ = process.communicate(timeout=30)
    os.close(terminal)
    assert process.returncode == 0
    assert out == b"to stdout\n"
    assert "epoch 1/2" in seen
    assert "━" in seen
    assert "to stderr\r\n" in seen
    assert seen.count(HIDE) == 1
    assert seen.rindex(SHOW) > seen.rindex(HIDE)

  @pytest.mark.parametrize("context", [True, False])
  def test_ctrl_c_gives_the_terminal_back(self, context):
    begin = "with shown:" if context else "if True:"
    process, terminal = start_on_terminal(f"""
      from ltjax.runs import progress
      import signal, time
      # A job in the background is started with Ctrl-C ignored.
      signal.signal(signal.SIGINT, signal.default_int_handler)
      shown = progress.Progress(100)
      {begin}
        shown.stage("embedding", 0, 1, 2, 50)
        shown.update(10, 1)
        time.sleep(60)
    """)
    seen = read_until(terminal, "epoch 1/2")
    process.send_signal(signal.SIGINT)
    seen += read_until(terminal)
    process.communicate(timeout=30)
    os.close(terminal)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in seen
    assert seen.rindex(SHOW) > seen.rindex(HIDE)


def make(**changes):
  fields = dict(
    name="loop1/refit",
    index=4,
    stages=14,
    epochs=10,
    images_per_epoch=100,
    resumed_at=0,
    started=5.0,
    done=250,
    epoch=3,
    updates=2,
    loss=1.23456,
    accuracy=0.4567,
  )
  return progress.Stage(**{**fields, **changes})


def test_all_parts():
  line = progress.Line(make(), 1234.4, 75.0, 3723.0, 0.0)
  assert str(line) == (
    "[5/14] loop1/refit  epoch 3/10  1,234 images/s  loss 1.235  "
    "accuracy 45.7%  left 0:01:15  run 1:02:03"
  )


def test_what_is_not_known_is_left_out():
  stage = make(loss=None, accuracy=None)
  line = progress.Line(stage, None, None, None, 0.0)
  assert str(line) == "[5/14] loop1/refit  epoch 3/10"


def test_before_the_first_update_says_how_long_it_compiles():
  stage = make(updates=0, loss=None, accuracy=None, epoch=1)
  line = progress.Line(stage, None, None, None, 12.4)
  assert str(line) == "[5/14] loop1/refit  epoch 1/10  compiling 0:00:07"


def test_a_stage_without_epochs_shows_only_its_time():
  stage = make(updates=0, loss=None, accuracy=None, epochs=0)
  line = progress.Line(stage, None, None, None, 6.0)
  assert str(line) == "[5/14] loop1/refit  0:00:01"
  assert line.fitting(99) == ["[5/14] loop1/refit", "0:00:01"]


def test_a_narrow_terminal_loses_the_least_important_first():
  line = progress.Line(make(), 1234.4, 75.0, 3723.0, 0.0)
  everything = [
    "[5/14] loop1/refit",
    None,
    "epoch 3/10",
    "1,234 images/s",
    "loss 1.235",
    "accuracy 45.7%",
    "left 0:01:15",
    "run 1:02:03",
  ]
  assert line.fitting(200) == everything
  # The text is 101 columns, the bar and its gap 14.
  assert line.fitting(101 + 14) == everything
  assert line.fitting(101 + 14 - 1) == [
    part for part in everything if part != "1,234 images/s"
  ]
  order = []
  for width in range(200, 0, -1):
    missing = [p for p in everything if p not in line.fitting(width)]
    order += [p for p in missing if p not in order]
    shown = line.fitting(width)
    used = sum(12 if p is None else len(p) for p in shown) + 2 * len(shown) - 2
    assert used <= width or len(shown) == 1
  assert order == [
    "1,234 images/s",
    None,
    "loss 1.235",
    "left 0:01:15",
    "accuracy 45.7%",
    "epoch 3/10",
    "run 1:02:03",
  ]


def test_ended():
  assert progress.ended(make(), 3605.0) == (
    "[5/14] loop1/refit  done in 1:00:00  loss 1.235  accuracy 45.7%"
  )


@pytest.mark.parametrize(
  "seconds, text",
  [
    (0.0, "0:00:00"),
    (0.5, "0:00:01"),
    (59.4, "0:00:59"),
    (59.6, "0:01:00"),
    (3599.6, "1:00:00"),
    (90061.0, "25:01:01"),
  ],
)
def test_duration(seconds, text):
  assert progress.duration(seconds) == text


def test_drawn_on_one_line_with_its_bar():
  from rich import console, spinner

  out = io.StringIO()
  terminal = console.Console(file=out, width=130, color_system=None)
  line = progress.Line(make(done=500), 1234.4, 75.0, 3723.0, 0.0)
  dots = spinner.Spinner("dots")
  terminal.print(progress.renderable(line, dots))
  assert out.getvalue().count("\n") == 1
  assert "loop1/refit  ━━━━━━" in out.getvalue()
  assert "run 1:02:03" in out.getvalue()
  assert progress.renderable(None, dots) == ""
