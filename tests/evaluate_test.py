import json
import shutil
import subprocess
import sys

import finished
import numpy as np
import pytest

from ltjax import evaluate
from ltjax.data.splits import record
from ltjax.runs import trained


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  finished.one_device(monkeypatch)


@pytest.fixture
def run(tmp_path):
  return finished.copy(tmp_path)


def recorded(split, head):
  summary = json.loads((finished.run() / "summary.json").read_text())
  rows = [
    r
    for r in summary["evaluations"]
    if r["split"] == split and r["head"] == head
  ]
  return rows[-1]


def change(path, **fields):
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("head", ["balanced", "random"])
def test_every_number_is_the_one_in_the_summary(split, head):
  before = finished.contents(finished.run())
  row, last, _ = evaluate.evaluate(finished.run(), split=split, head=head)
  assert row == recorded(split, head) == last
  assert len(row) >= 12 and row["split"] == split and row["head"] == head
  assert evaluate.differences(row, last) == []
  assert finished.contents(finished.run()) == before


def test_rows_of_the_four_choices_differ():
  rows = [
    recorded(s, h)
    for s in ("test", "validation")
    for h in ("balanced", "random")
  ]
  assert len({json.dumps(r["confusion"]) for r in rows}) == 4


def test_one_head_for_both_is_evaluated_as_the_balanced_one(run, monkeypatch):
  load = trained.load

  def shared(folder):
    loaded = load(folder)
    loaded.variables["head"] = loaded.variables["balanced_head"]
    return loaded

  monkeypatch.setattr(trained, "load", shared)
  row, _, _ = evaluate.evaluate(run, head="random")
  assert row == recorded("test", "balanced")


def test_a_head_that_the_run_never_evaluated(run):
  summary = json.loads((run / "summary.json").read_text())
  change(run / "summary.json", evaluations=summary["evaluations"][:1])
  row, last, _ = evaluate.evaluate(run)
  assert last is None and "stage" not in row
  assert row["model"] == "decoupling"
  assert row["accuracy"] == recorded("test", "balanced")["accuracy"]
  assert evaluate.differences(row, last) == []


def test_a_run_of_an_earlier_version_lacks_metrics_that_came_later():
  row = {"accuracy": 0.5, "ece": 0.25, "group_mean": 0.5}
  assert evaluate.differences(row, {"accuracy": 0.5, "ece": 0.25}) == []
  assert evaluate.differences(row, {"accuracy": 0.5, "ece": 0.2}) == ["ece"]


def test_unfinished_run(run, capsys):
  (run / "summary.json").unlink()
  assert evaluate.main([f"--workdir={run}"]) == 1
  err = capsys.readouterr().err
  assert err.startswith(f"error: The run in {run} is not finished. Run the")
  assert len(err.splitlines()) == 1


def test_data_that_changed_since(run):
  split = record.Split.load(run / "split.json")
  fields = {f: getattr(split, f) for f in split.__dataclass_fields__} | {
    "fingerprint": "0" * 64
  }
  record.Split(**fields).save(run / "split.json")
  with pytest.raises(ValueError, match="the data set changed since the run"):
    evaluate.evaluate(run)


def test_config_of_another_seed(run):
  config = json.loads((run / "config.json").read_text())
  config["data"]["seed"] = 1
  change(run / "config.json", **config)
  with pytest.raises(ValueError, match="is another split than config.json"):
    evaluate.evaluate(run)


@pytest.mark.parametrize("name", ["config.json", "summary.json", "split.json"])
def test_damaged_files_are_named(run, name):
  (run / name).write_text("{")
  with pytest.raises(ValueError, match=name):
    evaluate.evaluate(run)


def test_config_with_an_unknown_field(run):
  change(run / "config.json", loop=3)
  with pytest.raises(ValueError, match="Unknown config field loop. Did you"):
    evaluate.evaluate(run)


def test_model_of_another_data_set(run, monkeypatch):
  load = trained.load

  def other(folder):
    loaded = load(folder)
    object.__setattr__(loaded, "classes", tuple("abcdefghij"))
    return loaded

  monkeypatch.setattr(trained, "load", other)
  with pytest.raises(ValueError, match="is of other classes or images"):
    evaluate.evaluate(run)


def test_no_validation_images(run, monkeypatch):
  build = evaluate.build.build_task

  def without(config, mesh, data_dir):
    task = build(config, mesh, data_dir)
    object.__setattr__(task, "validation_labels", task.test_labels[:0])
    return task

  monkeypatch.setattr(evaluate.build, "build_task", without)
  with pytest.raises(ValueError, match="held out no validation images"):
    evaluate.evaluate(run, split="validation")


def test_a_number_that_differs_is_told(run, capsys):
  summary = json.loads((run / "summary.json").read_text())
  for row in summary["evaluations"]:
    row["ece"] += 0.25
  (run / "summary.json").write_text(json.dumps(summary))
  assert evaluate.main([f"--workdir={run}", "--format=json"]) == 0
  out, err = capsys.readouterr()
  assert json.loads(out) == recorded("test", "balanced")
  assert err.startswith("note: ece differ from summary.json.")


def test_table_tells_classes_groups_and_the_whole(capsys):
  assert evaluate.main([f"--workdir={finished.run()}"]) == 0
  out, err = capsys.readouterr()
  assert err == ""
  lines = out.splitlines()
  row = recorded("test", "balanced")
  assert lines[0].split() == [
    "group",
    "class",
    "labeled",
    "images",
    "precision",
    "recall",
  ]
  classes = [line.split() for line in lines[2:12]]
  heads = {0: "many", 3: "medium", 6: "few"}
  confusion = np.array(row["confusion"])
  for i, cells in enumerate(classes):
    if i in heads:
      assert cells.pop(0) == heads[i]
    called = confusion[:, i].sum()
    precision = f"{100 * confusion[i, i] / called:.1f}" if called else "–"
    assert cells[0] == str(i) and cells[2] == "50"
    assert cells[3] == precision
    assert cells[4] == f"{100 * row['per_class'][i]:.1f}"
    bar = cells[5] if len(cells) > 5 else ""
    assert bar == "█" * round(20 * row["per_class"][i])
  assert [line.split()[0] for line in lines[13:17]] == [
    "many",
    "medium",
    "few",
    "all",
  ]
  for line, key in zip(lines[13:16], ("many", "medium", "few"), strict=True):
    assert line.split()[4] == f"{100 * row[f'accuracy/{key}']:.1f}"
  assert lines[13].split()[2] == "150"
  assert lines[16].split()[2] == "500"
  assert lines[-1].startswith("Decoupling, test images, balanced head: accur")
  assert f"accuracy {100 * row['accuracy']:.1f} %" in lines[-1]
  assert f"ECE {row['ece']:.4f}" in lines[-1]


def test_table_of_absent_and_never_predicted_classes():
  row, _, task = evaluate.evaluate(finished.run())
  confusion = np.zeros((10, 10), int)
  confusion[0, 0] = 3
  row |= {
    "confusion": confusion.tolist(),
    "per_class": [1.0] + [None] * 9,
    "accuracy/medium": None,
  }
  lines = evaluate.table(row, task).splitlines()
  labeled = task.split.labeled_counts
  assert lines[2].split() == [
    "many", "0", str(labeled[0]), "3", "100.0", "100.0", "█" * 20
  ]  # fmt: skip
  assert lines[3].split() == ["1", str(labeled[1]), "0", "–", "–"]
  assert lines[14].split()[-1] == "–"


def test_usage(capsys):
  with pytest.raises(SystemExit) as caught:
    evaluate.main(["--workdir=x", "--split=train"])
  assert caught.value.code == 2
  assert "usage: python -m ltjax.evaluate" in capsys.readouterr().err


def test_command_line_repeats_the_summary_bit_for_bit(tmp_path):
  run = shutil.copytree(finished.run(), tmp_path / "elsewhere")
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "ltjax.evaluate",
      f"--workdir={run}",
      "--format=json",
    ],
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""
  assert json.loads(done.stdout) == recorded("test", "balanced")
