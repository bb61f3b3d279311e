"""Tests of the command line, end to end, on the embedded default.

Child processes run configs/digits_sslt.py with its own network and data, for
two epochs a stage. Failures of training itself are in `bad_input_test`.
"""

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys

import main_flags
import pytest
import runs

from ltjax import main
from ltjax.checkpoints import manager as checkpoints
from ltjax.runs import interrupts
from ltjax.training import fit

CONFIG = "--config=configs/digits_sslt.py"
TINY = (
  "--config.loops=1",
  "--config.data.validation.per_class=2",
  *(
    f"--config.{block}.epochs=2"
    for block in ("embedding", "classifier", "consistency", "refit")
  ),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """Compiles once for all children, who must not read what others write."""
  return {
    "JAX_COMPILATION_CACHE_DIR": tmp_path_factory.mktemp("compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0,
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": -1,
  }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
  """A finished run: (workdir, process)."""
  workdir = tmp_path_factory.mktemp("digits") / "run"
  done = runs.main(CONFIG, f"--workdir={workdir}", *TINY, **cache)
  assert done.returncode == 0, done.stderr
  return workdir, done


def test_trains_from_nothing_to_a_report(finished):
  workdir, done = finished
  summary = json.loads((workdir / "summary.json").read_text())
  assert summary["finished"] and len(summary["evaluations"]) == 8
  assert sum(summary["test_counts"]) == 500
  assert summary["labeled_counts"][0] == 20
  assert summary["labeled_counts"][-1] == 2
  for name in (
    "report.md",
    "plots/class_histogram.png",
    "plots/accuracy_over_loops.png",
    "plots/confusion_matrix.png",
    "plots/pseudo_label_accuracy.png",
  ):
    assert (workdir / name).stat().st_size > 0, name
  assert list((workdir / "tensorboard").iterdir())


def test_prints_the_table_and_the_result(finished):
  workdir, done = finished
  first, *_, last = done.stdout.splitlines()
  columns = ["group", "class", "labeled", "unlabeled", "valid.", "test"]
  assert first.split() == columns
  assert re.fullmatch(
    r"SSLT loop 1: test accuracy [\d.]+ % \(many [\d.]+, medium [\d.]+, few"
    r" [\d.]+\), balanced accuracy [\d.]+ %\."
    rf" Report: {re.escape(str(workdir))}/report\.md",
    last,
  )


def test_progress_is_in_plain_lines_without_a_terminal(finished):
  _, done = finished
  lines = done.stderr.splitlines()
  assert "\x1b" not in done.stderr
  pattern = (
    r"\[1/5\] embedding  epoch 2/2  [\d,]+ images/s  loss [\d.]+  accuracy"
    r" [\d.]+%  left \d+:\d\d:\d\d  run \d+:\d\d:\d\d"
  )
  assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 1
  for start in (
    "CE (g'): test accuracy ",
    "Decoupling: test accuracy ",
    "loop1/pseudo_label: accuracy ",
    "SSLT loop 1 (g'): test accuracy ",
    "SSLT loop 1: test accuracy ",
  ):
    assert sum(line.startswith(start) for line in lines) == 1, start
  assert "Warning" not in done.stderr and "Traceback" not in done.stderr


def test_a_finished_run_says_so_and_does_nothing(finished, cache):
  workdir, _ = finished
  before = runs.files(workdir)
  done = runs.main(CONFIG, f"--workdir={workdir}", *TINY, **cache)
  assert done.returncode == 0
  assert done.stdout.startswith(f"The run in {workdir} is finished. SSLT loop")
  assert done.stderr == "" and runs.files(workdir) == before


def test_another_config_is_refused(finished):
  workdir, _ = finished
  before = runs.files(workdir)
  done = runs.main(CONFIG, f"--workdir={workdir}", *TINY, "--config.seed=1")
  assert done.returncode == 1 and done.stdout == ""
  assert done.stderr == (
    f"WorkdirError: {workdir} holds a run with another config:\n"
    "  seed: there 0, here 1\n"
    "Choose another --workdir, or run it with the config it was started"
    " with.\n"
  )
  assert runs.files(workdir) == before


def test_a_dry_run_writes_nothing(tmp_path):
  """Of a network that compiles fast."""
  runs.write_set(tmp_path / runs.SET)
  toys = runs.ROOT / "tests" / "toy_config.py"
  done = runs.main(
    f"--config={toys}", "--workdir=run", "--dry_run", cwd=tmp_path
  )
  assert done.returncode == 0 and done.stderr == ""
  assert [path.name for path in tmp_path.iterdir()] == [runs.SET]
  for text in (
    f"source: npz:{runs.SET}",
    "max / min",
    "backbone/kernel",
    "loop1/refit",
  ):
    assert text in done.stdout, text


@pytest.fixture
def ends(monkeypatch, capsys):
  """Runs `main` with a `train` that raises; returns (code, stdout, stderr)."""

  def run(error):
    def train(*unused, **also_unused):
      raise error

    monkeypatch.setattr(main.train, "train", train)
    main_flags.put(monkeypatch, config=runs.config())
    with pytest.raises(SystemExit) as stop:
      main.main(["ltjax.main"])
    return stop.value.code, *capsys.readouterr()

  return run


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_its_code(ends, signum):
  assert ends(interrupts.Interrupted(signum)) == (
    128 + signum,
    f"Stopped by {signum.name} and saved; the same command goes on.\n",
    "",
  )


def test_a_second_ctrl_c_ends_at_once(ends):
  code, out, err = ends(KeyboardInterrupt())
  assert code == 130 and err == ""
  assert (
    out == "Stopped at once; the same command goes on from what is saved.\n"
  )


@pytest.mark.parametrize(
  "error, message",
  [
    (
      OSError(errno.ENOSPC, "No space left on device", "/x/summary.json"),
      "OSError: [Errno 28] No space left on device: '/x/summary.json' Free some"
      " space and run the same command again: it goes on from what is saved.\n",
    ),
    (PermissionError(13, "no", "/x"), "PermissionError: [Errno 13] no: '/x'\n"),
    (fit.NonFiniteLossError("at step 3"), "NonFiniteLossError: at step 3\n"),
    (checkpoints.CheckpointError("none"), "CheckpointError: none\n"),
  ],
)
def test_failures_end_with_one_and_a_line(ends, error, message):
  assert ends(error) == (1, "", message)


def test_a_mistake_of_ours_keeps_its_traceback(ends):
  with pytest.raises(ZeroDivisionError):
    ends(ZeroDivisionError())


def test_starting_imports_no_framework_nor_anything_slow():
  code = (
    "import sys, ltjax.main;"
    "print([m for m in ('tensorflow', 'torch', 'matplotlib.pyplot', 'sklearn')"
    " if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    env=runs.environment(),
    capture_output=True,
    text=True,
  )
  assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--workdir=x"], "--config is needed, as in --config=configs/digits"),
    ([CONFIG], "--workdir is needed, or --dry_run or --check."),
    (
      ["--config=configs/nope.py", "--workdir=x"],
      "The config file 'configs/nope.py' does not exist in",
    ),
    (
      [CONFIG, "--workdir=x", "--config.embedding.epoch=3"],
      "--config.embedding.epoch: the config has no field 'epoch'. Did you mean"
      " epochs?",
    ),
    (
      [CONFIG, "--workdir=x", "--config.embeding.epochs=3"],
      "--config.embeding.epochs: the config has no field 'embeding'. Did you"
      " mean embedding?",
    ),
    (
      [CONFIG, "--workdir=x", "--config.seed=abc"],
      "flag --config.seed=abc: invalid literal for int()",
    ),
    (
      [f"{CONFIG}:variant=papr", "--workdir=x"],
      "variant is 'papr'; choose one of paper, author_code.",
    ),
    (
      [f"{CONFIG}:rhoo=3", "--workdir=x"],
      "The config argument 'rhoo=3' is unknown; known are",
    ),
    ([CONFIG, "--workdir=x", "extra"], "Unknown arguments: extra"),
    (
      [CONFIG, "--wrkdir=x"],
      "Unknown command line flag 'wrkdir'. Did you mean",
    ),
  ],
  ids=lambda value: value[-1].lstrip("-") if isinstance(value, list) else "",
)
def test_mistakes_on_the_command_line(arguments, message):
  done = runs.main(*arguments)
  assert done.returncode == 1 and done.stdout == ""
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert done.stderr.count("\n") <= 2
  assert not (runs.ROOT / "x").exists()


def test_a_mistake_in_the_code_of_a_config_is_shown_where_it_is(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from ltjax import config\n"
    "def get_config():\n"
    "  c = config.default()\n"
    "  c.embeding.epochs = 3\n"
    "  return c\n"
  )
  done = runs.main(f"--config={path}", f"--workdir={tmp_path / 'run'}")
  assert done.returncode == 1
  assert f'File "{path}", line 4' in done.stderr
  assert "embeding" in done.stderr


def test_the_live_line_on_a_terminal(tmp_path, cache):
  """One line that is redrawn, and at the end a terminal as it was."""
  screen, terminal = pty.openpty()
  child = subprocess.Popen(
    runs.command(CONFIG, f"--workdir={tmp_path / 'run'}", *TINY),
    cwd=runs.ROOT,
    env=runs.environment(**cache, TERM="xterm-256color", COLUMNS=100),
    stdin=subprocess.DEVNULL,
    stdout=terminal,
    stderr=terminal,
  )
  os.close(terminal)
  shown = b""
  try:
    while True:
      try:
        part = os.read(screen, 65536)
      except OSError:  # EIO: the child has closed its end.
        break
      if not part:
        break
      shown += part
    assert child.wait(timeout=60) == 0, shown.decode()
  finally:
    if child.poll() is None:
      child.kill()
      child.wait()
    os.close(screen)
  text = shown.decode()
  assert "[4/5] loop1/consistency" in text and "images/s" in text
  hidden, visible = text.rfind("\x1b[?25l"), text.rfind("\x1b[?25h")
  assert -1 < hidden < visible  # the cursor is back
  assert "Traceback" not in text


@pytest.fixture
def several(monkeypatch):
  """Sets flags for two seeds; returns what `seeds` and `train` were asked."""
  asked = []

  def call(name, result):
    def called(*args, **settings):
      asked.append((name, args[1:], settings))
      return result

    return called

  monkeypatch.setattr(main.seeds, "train", call("train", ["seed1"]))
  monkeypatch.setattr(main.seeds, "plan", call("plan", "2 runs\n"))
  monkeypatch.setattr(main.dry_run, "show", call("dry_run", None))
  monkeypatch.setattr(main.train, "train", None)  # That is for one seed.
  settings = {"config": runs.config(seeds=2), "data_dir": "d"}
  main_flags.put(monkeypatch, **settings, seeds_at_once=3)
  monkeypatch.setattr(sys, "argv", ["main.py", "--config=c", "--workdir=x"])
  return asked


def test_several_seeds_of_which_one_fails(several, capsys):
  with pytest.raises(SystemExit) as stop:
    main.main(["ltjax.main"])
  assert stop.value.code == 1
  arguments = ["--config=c", "--workdir=x"]
  assert several == [("train", ("x", arguments), {"at_once": 3})]
  assert capsys.readouterr().err == (
    "Failed: seed1. The same command tries again.\n"
  )


def test_a_check_is_of_one_seed(several, monkeypatch, capsys):
  settings = {"config": runs.config(seeds=2), "data_dir": "d"}
  main_flags.put(monkeypatch, **settings, check=True)
  with pytest.raises(SystemExit):
    main.main(["ltjax.main"])
  assert several == [] and "--config.seeds=1" in capsys.readouterr().err


def test_a_dry_run_of_several_seeds_plans_before_it_takes_the_device(
  several, monkeypatch, capsys
):
  settings = {"config": runs.config(seeds=2), "data_dir": "d"}
  settings |= {"dry_run": True, "workdir": None}
  main_flags.put(monkeypatch, **settings, seeds_at_once=3)
  main.main(["ltjax.main"])
  assert several == [
    ("plan", ("WORKDIR",), {"at_once": 3}),
    ("dry_run", (), {"data_dir": "d"}),
  ]
  assert capsys.readouterr().out == "\n2 runs\n"
