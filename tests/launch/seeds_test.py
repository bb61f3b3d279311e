"""Many seeds: which runs, which are skipped, their mean, and two real ones."""

import pathlib
import shlex

import pytest
import runs

from ltjax import config as configs
from ltjax.config import check as config_check
from ltjax.launch import jobs, machine_shares, seeds
from ltjax.runs import interrupts, workdir

ARGUMENTS = ["--config=configs/a.py", "--config.loops=2", "--config.seeds=3"]


def config(**changes):
  result = configs.default()
  result.seeds = 3
  result.update(changes)
  return result.lock()


def summary(settings):
  """What a run of a seed found: an accuracy of 0.5, 0.6, ..."""
  row = {"model": "CE", "head": "balanced", "split": "test"}
  row |= {"accuracy": 0.5 + settings["seed"] / 10}
  return {
    "finished": True,
    "config": settings,
    "evaluations": [row],
    "result": {"last": row},
  }


@pytest.fixture
def trained(monkeypatch):
  """Trains nothing: each run ends as a child would leave it, or is named."""
  seen = {"jobs": [], "where": [], "fails": [], "loops": 5}

  def execute(todo, where, *, say, watch):
    watch(todo)
    seen["jobs"] += todo
    seen["where"] = list(where)
    for job in todo:
      flags = dict(a.split("=", 1) for a in job.command if "=" in a)
      alone = config(seed=int(flags["--config.seed"]), seeds=1)
      folder = pathlib.Path(flags["--workdir"])
      folder.mkdir(parents=True, exist_ok=True)
      settings = config_check.of_run(alone).to_dict()
      settings["loops"] = seen["loops"]
      workdir.write_json(folder / "config.json", settings)
      if job.name in seen["fails"]:
        say(f"{job.name}: failed")
        continue
      workdir.write_json(folder / "summary.json", summary(settings))
      (folder / "report.md").touch()
    return [job.name for job in todo if job.name in seen["fails"]]

  monkeypatch.setattr(jobs, "execute", execute)
  monkeypatch.setattr(
    machine_shares,
    "for_runs",
    lambda count, at_once: [machine_shares.WHOLE] * count,
  )
  return seen


def train(folder, *, arguments=ARGUMENTS, **changes):
  """Returns what failed and what was printed."""
  lines = []
  failed = seeds.train(
    config(**changes), str(folder), arguments, echo=lines.append
  )
  return failed, "\n".join(lines)


def test_each_seed_is_a_run_of_its_own(tmp_path, trained):
  root = tmp_path / "x"
  assert train(root, seed=4)[0] == []
  assert [job.name for job in trained["jobs"]] == ["seed4", "seed5", "seed6"]
  job = trained["jobs"][1]
  assert job.command[1:] == [
    *("-m", "ltjax.main", "--config=configs/a.py", "--config.loops=2"),
    *(f"--workdir={root / 'seed5'}", "--config.seed=5", "--config.seeds=1"),
  ]
  assert job.log == root / "seed5" / "log.txt"
  assert trained["where"] == [machine_shares.WHOLE] * 3


@pytest.mark.parametrize(
  "given",
  [
    "--workdir=x --config=a.py --config.seed=7 --seeds_at_once=2 --n=1",
    "-workdir=x -config.seeds=9 --config=a.py --n=1",
    "--workdir x --config=a.py --config.seed 7 --config.seeds 9 --n=1",
    "--config=a.py --n=1 --",
  ],
)
def test_what_says_which_runs_is_replaced(tmp_path, trained, given):
  train(tmp_path, arguments=shlex.split(given))
  assert trained["jobs"][0].command[3:] == [
    *("--config=a.py", "--n=1", f"--workdir={tmp_path / 'seed0'}"),
    *("--config.seed=0", "--config.seeds=1"),
  ]


def test_a_flag_of_another_name_keeps_its_value(tmp_path, trained):
  given = ["--config", "workdir", "--config.seedling=3"]
  train(tmp_path, arguments=given)
  assert trained["jobs"][0].command[3:6] == given


def test_the_mean_is_told_and_written(tmp_path, trained):
  _, text = train(tmp_path)
  # 0.5, 0.6 and 0.7.
  assert "60.0 ± 10.0" in text
  assert "over the seeds (0, 1, 2)" in text
  assert text.endswith(f"Report: {tmp_path / 'report.md'}")
  assert text.startswith((tmp_path / "report.md").read_text())


def test_finished_seeds_are_skipped_and_more_can_be_added(
  tmp_path, trained, capsys
):
  train(tmp_path)
  trained["jobs"].clear()
  _, text = train(tmp_path, seeds=5)
  assert [job.name for job in trained["jobs"]] == ["seed3", "seed4"]
  # Places are of one size, whatever is left to do.
  assert trained["where"] == [machine_shares.WHOLE] * 5
  assert "over the seeds (0, 1, 2, 3, 4)" in text
  assert "seed2: finished before\n" in capsys.readouterr().err
  trained["jobs"].clear()
  again = train(tmp_path, seeds=5)
  assert again == ([], text) and not trained["jobs"]
  # Without its own report a run is not whole.
  (tmp_path / "seed1" / "report.md").unlink()
  train(tmp_path, seeds=5)
  assert [job.name for job in trained["jobs"]] == ["seed1"]


def test_a_failed_seed_does_not_lose_the_others(tmp_path, trained):
  trained["fails"] = ["seed1"]
  failed, text = train(tmp_path)
  assert failed == ["seed1"]
  assert text.startswith("Seeds that are not finished: 1.\n")
  assert "over the seeds (0, 2)" in text and "60.0 ± 14.1" in text
  trained["fails"] = []
  trained["jobs"].clear()
  failed, text = train(tmp_path)
  assert [job.name for job in trained["jobs"]] == ["seed1"]
  assert failed == [] and "not finished" not in text


def test_no_report_without_a_finished_seed(tmp_path, trained):
  trained["fails"] = ["seed0", "seed1", "seed2"]
  assert train(tmp_path) == (trained["fails"], "")
  assert not (tmp_path / "report.md").exists()


def test_runs_of_other_settings_are_refused_before_any_begins(
  tmp_path, trained
):
  train(tmp_path)
  trained["jobs"].clear()
  with pytest.raises(workdir.WorkdirError) as caught:
    train(tmp_path, loops=2, seeds=5)
  assert f"{tmp_path / 'seed0'} holds a run with another config" in str(
    caught.value
  )
  assert "loops: there 5, here 2" in str(caught.value)
  assert not trained["jobs"]


def test_a_folder_of_a_single_run_is_refused(tmp_path, trained):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(workdir.WorkdirError) as caught:
    train(tmp_path)
  assert str(caught.value) == (
    f"{tmp_path} holds a single run; choose another --workdir for 3 seeds."
  )
  assert not trained["jobs"]


def test_two_at_a_time_in_one_folder_are_refused(tmp_path, trained):
  with workdir.Workdir(tmp_path):
    with pytest.raises(workdir.WorkdirError, match="Another process is runn"):
      train(tmp_path)


@pytest.mark.parametrize("flag", ["--distributed", "--coordinator=a:1"])
def test_several_hosts_are_refused(tmp_path, trained, flag):
  with pytest.raises(ValueError, match="seeds is 3, which are placed on one"):
    train(tmp_path, arguments=[*ARGUMENTS, flag])
  assert not trained["jobs"]


def test_an_interrupt_goes_through(tmp_path, trained, monkeypatch):
  def execute(*unused, **settings):
    raise interrupts.Interrupted(15)

  monkeypatch.setattr(jobs, "execute", execute)
  with pytest.raises(interrupts.Interrupted):
    train(tmp_path)
  with workdir.Workdir(tmp_path):  # The lock is free again.
    assert not (tmp_path / "report.md").exists()


def test_several():
  assert seeds.several(config())
  assert not seeds.several(config(seeds=1))
  with pytest.raises(ValueError, match="seeds is 0; it must be 1 or more"):
    seeds.several(config(seeds=0))


def test_a_plan_names_runs_and_places(tmp_path, monkeypatch):
  asked = []

  def for_runs(count, at_once):
    asked.append((count, at_once))
    return [machine_shares.Place("GPU 0"), machine_shares.Place("GPU 1")]

  monkeypatch.setattr(machine_shares, "for_runs", for_runs)
  assert seeds.plan(config(seed=1), "runs/x", at_once=2) == (
    "3 runs, 2 at a time, on GPU 0, GPU 1:\n"
    "  runs/x/seed1\n"
    "  runs/x/seed2\n"
    "  runs/x/seed3\n"
  )
  assert asked == [(3, 2)]


def test_two_seeds_are_bit_for_bit_those_of_separate_runs(
  tmp_path, monkeypatch
):
  """Child processes, pinned, side by side; then a seed by itself."""
  monkeypatch.chdir(tmp_path)
  runs.write_set(tmp_path / runs.SET)
  children = runs.environment(
    JAX_COMPILATION_CACHE_DIR=tmp_path / "cache",
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0,
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1,
  )
  for name, value in children.items():
    monkeypatch.setenv(name, value)
  given = [
    f"--config={runs.ROOT / 'tests' / 'toy_config.py'}",
    "--config.method=decoupling",
    "--config.embedding.epochs=1",
    "--config.run.checkpoint_every_s=60",
  ]
  asked = runs.config(
    method="decoupling",
    embedding__epochs=1,
    classifier__epochs=1,
    refit__epochs=1,
    run__checkpoint_every_s=60.0,
    seeds=2,
  )
  lines = []
  assert seeds.train(asked, "many", given, echo=lines.append) == []
  assert "over the seeds (0, 1)" in "\n".join(lines)
  alone = jobs.Job(
    "alone",
    runs.command(*given, "--workdir=alone", "--config.seed=1"),
    tmp_path / "alone.log",
  )
  # On as many cores: their number can change the last bits of a sum.
  assert jobs.execute([alone], machine_shares.for_runs(2), say=str) == []
  outcome = runs.outcome("alone")
  assert runs.outcome("many/seed1") == outcome
  assert runs.outcome("many/seed0")["model"] != outcome["model"]
  made, theirs = (
    {path.name for path in pathlib.Path(folder).iterdir()}
    for folder in ("many/seed1", "alone")
  )
  assert made == theirs | {"log.txt"}
  stored = pathlib.Path("alone/config.json").read_bytes()
  assert pathlib.Path("many/seed1/config.json").read_bytes() == stored
