import json
import os

import numpy as np
import pytest

from ltjax.report import page
from ltjax.runs import writers

CLASSES = ["cat", "dog|wolf", "owl"]


def evaluation(model, accuracy, head="balanced", split="test"):
  return {
    "stage": "x",
    "model": model,
    "head": head,
    "split": split,
    "accuracy": accuracy,
    "balanced_accuracy": accuracy,
    "geometric_mean": accuracy,
    "ece": 0.05,
    "accuracy/many": 0.9,
    "accuracy/medium": 0.5,
    "accuracy/few": accuracy / 2,
    "per_class": [0.9, 0.5, None],
    "confusion": (np.eye(3, dtype=int) * 7).tolist(),
  }


def summary(seed=0, accuracy=0.456, loops=2):
  evaluations = [
    evaluation("CE (g')", 0.3, head="random"),
    evaluation("Decoupling", 0.4),
  ]
  labels = []
  for loop in range(1, loops + 1):
    evaluations += [
      evaluation(f"SSLT loop {loop}", 0.777, split="validation"),
      evaluation(f"SSLT loop {loop}", accuracy),
    ]
    label = {"loop": loop, "pseudo/accuracy": 0.871}
    for kind, first in (("accuracy", 0.6), ("recall", 0.5), ("precision", 0.9)):
      for group in ("many", "medium", "few"):
        label[f"pseudo/{kind}/{group}"] = first
    labels.append(label)
  last = evaluations[-1]
  return {
    "finished": True,
    "method": "sslt" if loops else "decoupling",
    "config": {"method": "sslt" if loops else "decoupling", "seed": seed},
    "classes": CLASSES,
    "groups": {"many": [0], "medium": [1], "few": [2]},
    "labeled_counts": [100, 10, 1],
    "unlabeled_counts": [500, 50, 5],
    "test_counts": [7, 7, 0],
    "split_hash": "0123abcd",
    "evaluations": evaluations,
    "pseudo_labels": labels,
    "result": {
      "last": last,
      "mean_of_last_k": {"k": 2, "accuracy": 0.4321},
      "validation_selected": None,
      "best_on_test": evaluation("SSLT loop 1", 0.6543),
    },
  }


def run(folder, **changes):
  """A finished run's folder."""
  folder.mkdir()
  (folder / "summary.json").write_text(json.dumps(summary(**changes)))
  return folder


def cells(text, start):
  """The cells of the first table row that starts with a cell."""
  row = next(
    line for line in text.splitlines() if line.startswith(f"| {start}")
  )
  return [cell.strip() for cell in row.strip("|").split(" | ")]


class TestWrite:
  def test_a_whole_run(self, tmp_path):
    folder = run(tmp_path / "r")
    (folder / "environment.json").write_text(
      json.dumps(
        {
          "sessions": [
            {"command": ["/x/ltjax/main.py"], "jax": "1.1"},
            {"command": ["/x/ltjax/main.py", "--a=b c"], "jax": "9.9"},
          ]
        }
      )
    )
    lines = writers.JsonlWriter(folder / "metrics.jsonl")
    for epoch, loss in [(1, 2.0), (2, 1.2345)]:
      lines.write(
        {
          "kind": "train",
          "stage": "embedding",
          "epoch": epoch,
          "epochs": 2,
          "loss": loss,
          "accuracy": 0.25,
        }
      )
    lines.close()
    assert page.write(folder) == folder / "report.md"
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# sslt, seed 0\n")
    assert (
      "**SSLT loop 2: test accuracy 45.6 % (many 90.0, medium 50.0, few 22.8)"
    ) in text
    assert cells(text, "CE (g')") == (
      ["CE (g')", "random", "30.0", "30.0", "30.0", "90.0", "50.0", "15.0"]
      + ["5.0"]
    )
    assert cells(text, "SSLT loop 1, validation")[2] == "77.7"
    assert cells(text, "last evaluation")[1:3] == ["SSLT loop 2", "45.6"]
    assert cells(text, "mean of the last 2")[1:5] == ["", "43.2", "–", "–"]
    assert cells(text, "best on the validation")[1:3] == ["not available", "–"]
    best = cells(text, "best on test")
    assert "selected on the test set: for comparison with papers" in best[0]
    assert best[1:3] == ["SSLT loop 1", "65.4"]
    assert cells(text, "1   ") == (
      ["1", "87.1"] + ["60.0"] * 3 + ["50.0"] * 3 + ["90.0"] * 3
    )
    assert cells(text, "owl")[1:] == ["few", "1", "5", "0", "–", "–", "–"]
    assert cells(text, "cat")[1:] == (
      ["many", "100", "500", "7", "90.0", "90.0", "90.0"]
    )
    assert "dog\\|wolf" in text
    assert cells(text, "embedding") == ["embedding", "2/2", "1.2345", "25.0"]
    assert "```sh\npython -m ltjax.main '--a=b c'\n```" in text
    assert "`0123abcd`" in text
    assert '"seed": 0' in text
    assert '"jax": "9.9"' in text and "1.1" not in text
    pictures = sorted(p.name for p in (folder / "plots").glob("*.png"))
    assert pictures == [
      "accuracy_over_loops.png",
      "class_histogram.png",
      "confusion_matrix.png",
      "pseudo_label_accuracy.png",
    ]
    for picture in pictures:
      assert text.count(f"(plots/{picture})") == 1
    assert not [name for name in os.listdir(folder) if name.startswith(".")]

  def test_the_mean_and_spread_of_groups_where_they_are_known(self, tmp_path):
    folder = run(tmp_path / "r", loops=0)
    text = page.write(folder).read_text(encoding="utf-8")
    assert "group mean" not in text  # A run of an earlier version.
    changed = summary(loops=0)
    changed["evaluations"][1] |= {"group_mean": 0.625, "group_std": 0.25}
    (folder / "summary.json").write_text(json.dumps(changed))
    text = page.write(folder).read_text(encoding="utf-8")
    assert "The group mean counts the three groups alike" in text
    # The run's first evaluation does not know them.
    assert cells(text, "CE (g')")[-2:] == ["–", "–"]
    assert cells(text, "Decoupling")[-2:] == ["62.5", "25.0"]
    assert cells(text, "model")[-2:] == ["group mean", "group std"]
    assert cells(text, "last evaluation")[2] == "40.0"

  def test_prototypes_beside_base_rate_and_controls(self, tmp_path):
    folder = run(tmp_path / "r", loops=0)
    changed = summary(loops=0)
    row = {
      "stage": "prototypes",
      "count": 128,
      "images": 12406,
      "distinct": 97,
      "known": 128,
      "shares": {"many": 0.906, "medium": 0.078, "few": 0.016},
      "base_rate": {"many": 0.876, "medium": 0.102, "few": 0.022},
      "random": {"many": 0.85, "medium": 0.1, "few": 0.05},
      "matched": {"many": 0.95, "medium": 0.04, "few": 0.01},
      "nearest": [1] * 128,
      "classes": [0] * 128,
    }
    nothing = dict.fromkeys(("many", "medium", "few"))
    unknown = row | {"stage": "late", "known": 3, "shares": nothing}
    changed["prototypes"] = [row, unknown]
    (folder / "summary.json").write_text(json.dumps(changed))
    text = page.write(folder).read_text(encoding="utf-8")
    assert "## Prototypes\n" in text and "of two controls" in text
    assert (
      "After the stage `prototypes`: 128 prototypes, nearest to 97 different"
      " images of 12,406.\n"
    ) in text
    assert "`late`" in text and "; 125 of them to an image of unknown" in text
    assert cells(text, "in %") == ["in %", "many", "medium", "few"]
    assert cells(text, "prototypes")[1:] == ["90.6", "7.8", "1.6"]
    assert cells(text, "training images")[1:] == ["87.6", "10.2", "2.2"]
    assert cells(text, "random directions")[1:] == ["85.0", "10.0", "5.0"]
    assert cells(text, "Gaussian")[1:] == ["95.0", "4.0", "1.0"]
    assert cells(text.partition("`late`")[2], "prototypes")[1:] == ["–"] * 3

  def test_pretraining_is_drawn_and_its_end_told(self, tmp_path):
    folder = run(tmp_path / "r", loops=0)
    lines = writers.JsonlWriter(folder / "metrics.jsonl")
    plain = {"kind": "train", "epochs": 2, "accuracy": None}
    watched = {"feature_std": 0.51234, "effective_rank": 17.26}
    for stage, more in (("pretrain", watched), ("embedding", {})):
      for epoch in (1, 2):
        row = plain | {"stage": stage, "epoch": epoch, "loss": 3.0}
        lines.write(row | more)
    lines.close()
    text = page.write(folder).read_text(encoding="utf-8")
    header = cells(text.partition("## Training")[2], "stage")
    assert header[-2:] == ["feature std", "effective rank"]
    assert cells(text, "pretrain ")[-3:] == ["–", "0.512", "17.3"]
    assert cells(text, "embedding ")[-2:] == ["–", "–"]
    assert "(plots/pretraining.png)" in text
    assert (folder / "plots" / "pretraining.png").exists()

  def test_decoupling_has_no_loops_and_no_pseudo_labels(self, tmp_path):
    folder = run(tmp_path / "r", loops=0)
    text = page.write(folder).read_text(encoding="utf-8")
    assert "**Decoupling: test accuracy 40.0 %" in text
    assert "Pseudo" not in text and "## Training" not in text
    assert sorted(os.listdir(folder / "plots")) == [
      *("class_histogram.png", "class_histogram.svg"),
      *("confusion_matrix.png", "confusion_matrix.svg"),
    ]
    assert (folder / "report.html").read_text().count("<svg") == 2

  def test_unlabeled_images_without_truth(self, tmp_path):
    folder = run(tmp_path / "r")
    changed = summary()
    changed["unlabeled_counts"] = []
    changed["pseudo_labels"] = [{"loop": 1}, {"loop": 2}]
    (folder / "summary.json").write_text(json.dumps(changed))
    text = page.write(folder).read_text(encoding="utf-8")
    assert "Pseudo" not in text
    assert cells(text, "cat")[2:5] == ["100", "–", "7"]

  def test_a_script_of_ones_own_and_no_session(self, tmp_path):
    folder = run(tmp_path / "r", loops=0)
    path = folder / "environment.json"
    path.write_text('{"sessions": [{"command": ["sweep.py", "a"]}]}')
    text = page.write(folder).read_text(encoding="utf-8")
    assert "```sh\npython sweep.py a\n```" in text
    assert "Environment" not in text
    path.write_text('{"sessions": []}')
    assert "```sh" not in page.write(folder).read_text(encoding="utf-8")

  def test_writing_again_gives_the_same(self, tmp_path):
    folder = run(tmp_path / "r", loops=0)
    first = page.write(folder).read_bytes()
    assert page.write(folder).read_bytes() == first

  def test_an_unfinished_run_is_refused(self, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
      page.write(tmp_path)
    assert os.listdir(tmp_path) == []

  @pytest.mark.parametrize(
    "text, message",
    [
      ('{"fini', "summary.json is damaged"),
      ("{}", "not the summary of a finished run"),
      ("[1]", "not the summary of a finished run"),
      ('{"finished": false}', "not the summary of a finished run"),
    ],
  )
  def test_a_bad_summary_is_refused(self, tmp_path, text, message):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ValueError, match=message):
      page.write(tmp_path)


class TestMain:
  def test_prints_a_table_and_names_what_it_left_out(self, tmp_path, capsys):
    folders = [
      run(tmp_path / f"r{seed}", seed=seed, accuracy=0.4 + 0.1 * seed)
      for seed in range(3)
    ]
    half = tmp_path / "half"
    half.mkdir()
    assert page.main([*map(str, folders), str(half), str(folders[0])]) == 0
    out, err = capsys.readouterr()
    row = cells(out, "SSLT loop 2")
    assert row[:3] == ["SSLT loop 2", "3", "50.0 ± 10.0"]
    assert cells(out, "1   ")[:3] == ["1", "3", "87.1 ± 0.0"]
    assert err == (
      f"left out: {half} holds no finished run (there is no summary.json): "
      "train it to its end first\n"
    )

  def test_no_finished_run_is_an_error(self, tmp_path, capsys):
    assert page.main([str(tmp_path), str(tmp_path / "none")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("left out") == 2
    assert err.endswith("error: none of the folders holds a finished run\n")

  def test_writes_markdown_or_lines(self, tmp_path, capsys):
    folder = str(run(tmp_path / "r"))
    assert page.main([folder]) == 0
    printed = capsys.readouterr().out
    table = tmp_path / "new" / "table.md"
    assert page.main([folder, "--out", str(table)]) == 0
    assert table.read_text(encoding="utf-8") == printed
    lines = tmp_path / "results.jsonl"
    assert page.main([folder, "--out", str(lines)]) == 0
    rows = writers.read(lines)
    assert rows[2]["model"] == "Decoupling"
    assert rows[2]["accuracy"] == {"mean": 0.4, "std": None}
    assert capsys.readouterr().out == ""

  def test_a_folder_of_runs_stands_for_them(self, tmp_path, capsys):
    inner = tmp_path / "runs" / "cpu"
    inner.mkdir(parents=True)
    folders = [run(inner / f"r{seed}", seed=seed) for seed in range(3)]
    nested = folders[0] / "copy"
    nested.mkdir()
    (nested / "summary.json").write_text("{}")  # A run's own affair.
    half = inner / "half"
    half.mkdir()
    (half / "config.json").write_text("{}")
    assert page.find(tmp_path) == [half, *folders]
    assert page.find(folders[1]) == [folders[1]]
    assert page.main([str(tmp_path / "runs")]) == 0
    out, err = capsys.readouterr()
    assert cells(out, "SSLT loop 2")[:3] == ["SSLT loop 2", "3", "45.6 ± 0.0"]
    assert err.count("left out") == 1 and str(half) in err

  def test_several_experiments_by_error_and_another_rule(
    self, tmp_path, capsys
  ):
    folders = [
      str(run(tmp_path / f"{loops}{seed}", seed=seed, loops=loops))
      for loops in (0, 2)
      for seed in (0, 1)
    ]
    assert page.main([*folders, "--metric=error", "--rule=best_on_test"]) == 0
    out = capsys.readouterr().out
    assert "selected on the test images" in out
    assert cells(out, "Decoupling")[:3] == ["Decoupling", "2", "34.6 ± 0.0"]
    assert cells(out, "SSLT")[:3] == ["SSLT", "2", "34.6 ± 0.0"]
    assert cells(out, "SSLT loop 2")[2] == "54.4 ± 0.0"
    assert cells(out, "1   ")[2] == "12.9 ± 0.0"
    lines = tmp_path / "results.jsonl"
    assert page.main([*folders, "--metric=error", "--out", str(lines)]) == 0
    row = writers.read(lines)[0]
    assert (row["kind"], row["rule"]) == ("result", "last")
    assert row["accuracy"]["mean"] == 0.4  # An accuracy, whatever is shown.

  @pytest.mark.parametrize("flag", ["--metric=loss", "--rule=best"])
  def test_unknown_choices_are_refused(self, tmp_path, flag, capsys):
    with pytest.raises(SystemExit):
      page.main([str(tmp_path), flag])
    assert "choose from" in capsys.readouterr().err

  def test_copies_of_a_run_are_an_error(self, tmp_path, capsys):
    copies = [str(run(tmp_path / name)) for name in "ab"]
    assert page.main(copies) == 1
    assert "error: SSLT: seed 0 is there 2 times" in capsys.readouterr().err

  def test_a_place_that_cannot_be_written(self, tmp_path, capsys):
    folder = run(tmp_path / "r")
    out = folder / "summary.json" / "table.md"
    assert page.main([str(folder), "--out", str(out)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
