"""Child processes: side by side, pinned, logged, and failures named."""

import os
import signal
import sys
import threading
import time

import pytest

from experiments import jobs


def job(tmp_path, name, code):
  return jobs.Job(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")


def test_a_job_leaves_all_it_prints_in_its_log(tmp_path):
  code = "import sys; print('out'); print('err', file=sys.stderr)"
  told = []
  done = job(tmp_path / "new", "a", code)
  assert jobs.execute([done], [None], say=told.append) == []
  jobs.execute([done], [None], say=told.append)
  text = done.log.read_text()
  assert text.count("$ ") == 2  # The second try comes after the first.
  assert text.count("out\n") == text.count("err\n") == 2
  assert told[0].startswith("a: ") and sys.executable in told[0]
  assert told[1] == "a: finished in 0.0 minutes"


def test_failures_are_named_and_the_others_go_on(tmp_path):
  told = []
  failed = jobs.execute(
    [
      job(tmp_path, "bad", "print('why'); print(); raise SystemExit(3)"),
      job(tmp_path, "good", ""),
      job(tmp_path, "worse", "raise SystemExit('no')"),
    ],
    [None],
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
  assert jobs.execute(todo, [None] * 2, say=told.append) == []
  assert told[0].startswith("a: /") and told[1].startswith("b: /")
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
  assert jobs.execute([pinned], [core], say=str) == []
  assert pinned.log.read_text().splitlines()[-1] == str(core)
  assert os.sched_getaffinity(0) == ours


@needs_pins
def test_cores(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7, 2, 5})
  assert jobs.cores(1) == [None]
  assert jobs.cores(2) == [2, 5]
  assert jobs.cores(3) == [2, 5, 7]
  with pytest.raises(ValueError, match="--jobs is 4, but there are 3 cores"):
    jobs.cores(4)
  monkeypatch.delattr(os, "sched_getaffinity")
  assert jobs.cores(4) == [None] * 4


@pytest.mark.parametrize("count", [0, -1])
def test_no_job_at_a_time_is_an_error(count):
  with pytest.raises(ValueError, match=f"--jobs is {count}; .* 1 or more"):
    jobs.cores(count)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_asks_the_children_to_save_and_waits(tmp_path, signum):
  code = (
    "import signal, sys, time\n"
    "def save(*unused):\n"
    "  time.sleep(0.2)\n"
    "  sys.exit(print('saved'))\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "print('ready')\n"
    "time.sleep(60)\n"
  )
  first, second = (job(tmp_path, name, code) for name in "ab")
  third = job(tmp_path, "c", "print('never')")
  before = signal.getsignal(signal.SIGTERM)
  # A shell in the background has its children ignore it.
  ours = signal.signal(signal.SIGINT, signal.default_int_handler)

  def interrupt():
    for _ in range(400):
      logs = [j.log.read_text() for j in (first, second) if j.log.exists()]
      if sum("\nready" in text for text in logs) == 2:
        break
      time.sleep(0.02)
    os.kill(os.getpid(), signum)

  thread = threading.Thread(target=interrupt)
  thread.start()
  try:
    with pytest.raises(KeyboardInterrupt):
      jobs.execute([first, second, third], [None, None], say=str)
  finally:
    thread.join()
    signal.signal(signal.SIGINT, ours)
  assert first.log.read_text().endswith("saved\n")
  assert second.log.read_text().endswith("saved\n")
  assert not third.log.exists()
  assert signal.getsignal(signal.SIGTERM) == before
