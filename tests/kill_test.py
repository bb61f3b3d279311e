"""A run that is killed, at any moment and often, ends as if it never was.

Child processes train the toys through the command line and save after every
step. What they leave must be, bit for bit, what an uninterrupted run leaves.
"""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import runs

CONFIG = f"--config={runs.ROOT / 'tests' / 'toy_config.py'}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with the data set and a cache of compiled programs."""
  folder = tmp_path_factory.mktemp("kill")
  runs.write_set(folder / runs.SET)
  return folder


def settings(place, **more):
  return {
    "JAX_COMPILATION_CACHE_DIR": place / "cache",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0,
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": -1,
  } | more


def finish(place, workdir, **more):
  """Runs the command to its end."""
  return runs.main(
    CONFIG, f"--workdir={workdir}", cwd=place, **settings(place, **more)
  )


@pytest.fixture(scope="module")
def uninterrupted(place):
  done = finish(place, "uninterrupted")
  assert done.returncode == 0, done.stderr
  found = runs.outcome(place / "uninterrupted")
  assert found["model"] == runs.digest_of_model(place / "uninterrupted")
  return found


def positions(workdir):
  """Returns the (stage, step) of the checkpoints that are on disk, rising."""
  folder = workdir / "checkpoints"
  names = os.listdir(folder) if folder.is_dir() else []
  return sorted(divmod(int(n), 10**9) for n in names if n.isdigit())


def interrupt(place, workdir, signum, *, at, delay=0.0):
  """Starts the run and signals it once a checkpoint `at` or later is there.

  Returns:
    The finished process, with `stdout` and `stderr`.
  """
  child = subprocess.Popen(
    runs.command(CONFIG, f"--workdir={workdir}"),
    cwd=place,
    env=runs.environment(**settings(place)),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  deadline = time.monotonic() + 300
  try:
    while not any(p >= at for p in positions(place / workdir)):
      assert child.poll() is None, child.communicate()
      assert time.monotonic() < deadline, "no checkpoint in five minutes"
      time.sleep(0.002)
    time.sleep(delay)
    child.send_signal(signum)
    child.stdout, child.stderr = child.communicate(timeout=120)
  finally:
    if child.poll() is None:
      child.kill()
      child.communicate()
  return child


def test_sigkill_at_random_moments(place, uninterrupted):
  """Three kills, the second and third in runs that had resumed."""
  rng = random.Random(0)
  for at in ((0, 2), (1, 1), (3, 4)):
    at = (at[0], at[1] + rng.randrange(3))
    child = interrupt(
      place, "killed", signal.SIGKILL, at=at, delay=rng.uniform(0, 0.1)
    )
    assert child.returncode == -signal.SIGKILL
    assert not (place / "killed" / "summary.json").exists()
  done = finish(place, "killed")
  assert done.returncode == 0, done.stderr
  assert "damaged" not in done.stderr
  assert runs.outcome(place / "killed") == uninterrupted
  assert runs.digest_of_model(place / "killed") == uninterrupted["model"]


def test_sigkill_while_saving(place, uninterrupted):
  """Into the write, the rename, the seal and the deletion of an older one."""
  rng = random.Random(1)
  for count in (3, 6, 8):
    delay = rng.uniform(0.0, 0.05)
    done = finish(place, "torn", KILL_IN_SAVE=f"{count},{delay}")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "Traceback" not in done.stderr
  # And one that was written whole, then damaged on disk.
  stage, step = positions(place / "torn")[-1]
  newest = place / "torn" / "checkpoints" / str(stage * 10**9 + step)
  for path in newest.rglob("*"):
    if path.is_file():
      os.truncate(path, path.stat().st_size // 2)
  done = finish(place, "torn")
  assert done.returncode == 0, done.stderr
  warnings = [line for line in done.stderr.splitlines() if "damaged" in line]
  assert len(warnings) == 1
  assert "trying the one before it" in warnings[0]
  assert "Traceback" not in done.stderr
  assert runs.outcome(place / "torn") == uninterrupted
  assert runs.digest_of_model(place / "torn") == uninterrupted["model"]


def test_sigterm_and_ctrl_c_save_and_the_same_command_goes_on(
  place, uninterrupted
):
  """Exit codes 143 and 130, as shells and schedulers expect them."""
  stopped = place / "stopped"
  for signum, at, code in (
    (signal.SIGTERM, (0, 3), 143),
    (signal.SIGINT, (3, 2), 130),
  ):
    child = interrupt(place, "stopped", signum, at=at)
    assert child.returncode == code, child.stderr
    name = signum.name
    assert f"Stopped by {name} and saved; the same command" in child.stdout
    assert "Traceback" not in child.stderr
    # The step that was running is saved: its epoch's row is the newest.
    assert positions(stopped)[-1] >= at
    assert not (stopped / "summary.json").exists()
    sessions = (stopped / "environment.json").read_text()
    assert '"ended_by": "Interrupted"' in sessions
  done = finish(place, "stopped")
  assert done.returncode == 0, done.stderr
  assert runs.outcome(stopped) == uninterrupted
  assert (stopped / "environment.json").read_text().count('"seconds"') == 3


def test_killed_after_training_only_the_rest_is_done(place, uninterrupted):
  """Between the last checkpoint, the model, the summary and the report."""
  for missing in (["summary.json", "model", "model.json"], ["summary.json"]):
    shutil.copytree(place / "uninterrupted", place / "rest")
    for name in missing:
      path = place / "rest" / name
      shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "model" not in missing:
      checkpoint = next((place / "rest" / "model").iterdir())
      os.truncate(next(checkpoint.glob("_*")), 3)  # torn in the writing
    done = finish(place, "rest")
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stderr  # no training
    assert runs.outcome(place / "rest") == uninterrupted
    assert runs.digest_of_model(place / "rest") == uninterrupted["model"]
    shutil.rmtree(place / "rest")
