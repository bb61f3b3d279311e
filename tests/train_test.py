"""Tests of training as one story: what a run prints, leaves and refuses."""

import json
import math
import os
import shutil

import jax
import pytest
import runs
import toys

from ltjax.checkpoints import manager as checkpoints
from ltjax.data.splits import record
from ltjax.methods import registry
from ltjax.report import page, verdict
from ltjax.runs import workdir as workdirs
from ltjax.training import fit


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  return runs.place(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run, to be copied: (folder, summary, printed)."""
  folder = tmp_path_factory.mktemp("finished")
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    runs.write_set(runs.SET)
    runs.patch_model(patch)
    summary, printed = runs.run("run", data__validation__per_class=1)
  return folder / "run", summary, printed


@pytest.fixture
def copy(finished, place):
  shutil.copytree(finished[0], place / "run")
  return place / "run"


def again(**changes):
  """The command of `finished`, once more."""
  return runs.run("run", **({"data__validation__per_class": 1} | changes))


# -- What a run leaves.


def test_files_of_a_run(finished):
  folder, _, _ = finished
  assert {p.name for p in folder.iterdir()} >= {
    "config.json",
    "split.json",
    "environment.json",
    "metrics.jsonl",
    "checkpoints",
    "model",
    "model.json",
    "summary.json",
    "report.md",
    "plots",
  }
  assert not [p.name for p in folder.rglob("*tmp*")]


def test_config_json_is_the_config(finished):
  config = runs.config(data__validation__per_class=1)
  stored = json.loads((finished[0] / "config.json").read_text())
  whole = json.loads(json.dumps(registry.told(config)))
  assert stored | {"seeds": 1} == whole and "seeds" not in stored
  summary = json.loads((finished[0] / "summary.json").read_text())
  assert summary["config"] == stored


def test_split_json_is_the_split(finished):
  folder, summary, _ = finished
  split = record.Split.load(folder / "split.json")
  assert split.hash == summary["split_hash"]
  assert split.labeled_counts == toys.LABELED


def test_environment_json_notes_the_session(finished):
  (session,) = json.loads((finished[0] / "environment.json").read_text())[
    "sessions"
  ]
  assert session["ended_by"] == "completion" and session["seconds"] >= 0
  assert session["versions"]["jax"] == jax.__version__
  assert len(session["devices"]) == len(jax.devices())


def test_summary(finished):
  folder, summary, _ = finished
  assert summary == json.loads((folder / "summary.json").read_text())
  assert summary["finished"] is True and summary["method"] == "sslt"
  assert [
    (row["model"], row["head"], row["split"]) for row in summary["evaluations"]
  ] == [
    (model, head, split)
    for model, head in (
      ("CE (g')", "random"),
      ("Decoupling", "balanced"),
      ("SSLT loop 1 (g')", "random"),
      ("SSLT loop 1", "balanced"),
    )
    for split in ("test", "validation")
  ]
  assert [row["loop"] for row in summary["pseudo_labels"]] == [1]
  assert summary["result"]["validation_selected"] is not None
  assert "seconds" not in json.dumps(summary)


def test_metrics_are_in_order_of_their_positions(finished):
  rows = [
    json.loads(line)
    for line in (finished[0] / "metrics.jsonl").read_text().splitlines()
  ]
  positions = [row["position"] for row in rows]
  assert positions == sorted(positions)
  trained = [(r["stage"], r["epoch"]) for r in rows if r["kind"] == "train"]
  assert trained == [
    (stage, epoch)
    for stage in ("embedding", "classifier", "loop1/consistency", "loop1/refit")
    for epoch in (1, 2)
  ]
  for row in rows:
    if row["kind"] == "train":
      assert math.isfinite(row["loss"]) and row["images_per_second"] > 0
      assert 0 < row["learning_rate"] <= 0.05 and row["epochs"] == 2


def test_the_printed_story(finished):
  folder, summary, printed = finished
  assert "labeled" in printed and "unlabeled" in printed and "█" in printed
  assert printed.endswith(
    f"{verdict.headline(summary)} Report: {folder / 'report.md'}"
  )


def test_the_report_exists_and_shows_the_result(finished):
  text = (finished[0] / "report.md").read_text()
  assert "SSLT loop 1" in text and "class_histogram.png" in text


# -- The same command again.


def test_a_finished_run_says_so_and_does_nothing(copy):
  before = runs.files(copy)
  summary, printed = again()
  assert runs.files(copy) == before  # contents and times
  assert printed == (
    f"The run in {copy} is finished. {verdict.headline(summary)}"
  )


def test_a_lost_report_is_written_again(copy):
  text = (copy / "report.md").read_text()
  (copy / "report.md").unlink()
  before = runs.files(copy)
  again()
  assert (copy / "report.md").read_text() == text
  assert before["summary.json"] == runs.files(copy)["summary.json"]


def test_a_damaged_summary_is_named(copy):
  (copy / "summary.json").write_text('{"finished": tr')
  with pytest.raises(ValueError, match="summary.json is damaged"):
    again()


def test_two_processes_in_one_workdir_are_refused(copy):
  before = runs.files(copy)
  with workdirs.Workdir(copy):
    with pytest.raises(workdirs.WorkdirError, match="Another process is runn"):
      again()
  assert runs.files(copy) == before


def test_another_config_in_the_workdir_is_refused(copy):
  before = runs.files(copy)
  with pytest.raises(workdirs.WorkdirError) as caught:
    again(seed=5, refit__epochs=3)
  assert "  refit.epochs: there 2, here 3\n  seed: there 0, here 5\n" in str(
    caught.value
  )
  assert runs.files(copy) == before


def test_a_mistake_leaves_the_workdir_free(place):
  """The corrected config is not "another one"."""
  with pytest.raises(ValueError, match="loops is 0"):
    runs.run("run", loops=0)
  assert not (place / "run" / "config.json").exists()
  assert not (place / "run" / "split.json").exists()
  summary, _ = runs.run("run", method="decoupling")
  assert summary["method"] == "decoupling"


# -- Resuming after damage.


def unfinished(folder, stages=4):
  """Takes the end of a finished run away: the last checkpoint is `stages`."""
  for name in ("summary.json", "report.md", "model.json"):
    (folder / name).unlink()
  shutil.rmtree(folder / "model")
  for path in (folder / "checkpoints").iterdir():
    if int(path.name) > stages * 10**9:
      shutil.rmtree(path)


def damage(checkpoint):
  for path in checkpoint.rglob("*"):
    if path.is_file():
      content = bytearray(path.read_bytes())
      content[len(content) // 2] ^= 0xFF
      path.write_bytes(content)


def test_the_rest_of_a_run_gives_the_same(copy, finished):
  unfinished(copy)
  again()
  assert runs.outcome(copy) == runs.outcome(finished[0])


def test_a_damaged_newest_checkpoint_falls_back(copy, finished, caplog):
  unfinished(copy)
  damage(copy / "checkpoints" / "4000000000")
  again()
  assert [m for m in caplog.messages if "damaged" in m] == [
    f"The checkpoint of stage 4, step 0 in {copy / 'checkpoints'} is damaged"
    " (its files changed after they were written); trying the one before it."
  ]
  assert runs.outcome(copy) == runs.outcome(finished[0])


def test_all_checkpoints_damaged_is_an_error(copy):
  unfinished(copy)
  for path in (copy / "checkpoints").iterdir():
    damage(path)
  before = runs.files(copy / "checkpoints")
  for _ in range(2):
    with pytest.raises(
      checkpoints.CheckpointError, match="None of the 2 checkpoints in .* can"
    ):
      again()
  assert runs.files(copy / "checkpoints") == before
  shutil.rmtree(copy / "checkpoints")  # The way out that the message gives.
  summary, _ = again()
  assert summary["finished"]


def test_a_changed_split_is_an_error(copy):
  unfinished(copy)
  path = copy / "split.json"
  content = json.loads(path.read_text())
  content["labeled"][0] += 1
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="was changed after it was written"):
    again()


def test_a_changed_data_set_is_an_error(copy):
  """Another class now has more images: the split would be another one."""
  unfinished(copy)
  labels = toys.labels_of((45, 30, 14, 10))
  runs.write_set(runs.SET, x=toys.pictures(labels), y=labels)
  with pytest.raises(
    workdirs.WorkdirError,
    match="holds another split than this config gives now: the data set changed"
    " since the run began. Restore the data, or choose another --workdir",
  ):
    again()


def test_a_damaged_environment_is_no_reason_to_fail(copy, finished):
  unfinished(copy)
  (copy / "environment.json").write_text("{")
  again()
  assert runs.outcome(copy) == runs.outcome(finished[0])
  sessions = json.loads((copy / "environment.json").read_text())["sessions"]
  assert len(sessions) == 1


def test_a_checkpoint_of_another_model_is_refused(copy, monkeypatch):
  """As when `models` changed under a run: shapes are compared first."""
  unfinished(copy)
  monkeypatch.setattr(toys, "D", toys.D + 1)
  with pytest.raises(
    ValueError, match="is of another model or data set .* stored .*, needed"
  ):
    again()
  assert (copy / "checkpoints" / "4000000000").exists()


# -- Disks that fill up.


class Full:
  """Makes the n-th call of a function fail as a full disk does."""

  def __init__(self, real, at):
    self.real, self.at, self.calls = real, at, 0

  def __call__(self, *arguments, **settings):
    self.calls += 1
    if self.calls == self.at:
      raise OSError(28, "No space left on device")
    return self.real(*arguments, **settings)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  """What an undisturbed run leaves."""
  folder = tmp_path_factory.mktemp("plain")
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    runs.write_set(runs.SET)
    runs.patch_model(patch)
    runs.run("run")
  return runs.outcome(folder / "run")


@pytest.mark.parametrize("at", [1, 12])
def test_a_disk_full_while_saving(place, monkeypatch, plain, at):
  """The earlier checkpoints stay, and the same command finishes the same."""
  every_step = {"run__checkpoint_every_s": 0.0}
  real = checkpoints.ocp.training.Checkpointer.save
  full = Full(real, at)
  monkeypatch.setattr(
    checkpoints.ocp.training.Checkpointer,
    "save",
    lambda *a, **k: full(*a, **k),
  )
  with pytest.raises(
    checkpoints.CheckpointError,
    match="No space left on device.*earlier checkpoints are kept: free space",
  ):
    runs.run("run", **every_step)
  assert full.calls == at
  left = os.listdir(place / "run" / "checkpoints")
  assert len(left) == min(at - 1, 3)
  summary, _ = runs.run("run", **every_step)
  assert full.calls > at
  assert runs.outcome(place / "run")["metrics"] == plain["metrics"]
  assert runs.outcome(place / "run")["model"] == plain["model"]
  assert summary["finished"]


@pytest.mark.parametrize("name", ["summary.json", "model.json", "config.json"])
def test_a_disk_full_at_a_json_file(place, monkeypatch, plain, name):
  real = workdirs.write_json

  def write_json(path, value):
    if path.name == name:
      raise OSError(28, "cannot write it (No space left on device)", str(path))
    real(path, value)

  monkeypatch.setattr(workdirs, "write_json", write_json)
  with pytest.raises(OSError, match="No space left on device") as caught:
    runs.run("run")
  assert caught.value.filename == str(place / "run" / name)
  monkeypatch.setattr(workdirs, "write_json", real)
  runs.run("run")
  assert runs.outcome(place / "run") == plain


def test_a_disk_full_at_the_report(place, monkeypatch, plain):
  """The summary is safe by then; the next run writes the report."""
  with monkeypatch.context() as patch:
    patch.setattr(page, "write", Full(page.write, 1))
    with pytest.raises(OSError, match="No space left on device"):
      runs.run("run")
  assert runs.outcome(place / "run") == plain
  _, printed = runs.run("run")
  assert "is finished" in printed and (place / "run" / "report.md").exists()


def test_a_full_disk_is_not_hidden_by_the_session(place, monkeypatch):
  """environment.json cannot be written either; the first error counts."""
  real = workdirs.write_json

  def write_json(path, value):
    if path.name == "environment.json":
      raise OSError(28, "No space left on device", str(path))
    real(path, value)

  monkeypatch.setattr(workdirs, "write_json", write_json)
  monkeypatch.setattr(
    checkpoints.ocp.training.Checkpointer,
    "save",
    Full(None, 1),
  )
  with pytest.raises(checkpoints.CheckpointError, match="could not be written"):
    runs.run("run")


# -- A loss that is not finite.


def test_a_loss_that_is_not_finite_stops(place):
  """The stage, step and learning rate are named, the last checkpoint kept."""
  changes = {
    "consistency__learning_rate": 1e15,
    "consistency__schedule": "constant",
    "consistency__epochs": 9,
  }
  with pytest.raises(
    fit.NonFiniteLossError,
    match=r"The loss of stage loop1/consistency is not finite at step \d+"
    r" \(epoch \d of 9, learning rate 1e\+15\). The last good checkpoint is"
    " kept. Lower the learning rate",
  ):
    runs.run("run", **changes)
  assert "3000000000" in os.listdir(place / "run" / "checkpoints")
  assert "NaN" not in (place / "run" / "metrics.jsonl").read_text()
  assert not (place / "run" / "summary.json").exists()
  with pytest.raises(fit.NonFiniteLossError):  # The same again, from there.
    runs.run("run", **changes)
