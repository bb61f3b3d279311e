import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import budget as budgets


def test_the_time_runs_out(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  budget = budgets.Budget(5)
  assert budget.left == 5
  budget.check()
  now[0] = 106.0
  assert budget.left == 0
  with pytest.raises(budgets.OverError, match="5 s are over"):
    budget.check()


def test_without_a_limit():
  budget = budgets.Budget()
  assert budget.left == float("inf")
  budget.check()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(signum):
  before = signal.getsignal(signum)
  with budgets.limit(0, lambda: None):
    with pytest.raises(budgets.OverError, match=signum.name) as error:
      os.kill(os.getpid(), signum)
      time.sleep(10)
  assert error.value.signum == signum
  assert signal.getsignal(signum) == before


PROGRAM = """
from benchmarks import budget
import time
with budget.limit(0.1, lambda: print("last words", flush=True), grace=0.1):
  while True:
    try:
      time.sleep(100)  # It does not look up.
    except budget.OverError:
      pass
"""


def test_what_hangs_is_ended():
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30
  )
  assert done.returncode == 0 and done.stdout == "last words\n"
