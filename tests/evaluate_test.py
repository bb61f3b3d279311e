import json
import shutil
import subprocess
import sys

import finished
import numpy as np
from PIL import Image
import pytest

from ltjax import evaluate
from ltjax.data.sources import labeled
from ltjax.data.splits import record
from ltjax.runs import trained
from ltjax.trust import calibrated_run, calibration, comparison, pool


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
  found = json.loads(out)
  low, high = found.pop("intervals")["accuracy"]
  assert low < found["accuracy"] < high
  assert found == recorded("test", "balanced")
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
  assert lines[-2].startswith("Decoupling, test images, balanced head: accur")
  assert f"accuracy {100 * row['accuracy']:.1f} %" in lines[-2]
  assert f"ECE {row['ece']:.4f}" in lines[-2]
  assert lines[-1].startswith("95 % intervals: accuracy ")
  assert "balanced accuracy" in lines[-1] and " few " in lines[-1]


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
  found = json.loads(done.stdout)
  found.pop("intervals")
  assert found == recorded("test", "balanced")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
  """The test images of the run as class folders, and as a table."""
  folder = tmp_path_factory.mktemp("digits")
  data = labeled.load("digits")
  rows = ["path,label"]
  for i, (image, label) in enumerate(zip(data.test_images, data.test_labels)):
    path = folder / "pictures" / str(label) / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0]).save(path)
    rows.append(f"{path.relative_to(folder)},{label}")
  (folder / "table.csv").write_text("\n".join(rows))
  return folder


@pytest.mark.parametrize("data", ["folder:pictures", "csv:table.csv"])
def test_pictures_of_ones_own_give_what_the_run_measured(
  data, digits, monkeypatch
):
  monkeypatch.chdir(digits)
  row, known = evaluate.on_data(finished.run(), data)
  wanted = recorded("test", "balanced")
  # Batches of another size may round a tie the other way.
  difference = np.subtract(row["confusion"], wanted["confusion"])
  assert np.abs(difference).sum() <= 2
  assert row["split"] == data and row["model"] == wanted["model"]
  text = evaluate.table(row, known)
  assert f"{data} images, balanced head: accuracy" in text


def test_pictures_of_unknown_classes_are_refused(tmp_path, capsys):
  for name in ("3", "cat", "dog"):
    (tmp_path / name).mkdir()
    Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
  argv = [f"--workdir={finished.run()}", f"--data=folder:{tmp_path}"]
  assert evaluate.main(argv) == 1
  err = capsys.readouterr().err
  assert "does not know the classes 'cat', 'dog'; it has '0', '1'" in err
  (tmp_path / "3" / "a.png").write_bytes(b"no picture")
  with pytest.raises(ValueError, match="does not know"):
    evaluate.on_data(finished.run(), f"folder:{tmp_path}")
  shutil.rmtree(tmp_path / "cat")
  shutil.rmtree(tmp_path / "dog")
  with pytest.raises(ValueError, match="a.png: not a whole image"):
    evaluate.on_data(finished.run(), f"folder:{tmp_path}")


def test_data_and_split_exclude_each_other(capsys):
  argv = [f"--workdir={finished.run()}", "--data=folder:x"]
  assert evaluate.main([*argv, "--split=validation"]) == 1
  assert "give one of the two" in capsys.readouterr().err
  assert evaluate.main([argv[0], "--data=digits"]) == 1
  assert "must be folder:PATH or csv:FILE" in capsys.readouterr().err


def test_two_runs_are_compared_image_by_image(capsys):
  found = [
    evaluate.predictions(finished.run(), head=head)
    for head in ("random", "balanced")
  ]
  row = comparison.compare(*found)
  right = [p.probabilities.argmax(1) == p.labels for p in found]
  assert row["only_second"] == (right[1] & ~right[0]).sum()
  assert row["both"] + row["only_first"] == right[0].sum()
  before, after = (recorded("test", h) for h in ("random", "balanced"))
  value, low, high = row["difference"]["accuracy"]
  assert value == pytest.approx(after["accuracy"] - before["accuracy"])
  assert low < value < high and 0 <= row["p_value"] <= 1
  argv = [f"--workdir={finished.run()}", f"--against={finished.run()}"]
  assert evaluate.main(argv) == 0
  out = capsys.readouterr().out
  assert "only A 0, only B 0" in out and "p = 1" in out
  assert "balanced accuracy    +0.0  [-" in out
  assert evaluate.main([*argv, "--format=json"]) == 0
  assert json.loads(capsys.readouterr().out)["p_value"] == 1


def test_runs_with_other_images_or_classes_are_not_compared():
  found = evaluate.predictions(finished.run())
  others = found._replace(images=np.asarray(found.images) + np.uint8(1))
  with pytest.raises(ValueError, match="other images to test on"):
    comparison.compare(found, others)
  with pytest.raises(ValueError, match="other images to test on"):
    comparison.compare(found, found._replace(labels=found.labels[::-1]))
  known = found.known._replace(class_names=tuple("abcdefghij"))
  with pytest.raises(ValueError, match="other classes"):
    comparison.compare(found, found._replace(known=known))


@pytest.mark.parametrize("kind", calibration.KINDS)
def test_calibration_is_kept_and_told(kind, run, capsys):
  argv = [f"--workdir={run}", f"--calibrate={kind}"]
  assert evaluate.main(argv) == 0
  out = capsys.readouterr().out
  assert out.startswith(f"{kind}, balanced head, fitted on 20 validation")
  assert "test images: ECE" in out
  assert ("bias: 0 " in out) == (kind != "temperature")
  found = calibration.load(run, "balanced")
  assert found.kind == kind and found.shares == (0.1,) * 10
  assert f"temperature {found.temperature:.3f}" in out
  assert (run / "plots" / "reliability.png").exists()
  given, labels = evaluate.predictions(run, split="validation")[:2]
  after = calibration.negative_log_likelihood(found.apply(given), labels)
  assert after < calibration.negative_log_likelihood(given, labels)
  with pytest.raises(ValueError, match="random head of .* is not calibrated"):
    calibration.load(run, "random")
  # Evaluation is that of the network as it was.
  row, last, _ = evaluate.evaluate(run)
  assert row == last


def test_nothing_to_calibrate_on_tells_the_way_out(run, monkeypatch, capsys):
  build = evaluate.build.build_task

  def without(config, mesh, data_dir):
    task = build(config, mesh, data_dir)
    object.__setattr__(task, "validation_labels", task.test_labels[:0])
    return task

  monkeypatch.setattr(evaluate.build, "build_task", without)
  argv = [f"--workdir={run}", "--calibrate=bias"]
  assert evaluate.main(argv) == 1
  err = capsys.readouterr().err
  assert "--config.data.validation.per_class above 0" in err
  assert evaluate.main([*argv, "--data=folder:x"]) == 1
  assert "leave out --data and --against" in capsys.readouterr().err


def test_the_classes_of_the_pool_are_estimated(run, capsys):
  argv = [f"--workdir={run}", "--pool"]
  assert evaluate.main(argv) == 1
  assert "--calibrate=bias" in capsys.readouterr().err
  calibrated_run.calibrate(run, "temperature")
  assert evaluate.main(argv) == 1
  assert "leaves open which shares" in capsys.readouterr().err
  calibrated_run.calibrate(run, "bias")
  row, known = pool.estimate(run)
  labeled = np.array(known.split.labeled_counts)
  np.testing.assert_allclose(row["labeled"], labeled / labeled.sum())
  unlabeled = np.array(known.split.unlabeled_counts)
  np.testing.assert_allclose(row["truth"], unlabeled / unlabeled.sum())
  for name in ("em", "bbse"):
    shares, errors = map(np.array, row[name])
    assert shares.sum() == pytest.approx(1) and errors.max() < 1
  assert 0 <= row["shift"]["p_value"] <= 1 and row["shift"]["degrees"] == 9
  assert 0.1 < row["expected"]["precision"] < 1
  assert evaluate.main(argv) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith(f"Shares of the classes in {row['images']}")
  assert len(lines) == 14 and lines[2].count("±") == 2
  assert "Pseudo labels for these shares, expected: precision" in lines[-1]
  assert "–" in pool.table(row | {"bbse": None}, known)
