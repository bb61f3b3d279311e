"""Several processes: what they agree on, and two that are killed and resume."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
import runs
import toys

from ltjax import train
from ltjax.devices import distributed, sharding

CONFIG = runs.ROOT / "tests" / "distributed_toy_config.py"
TIMEOUT = 10  # seconds until a silent process is given up


# -- Alone.


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"coordinator": "host0:8476"}, "belong together, as in --coordinator="),
    ({"processes": 2, "process_id": 0}, "belong together"),
    ({"process_id": 0}, "belong together"),
    (
      {"coordinator": "host0", "processes": 2, "process_id": 0},
      "--coordinator is 'host0'; it must be host:port",
    ),
    (
      {"coordinator": "host0:1", "processes": 2, "process_id": 2},
      "--process_id is 2; with --processes=2 it must be from 0 to 1",
    ),
    (
      {"coordinator": "host0:1", "processes": 2, "process_id": -1},
      "--process_id is -1",
    ),
    (
      {
        "automatic": True,
        "coordinator": "host0:1",
        "processes": 2,
        "process_id": 0,
      },
      "--distributed finds the processes by itself; give either it or",
    ),
  ],
)
def test_flags_that_do_not_say_who_the_processes_are(settings, message):
  with pytest.raises(ValueError, match=message):
    distributed.initialize(**settings)


def test_a_single_process_asks_nobody():
  distributed.initialize()
  assert not distributed.several() and distributed.first()
  assert distributed.share({"a": 1}) == [{"a": 1}]
  votes = distributed.Votes(sharding.make_mesh(4))
  assert votes.ask(None, True) == (None, True)  # at once, not a call late
  assert votes.ask(15, False) == (15, False) and votes.now(2) == 2


def test_a_single_process_returns_and_raises_as_it_is():
  value = object()
  assert distributed.on_first(lambda: value) is value
  with pytest.raises(OSError, match="full"):
    distributed.on_first(raiser(OSError("full")))


def test_a_single_process_leaves_no_file(tmp_path):
  distributed.check_shared(tmp_path)
  assert list(tmp_path.iterdir()) == []
  distributed.check_same({"a": [1]})


# -- As one of several, played by one.


def raiser(error):
  def function():
    raise error

  return function


@pytest.fixture
def pretend(monkeypatch):
  """Makes this process number `index` of two; the other says `other`."""

  def as_one(index, other=None):
    monkeypatch.setattr(distributed, "several", lambda: True)
    monkeypatch.setattr(distributed, "first", lambda: index == 0)
    both = (lambda v: [v, other]) if index == 0 else (lambda v: [other, v])
    monkeypatch.setattr(distributed, "share", both)

  return as_one


def test_votes_are_answered_a_call_late(pretend):
  pretend(0)
  votes = distributed.Votes(sharding.make_mesh(4))
  assert votes.ask(None, True) == (None, False)
  assert votes.ask(15, False) == (None, True)
  assert votes.ask(None, True) == (15, False)
  assert votes.ask(None, False) == (None, True)
  assert votes.now(2) == 2 and votes.now(None) is None


def test_only_the_first_decides_what_is_due_and_each_what_stops(pretend):
  pretend(1)
  votes = distributed.Votes(sharding.make_mesh(2))
  votes.ask(None, True)
  assert votes.ask(2, True) == (None, False)
  assert votes.ask(None, False) == (2, False)


def test_the_first_runs_and_tells(pretend):
  pretend(0)
  assert distributed.on_first(lambda: {"accuracy": 0.5}) == {"accuracy": 0.5}
  with pytest.raises(OSError, match="full"):
    distributed.on_first(raiser(OSError("full")))


def test_the_others_do_not_run_and_are_told(pretend):
  pretend(1, other=[{"accuracy": 0.5}, None])
  found = distributed.on_first(raiser(AssertionError("not here")))
  assert found == {"accuracy": 0.5}
  pretend(1, other=[None, "OSError: full"])
  with pytest.raises(
    distributed.PeerError, match="The first process stopped. OSError: full"
  ):
    distributed.on_first(lambda: None)


def test_other_configs_are_refused(pretend):
  pretend(0, other="another digest")
  with pytest.raises(ValueError, match="of process 1 is not that of process 0"):
    distributed.check_same({"seed": 1})


def test_folders_that_are_not_shared_are_refused(
  pretend, monkeypatch, tmp_path
):
  pretend(1, other=[".shared-elsewhere", None])
  monkeypatch.setattr(distributed, "_FILE_DELAY", 0.0)
  told = iter([[[".shared-elsewhere", None], None], [True, False]])
  monkeypatch.setattr(distributed, "share", lambda value: next(told))
  with pytest.raises(
    ValueError,
    match="Process 1 of 2 does not see what process 0 wrote to .*that all of"
    " them share, such as NFS",
  ):
    distributed.check_shared(tmp_path)


# -- Two real processes, of one device each.


class Pair:
  """Two processes that train the toys in one folder."""

  def __init__(self, place, workdir):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      port = free.getsockname()[1]
    self.folder = place / workdir
    self.children = [
      subprocess.Popen(
        runs.command(
          f"--config={CONFIG}",
          f"--workdir={workdir}",
          f"--coordinator=localhost:{port}",
          "--processes=2",
          f"--process_id={i}",
          f"--peer_timeout={TIMEOUT}",
        ),
        cwd=place,
        env=runs.environment(
          JAX_NUM_CPU_DEVICES=1,
          JAX_COMPILATION_CACHE_DIR=place / "cache",
          JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0,
          JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
      for i in range(2)
    ]

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    for child in self.children:
      with contextlib.suppress(ProcessLookupError):
        child.kill()
      child.communicate()

  def wait(self, timeout=300):
    """Returns the exit codes and what was printed."""
    texts = [c.communicate(timeout=timeout)[0] for c in self.children]
    return [c.returncode for c in self.children], texts

  def wait_for(self, position):
    """Returns when a checkpoint at `position` or later is there."""
    folder, deadline = self.folder / "checkpoints", time.monotonic() + 300
    while not any(
      name.isdigit() and divmod(int(name), 10**9) >= position
      for name in (os.listdir(folder) if folder.is_dir() else ())
    ):
      assert all(child.poll() is None for child in self.children), self.wait()
      assert time.monotonic() < deadline
      time.sleep(0.01)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp("two")
  runs.write_set(folder / runs.SET)
  return folder


@pytest.fixture(scope="module")
def uninterrupted(place):
  with Pair(place, "whole") as pair:
    codes, texts = pair.wait()
  assert codes == [0, 0], texts
  # The first prints and writes for both.
  assert "test accuracy" in texts[0]
  assert "accuracy" not in texts[1] and "damaged" not in texts[0]
  return runs.outcome(place / "whole")


def test_one_of_two_is_killed_and_both_resume(place, uninterrupted):
  """With some steps done, so that the memory that each has a part of counts."""
  with Pair(place, "killed") as pair:
    pair.wait_for((0, 4))
    pair.children[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    codes, _ = pair.wait(timeout=12 * TIMEOUT)
    # By itself, once the other has been silent for the timeout; the machine
    # may be busy.
    assert time.monotonic() - killed < 12 * TIMEOUT
  assert codes[0] != 0 and codes[1] == -signal.SIGKILL
  assert not (place / "killed" / "summary.json").exists()
  with Pair(place, "killed") as pair:
    codes, texts = pair.wait()
  assert codes == [0, 0], texts
  assert "epoch 1/" not in texts[0]  # goes on, does not begin anew
  assert runs.outcome(place / "killed") == uninterrupted


def newest(folder):
  """Returns the path of the newest checkpoint of a run."""
  paths = [p for p in (folder / "checkpoints").iterdir() if p.name.isdigit()]
  return max(paths, key=lambda path: int(path.name))


@pytest.mark.parametrize("begin", ["anew", "where_two_stopped"])
def test_one_process_computes_what_two_do(
  place, uninterrupted, monkeypatch, tmp_path, begin
):
  """Up to the order of sums; and it reads the checkpoints of two."""
  monkeypatch.chdir(place)
  monkeypatch.setattr(train.page, "write", lambda workdir: None)
  runs.patch_model(monkeypatch)
  mesh = sharding.make_mesh(1)
  monkeypatch.setattr(sharding, "make_mesh", lambda: mesh)
  config = runs.config(method="temporal_ensembling")
  config.run.checkpoint_every_s = 0.0
  config.classifier.epochs = config.refit.epochs = 1  # as in the file
  if begin != "anew":
    shutil.copytree(place / "whole", tmp_path, dirs_exist_ok=True)
    (tmp_path / "summary.json").unlink()
    shutil.rmtree(newest(tmp_path))  # that of the end
    # Each process wrote its part of the memory.
    parts = {p.name for p in newest(tmp_path).rglob("ocdbt.process_*")}
    assert parts == {"ocdbt.process_0", "ocdbt.process_1"}
  train.train(config, str(tmp_path), echo=lambda text: None)
  toys.assert_rows_close(
    runs.outcome(tmp_path)["metrics"], uninterrupted["metrics"]
  )
