"""The soak, on a run of milliseconds: a script that counts, and saves."""

import itertools
import json
import random
import signal
import sys
import time

import pytest

from experiments import interruptions, soak

# Counts to 30 in its folder; "checkpoints" are files, a save has a moment where
# a name that is no number is there. SIGTERM and SIGINT save and stop.
SCRIPT = """
import json, os, pathlib, signal, sys, time
folder, bug = pathlib.Path(sys.argv[1]), sys.argv[2]
saved = folder / "checkpoints"
saved.mkdir(parents=True, exist_ok=True)
asked = []
for s in (signal.SIGTERM, signal.SIGINT):
  signal.signal(s, lambda number, frame: asked.append(number))
names = [int(p.name) for p in saved.iterdir() if p.name.isdigit()]
count, resumed = max(names, default=0), bool(names)
while count < 30:
  time.sleep(0.01)
  count += 1
  torn = saved / f"{count}.tmp"
  torn.touch()
  time.sleep(0.002)
  torn.rename(saved / str(count))
  if asked:
    sys.exit(128 + asked[0])
if bug == "fails":
  sys.exit(3)
(folder / "model" / "0").mkdir(parents=True)
digest = f"{count}{bug if resumed else ''}"
(folder / "model" / "0" / "_CHECKPOINT_METADATA").write_text(
  json.dumps({"custom_metadata": {"digest": digest}}))
row = {"kind": "train", "count": count, "images_per_second": time.time()}
(folder / "metrics.jsonl").write_text(json.dumps(row) + "\\n")
(folder / "summary.json").write_text("{}")
"""


@pytest.fixture
def command(tmp_path):
  script = tmp_path / "script.py"
  script.write_text(SCRIPT)
  return lambda workdir, bug="": [
    *(sys.executable, "-S", "-E", str(script), str(workdir), bug)
  ]


def always(signum, after=0.0, in_save=True):
  return itertools.repeat(interruptions.Kill(after, signum, in_save))


def test_moments_are_functions_of_the_seed():
  def first(seed):
    return list(itertools.islice(interruptions.kills(seed, 5.0), 200))

  assert first(0) == first(0) != first(1)
  assert {kill.signum for kill in first(0)} == set(interruptions.SIGNALS)
  assert all(0 <= kill.after <= 5.0 for kill in first(0))
  assert 30 < sum(kill.in_save for kill in first(0)) < 90


@pytest.mark.parametrize(
  "signum, code",
  [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
)
def test_a_run_is_stopped_and_goes_on(command, tmp_path, signum, code):
  work = tmp_path / "run"
  lives = interruptions.disturb(
    command(work),
    work,
    itertools.chain([next(always(signum))], always(signum, 600.0)),
    deadline=time.monotonic() + 60,
    log=tmp_path / "log",
  )
  assert [(life["signal"], life["code"]) for life in lives] == [
    (signal.Signals(signum).name, code),
    (None, 0),
  ]
  assert interruptions.outcome(work)["model"] == "30"


def test_a_run_is_stopped_while_it_saves(command, tmp_path):
  work = tmp_path / "run"
  moments = itertools.chain(
    [interruptions.Kill(0.0, signal.SIGKILL, True)],
    always(signal.SIGKILL, 600.0),
  )
  deadline = time.monotonic() + 60
  lives = interruptions.disturb(
    command(work), work, moments, deadline=deadline, log=tmp_path / "log"
  )
  assert [life["in_save"] for life in lives] == [True, False]


def test_past_the_deadline_a_run_is_left_alone(command, tmp_path):
  work = tmp_path / "run"
  lives = interruptions.disturb(
    command(work),
    work,
    always(signal.SIGKILL, 0.0),
    deadline=0,
    log=tmp_path / "l",
  )
  assert [life["signal"] for life in lives] == [None]


def test_a_run_that_fails_by_itself_is_told(command, tmp_path):
  work, log = tmp_path / "run", tmp_path / "log"
  with pytest.raises(RuntimeError, match=f"ended with 3; see {log}"):
    interruptions.disturb(
      command(work, "fails"),
      work,
      always(signal.SIGINT, 600.0),
      deadline=0,
      log=log,
    )
  with pytest.raises(RuntimeError, match=f"ended with 3; see {log}"):
    soak.watch(command(tmp_path / "other", "fails"), log=log, every=0.05)


@pytest.mark.parametrize("bug", ["", " but resumed"])
def test_a_soak_compares_what_runs_leave(command, tmp_path, bug, monkeypatch):
  # The first run is stopped once it has saved, and the time is over then.
  moments = itertools.chain(
    [interruptions.Kill(0.0, signal.SIGTERM, True)],
    always(signal.SIGTERM, 600.0),
  )
  monkeypatch.setattr(interruptions, "kills", lambda seed, longest: moments)
  lines = []
  found = soak.soak(
    lambda workdir: command(workdir, bug),
    tmp_path,
    minutes=0.001,
    seed=0,
    say=lines.append,
  )
  assert found["kills"] == {"SIGKILL": 0, "SIGTERM": 1, "SIGINT": 0}
  assert (found["runs"], found["lives"], found["in_save"]) == (1, 2, 1)
  assert found["model"] == "30"
  assert found["differ"] == ([str(tmp_path / "run0")] if bug else [])
  assert (tmp_path / "run0").exists() == bool(bug)
  said = "DIFFERENT" if bug else "the same bits"
  assert lines == [f"run0: 1 times interrupted, {said}"]


def test_memory_is_sampled_while_a_run_lives(tmp_path):
  script = "import time; x = bytearray(50_000_000); time.sleep(0.5)"
  samples, seconds = soak.watch(
    [sys.executable, "-S", "-E", "-c", script], log=tmp_path / "log", every=0.05
  )
  assert seconds >= 0.5
  assert max(held for _, held in samples) > 50_000_000
  assert all(0 <= t <= seconds for t, _ in samples)


def test_growth_is_the_slope_while_it_trains():
  # Rises steeply as it compiles and as it draws, between by 2 bytes a second.
  rng = random.Random(0)
  samples = [
    (t, 10**6 + (min(t, 90) + max(t, 185)) * 10**4 + 2 * t + rng.randrange(18))
    for t in range(201)
  ]
  found = soak.growth(samples)
  assert found["bytes_per_minute"] == pytest.approx(120, abs=5)
  assert (found["samples"], found["seconds"]) == (81, 80)
  assert found["last"] - found["first"] == pytest.approx(146, abs=20)
  few = soak.growth(samples[:10])
  assert few["bytes_per_minute"] is None and few["samples"] == 4
  assert soak.growth([])["bytes_per_minute"] is None


def test_the_least_does_not_feel_checkpoints():
  samples = [(t, 10**6 + 2 * t + (t % 7 == 0) * 10**5) for t in range(201)]
  found = soak.growth(samples)
  assert found["least_last"] - found["least_first"] == 2 * 65  # 100 s, 165 s


def test_the_page_and_the_exit_code(command, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(soak, "watch", lambda *unused, **also: ([], 1.0))
  told = {
    "minutes": 1.0,
    "seed": 3,
    "reference": 12.3,
    "runs": 4,
    "lives": 9,
    "kills": {"SIGKILL": 3, "SIGTERM": 1, "SIGINT": 1},
    "in_save": 2,
    "differ": [],
    "model": "abc",
  }
  asked = {}

  def fake(make_command, folder, **settings):
    asked.update(settings, command=make_command(folder / "run0"))
    return told

  monkeypatch.setattr(soak, "soak", fake)
  arguments = ["--minutes=1", "--seed=3", "--config=c.py", f"--out={tmp_path}"]
  assert soak.main([*arguments, "--", "--config.loops=1"]) == 0
  assert (asked["minutes"], asked["seed"]) == (1.0, 3)
  assert asked["command"][1:4] == ["-m", "ltjax.main", "--config=c.py"]
  assert "--config.loops=1" in asked["command"]
  page = (tmp_path / "results.md").read_text()
  assert "4 runs in 9 processes; interrupted by 3 SIGKILL, 1 SIGTERM" in page
  assert "0 runs ended with other bits" in page
  assert "Growth of memory: too few samples" in page
  assert json.loads((tmp_path / "results.json").read_text())["soak"] == told
  told["differ"] = ["somewhere"]
  assert soak.main(arguments) == 1
  asked.clear()
  # The soak's result stays.
  assert soak.main([*arguments, "--only=growth"]) == 1
  assert not asked
  grown = {"seconds": 60.0, "first": 2**20, "last": 2**21}
  grown |= {"least_first": 2**19, "least_last": 2**18}
  grown["bytes_per_minute"] = 2**20
  monkeypatch.setattr(soak, "growth", lambda samples: grown)
  soak.main(arguments)
  page = (tmp_path / "results.md").read_text()
  assert "1 runs ended with other bits" in page
  assert (
    "1.0 MiB at first, 2.0 MiB at last, +1.00 MiB a minute by a line." in page
  )
  assert "0.5 and 0.2 MiB" in page
