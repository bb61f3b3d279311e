"""Decisions of a run: chosen, kept, told, and used by predictions."""

import json

import finished
import numpy as np
from PIL import Image
import pytest

from ltjax import evaluate, predict
from ltjax.data.sources import labeled
from ltjax.runs import finished as runs
from ltjax.trust import calibration, decided_run, decisions

CLASSES = ("cat", "狗", "a, b")


def table(tmp_path, text):
  path = tmp_path / "costs.csv"
  path.write_text(text, encoding="utf-8")
  return path


def test_costs_are_read_by_name_in_any_order(tmp_path):
  path = table(
    tmp_path,
    '\ufeff,狗,"a, b",cat\ncat,1,2,0\n\n"a, b",3,0,4.5\n狗,0,-1,5\n',
  )
  np.testing.assert_array_equal(
    decided_run.read_costs(path, CLASSES), [[0, 1, 2], [5, 0, -1], [4.5, 3, 0]]
  )


@pytest.mark.parametrize(
  "text, message",
  [
    ("", "first row: 'cat', '狗', 'a, b' are missing"),
    (",cat,狗\n", "first row: 'a, b' are missing"),
    (',cat,狗,"a, b",cat\n', "first row: 'cat' are named twice"),
    (',cat,狗,"a, b",cow\n', "first row: 'cow' are not classes"),
    (',cat,狗,"a, b"\ncat,0,1,1\n', "first column: '狗', 'a, b' are missing"),
    (
      ',cat,狗,"a, b"\ncat,0,1,1\n狗,1,0\n"a, b",1,1,0\n',
      "row '狗': 2 costs; it needs 3",
    ),
    (
      ',cat,狗,"a, b"\ncat,0,1,x\n狗,1,0,1\n"a, b",1,1,0\n',
      "row 'cat': the cost 'x' of 'a, b' is no number",
    ),
    (
      ',cat,狗,"a, b"\ncat,0,1,inf\n狗,1,0,1\n"a, b",1,1,0\n',
      "the cost 'inf'",
    ),
  ],
)
def test_a_wrong_table_says_where(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    decided_run.read_costs(table(tmp_path, text), CLASSES)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return finished.copy(tmp_path_factory.mktemp("decided"))


def told(capsys, main, *argv):
  capsys.readouterr()
  code = main(list(map(str, argv)))
  return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pictures")
  for i in range(12):
    pixels = np.asarray(labeled.load("digits").test_images[i])
    Image.fromarray(pixels[..., 0]).save(folder / f"{i:02}.png")
  return folder


def test_weights_are_chosen_on_validation_images(run, capsys):
  code, out, _ = told(
    capsys,
    evaluate.main,
    f"--workdir={run}",
    "--decide=geometric_mean",
    "--format=json",
  )
  found = json.loads(out)
  assert code == 0 and found["images"] == 20
  given, labels = runs.reopen(run).probabilities("validation")
  chosen = decisions.choose(given, labels, objective="geometric_mean")
  np.testing.assert_allclose(found["weights"], chosen.weights)
  assert found["validation"]["geometric_mean"] == pytest.approx(
    [chosen.before, chosen.value]
  )
  before, after = found["validation"]["balanced_accuracy"]
  assert after > before
  rule = decided_run.load(run, "balanced", calibrated=False)
  np.testing.assert_array_equal(
    rule.decide(given), decisions.weighted(given, chosen.weights)
  )


def test_predictions_name_what_the_rule_decides(run, folder, capsys):
  decided_run.decide(run, "balanced_accuracy")
  rule = decided_run.load(run, "balanced", calibrated=False)
  flags = [f"--workdir={run}", "--format=jsonl", "--top=10", str(folder)]
  plain, decided = (
    [
      json.loads(line)
      for line in told(capsys, predict.main, *more, *flags)[1].splitlines()
    ]
    for more in ([], ["--decided"])
  )
  moved = 0
  for before, after in zip(plain, decided, strict=True):
    probabilities = np.zeros(10)
    for entry in before["top"]:
      probabilities[entry["label"]] = entry["probability"]
    expected = rule.decide(probabilities[None] / probabilities.sum())[0]
    assert (
      after["label"] == expected and after["decided"] == "balanced_accuracy"
    )
    assert after["probability"] == pytest.approx(probabilities[expected])
    assert {e["label"] for e in after["top"]} == set(range(10))
    moved += after["label"] != before["label"]
  assert moved


def test_costs_decide_and_are_told(run, tmp_path, capsys):
  names = [str(c) for c in range(10)]
  costs = 1 - np.eye(10)
  costs[:, 3] = 0.0  # whatever it is, to call it 3 costs nothing
  rows = [",".join(["", *names])]
  rows += [",".join([n, *map(str, row)]) for n, row in zip(names, costs)]
  path = table(tmp_path, "\n".join(rows))
  code, out, _ = told(
    capsys, evaluate.main, f"--workdir={run}", f"--decide=costs:{path}"
  )
  assert code == 0 and "decisions by costs" in out
  assert "cost" in out and "-> 0.0000" in out
  rule = decided_run.load(run, "balanced", calibrated=False)
  np.testing.assert_array_equal(rule.decide(np.full((2, 10), 0.1)), [3, 3])


def test_a_rule_is_for_the_probabilities_that_it_was_chosen_on(run, capsys):
  even = (0.1,) * 10
  calibration.save(
    run, "balanced", calibration.Calibration("bias", 2.0, (0.0,) * 10, even)
  )
  decided_run.decide(run, "macro_f1", calibrated=True)
  decided_run.load(run, "balanced", calibrated=True)
  with pytest.raises(ValueError, match="calibrated .*add --calibrated"):
    decided_run.load(run, "balanced", calibrated=False)
  with pytest.raises(ValueError, match="no rule for decisions of its random"):
    decided_run.load(run, "random", calibrated=False)


@pytest.mark.parametrize(
  "flags, message",
  [
    (
      ["--decide=min_recall:x"],
      "--decide is 'min_recall:x'; min_recall: needs",
    ),
    (["--decide=f1"], "--decide is 'f1'; choose one of balanced_accuracy"),
    (["--decide=costs:nowhere.csv"], "nowhere.csv: no such file of costs"),
    (["--decide=macro_f1", "--data=folder:x"], "leave out --data"),
  ],
)
def test_what_does_not_fit_is_said(run, capsys, flags, message):
  code, _, error = told(capsys, evaluate.main, f"--workdir={run}", *flags)
  assert code == 1 and message in error
