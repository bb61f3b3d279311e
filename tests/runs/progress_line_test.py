import io

import pytest

from ltjax.runs import progress


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
