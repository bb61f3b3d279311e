"""Child processes: side by side, pinned, logged, and failures named."""

import os
import signal
import sys
import threading
import time

import pytest

from ltjax.launch import jobs, machine_shares
from ltjax.runs import interrupts


def job(tmp_path, name, code):
  return jobs.Job(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")


def test_a_job_leaves_all_it_prints_in_its_log(tmp_path):
  code = "import sys; print('out'); print('err', file=sys.stderr)"
  told = []
  done = job(tmp_path / "new", "a", code)
  assert jobs.execute([done], [machine_shares.WHOLE], say=told.append) == []
  jobs.execute([done], [machine_shares.WHOLE], say=told.append)
  text = done.log.read_text()
  assert text.count("$ ") == 2  # The second try comes after the first.
  assert text.count("out\n") == text.count("err\n") == 2
  assert told[0].startswith("a on the whole machine: ")
  assert sys.executable in told[0]
  assert told[1] == "a: finished in 0.0 minutes"


def test_failures_are_named_and_the_others_go_on(tmp_path):
  told = []
  failed = jobs.execute(
    [
      job(tmp_path, "bad", "print('why'); print(); raise SystemExit(3)"),
      job(tmp_path, "good", ""),
      job(tmp_path, "worse", "raise SystemExit('no')"),
    ],
    [machine_shares.WHOLE],
    say=told.append,
  )
  assert failed == ["bad", "worse"]
  log = tmp_path / "bad.log"
  assert f"bad: failed with status 3: why (all of it in {log})" in told
  assert "good: finished in 0.0 minutes" in told


def test_no_more_run_than_there_are_pins(tmp_path):
  """Each leaves a file while it runs and counts those of the others."""
  code = (
    "import os, pathlib, sys, time\n"
    f"folder = pathlib.Path({str(tmp_path)!r})\n"
    "mine = folder / f'{os.getpid()}.here'\n"
    "mine.touch()\n"
    "time.sleep(0.1)\n"
    "print('count', len(list(folder.glob('*.here'))))\n"
    "mine.unlink()\n"
  )
  names = ["a", "b", "c", "d"]
  todo, told = [job(tmp_path, name, code) for name in names], []
  assert jobs.execute(todo, [machine_shares.WHOLE] * 2, say=told.append) == []
  assert told[0].startswith("a on ") and told[1].startswith("b on ")
  assert "finished" in told[2]
  counts = [
    int((tmp_path / f"{n}.log").read_text().split("count ")[-1]) for n in names
  ]
  assert max(counts) <= 2


needs_pins = pytest.mark.skipif(
  not hasattr(os, "sched_setaffinity"), reason="the system cannot pin"
)


@needs_pins
def test_a_pinned_job_has_one_core(tmp_path):
  core = min(os.sched_getaffinity(0))
  ours = os.sched_getaffinity(0)
  # It waits, as Python's start takes longer than the pin.
  code = "import os, time; time.sleep(0.1); print(*os.sched_getaffinity(0))"
  pinned = job(tmp_path, "a", code)
  place = machine_shares.Place("it", (core,))
  assert jobs.execute([pinned], [place], say=str) == []
  assert pinned.log.read_text().splitlines()[-1] == str(core)
  assert os.sched_getaffinity(0) == ours


def test_a_job_gets_the_variables_of_its_place(tmp_path, monkeypatch):
  monkeypatch.setenv("BOTH", "ours")
  monkeypatch.setenv("OURS", "kept")
  code = "import os; print(*(os.environ[n] for n in ('BOTH', 'OURS', 'ITS')))"
  place = machine_shares.Place("it", environment={"BOTH": "its", "ITS": "new"})
  asked = job(tmp_path, "a", code)
  assert jobs.execute([asked], [place], say=str) == []
  assert asked.log.read_text().splitlines()[-1] == "its kept new"


def test_what_runs_is_watched(tmp_path):
  seen = []
  todo = [job(tmp_path, name, "") for name in "ab"]
  jobs.execute(
    todo,
    [machine_shares.WHOLE],
    say=str,
    watch=lambda running: seen.append("".join(j.name for j in running)),
  )
  assert set(seen) == {"a", "b"} and seen == sorted(seen)


def test_last_line(tmp_path):
  log = tmp_path / "log"
  assert jobs.last_line(log) == ""
  log.write_bytes(b"")
  assert jobs.last_line(log) == ""
  log.write_bytes(b"first\n  last \xff \n\n \n")
  assert jobs.last_line(log) == "last \ufffd"
  log.write_bytes(b"x" * 10_000 + b"\nend")
  assert jobs.last_line(log) == "end"


SAVES = (
  "import signal, sys, time\n"
  "before = []\n"
  "def save(*unused):\n"
  "  if before:\n"
  "    sys.exit(print('at once'))\n"
  "  before.append(1)\n"
  "  {}\n"
  "signal.signal(signal.SIGTERM, save)\n"
  "print('ready')\n"
  "time.sleep(20)\n"
)


def interrupted(todo, signum, *, times=1, say=str):
  """Executes jobs, interrupts us when two are ready; returns the exception."""
  before = signal.getsignal(signal.SIGTERM)
  # A shell in the background has its children ignore it.
  ours = signal.signal(signal.SIGINT, signal.default_int_handler)

  def texts():
    return [j.log.read_text() for j in todo if j.log.exists()]

  def wait(word):
    for _ in range(1000):
      if sum(f"\n{word}" in text for text in texts()) == 2:
        return
      time.sleep(0.02)

  def interrupt():
    wait("ready")
    for _ in range(times):
      os.kill(os.getpid(), signum)
      wait("asked")

  thread = threading.Thread(target=interrupt)
  thread.start()
  try:
    jobs.execute(todo, [machine_shares.WHOLE] * 2, say=say)
  except (interrupts.Interrupted, KeyboardInterrupt) as stop:
    return stop
  finally:
    thread.join()
    signal.signal(signal.SIGINT, ours)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_asks_the_children_to_save_and_waits(tmp_path, signum):
  saves = SAVES.format("print('asked'); time.sleep(0.2); sys.exit({})")
  todo = [
    job(tmp_path, "a", saves.format("print('saved')")),
    job(tmp_path, "b", saves.format("'disk full'")),
    job(tmp_path, "c", "print('never')"),
  ]
  told = []
  stop = interrupted(todo, signum, say=told.append)
  assert isinstance(stop, interrupts.Interrupted) and stop.signum == signum
  assert todo[0].log.read_text().endswith("saved\n")
  assert "a: stopped" in told
  failure = f"b: failed with status 1: disk full (all of it in {todo[1].log})"
  assert failure in told
  assert not todo[2].log.exists()


def test_a_second_interrupt_stops_at_once(tmp_path):
  code = SAVES.format("print('asked'); time.sleep(20)")
  todo = [job(tmp_path, name, code) for name in "ab"]
  stop = interrupted(todo, signal.SIGTERM, times=2)
  assert isinstance(stop, KeyboardInterrupt)
  assert all(j.log.read_text().endswith("at once\n") for j in todo)
