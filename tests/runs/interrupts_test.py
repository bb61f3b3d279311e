"""Tests of interrupts: a signal becomes a flag, a second one stops at once."""

import os
import signal
import threading

import pytest

from ltjax.runs import interrupts

SIGNALS = (signal.SIGTERM, signal.SIGINT)
each = pytest.mark.parametrize("signum", SIGNALS, ids=lambda s: s.name)


@pytest.fixture(autouse=True)
def handlers():
  """Handlers of the test's own: nothing here may end pytest."""
  came = []
  before = [signal.signal(s, lambda n, _: came.append(n)) for s in SIGNALS]
  yield came
  for s, old in zip(SIGNALS, before, strict=True):
    signal.signal(s, old)


def send(signum):
  os.kill(os.getpid(), signum)


def test_without_a_signal_nothing_happens(handlers):
  with interrupts.catch() as flag:
    assert flag.signum is None
    flag.raise_if_set()
  assert handlers == []


@each
def test_a_signal_sets_the_flag(handlers, signum):
  with interrupts.catch() as flag:
    send(signum)
    assert flag.signum == signum
    with pytest.raises(interrupts.Interrupted, match=signum.name) as caught:
      flag.raise_if_set()
    assert caught.value.signum == signum
  assert handlers == []


@each
def test_a_second_signal_stops_at_once(signum):
  with interrupts.catch() as flag:
    send(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
      send(signum)
    assert flag.signum == signal.SIGTERM


@each
def test_the_handlers_before_are_put_back(handlers, signum):
  with pytest.raises(RuntimeError, match="from inside"):
    with interrupts.catch():
      raise RuntimeError("from inside")
  send(signum)
  assert handlers == [signum]


def test_off_the_main_thread_the_flag_stays_unset(handlers):
  flags = []

  def work():
    with interrupts.catch() as flag:
      send(signal.SIGTERM)
      flags.append(flag)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert flags[0].signum is None
  assert handlers == [signal.SIGTERM]  # As if there were no `catch`.


def test_exit_codes_follow_from_the_signal():
  """What `main` adds to 128, as shells do."""
  assert 128 + interrupts.Interrupted(signal.SIGTERM).signum == 143
  assert 128 + interrupts.Interrupted(signal.SIGINT).signum == 130
