import pytest

from ltjax import comparison


def evaluation(model, accuracy, **extra):
  return {
    "model": model,
    "head": "balanced",
    "split": "test",
    "accuracy": accuracy,
    "balanced_accuracy": accuracy / 2,
    "accuracy/many": 0.9,
    "accuracy/medium": 0.5,
    "accuracy/few": accuracy / 4,
    **extra,
  }


def summary(seed, accuracy, *, pseudo=None, **config):
  labels = [] if pseudo is None else [{"loop": 1, "pseudo/accuracy": pseudo}]
  return {
    "finished": True,
    "config": {"method": "sslt", "seed": seed, **config},
    "evaluations": [
      evaluation("Decoupling", accuracy - 0.1),
      evaluation("SSLT loop 1", accuracy),
      evaluation("SSLT loop 1", 0.99, split="validation"),
    ],
    "pseudo_labels": labels,
  }


def test_golden_mean_and_sample_deviation():
  rows = comparison.aggregate(
    [summary(2, 0.4), summary(0, 0.5), summary(1, 0.6)]
  )
  assert [row["model"] for row in rows] == ["Decoupling", "SSLT loop 1"]
  row = rows[1]
  assert row["experiment"] == "sslt"
  assert row["kind"] == "eval"
  assert row["seeds"] == [0, 1, 2]
  assert row["accuracy"] == pytest.approx({"mean": 0.5, "std": 0.1})
  assert row["balanced_accuracy"] == pytest.approx({"mean": 0.25, "std": 0.05})
  assert row["accuracy/many"] == pytest.approx({"mean": 0.9, "std": 0.0})
  assert row["accuracy/few"] == pytest.approx({"mean": 0.125, "std": 0.025})
  assert rows[0]["accuracy"] == pytest.approx({"mean": 0.4, "std": 0.1})


def test_two_seeds_divide_by_one():
  row = comparison.aggregate([summary(0, 0.5), summary(1, 0.7)])[1]
  # Deviations of 0.1 each: sqrt((0.01 + 0.01) / (2 - 1)).
  assert row["accuracy"]["std"] == pytest.approx(0.02**0.5)


def test_one_seed_has_no_deviation():
  row = comparison.aggregate([summary(3, 0.5)])[1]
  assert row["seeds"] == [3]
  assert row["accuracy"] == {"mean": 0.5, "std": None}


def test_pseudo_labels_by_loop():
  rows = comparison.aggregate(
    [summary(0, 0.5, pseudo=0.8), summary(1, 0.5, pseudo=0.9)]
  )
  row = rows[-1]
  assert (row["kind"], row["loop"], row["seeds"]) == ("pseudo", 1, [0, 1])
  assert row["pseudo/accuracy"]["mean"] == pytest.approx(0.85)
  assert row["pseudo/accuracy/few"] == {"mean": None, "std": None}


def test_pseudo_labels_without_truth_are_no_rows():
  one = summary(0, 0.5)
  one["pseudo_labels"] = [{"loop": 1}]
  two = summary(1, 0.5)
  del two["pseudo_labels"]
  kinds = {row["kind"] for row in comparison.aggregate([one, two])}
  assert kinds == {"eval"}


def test_a_number_that_one_run_lacks_has_no_mean():
  one, two = summary(0, 0.5), summary(1, 0.5)
  two["evaluations"][1]["accuracy/few"] = None
  rows = comparison.aggregate([one, two])
  assert rows[1]["accuracy/few"] == {"mean": None, "std": None}
  assert rows[0]["accuracy/few"]["mean"] == pytest.approx(0.1)


def test_experiments_are_named_by_what_differs():
  rows = comparison.aggregate(
    [
      summary(0, 0.5, loops=3, labeled={"rho": 100.0, "max": 500}),
      summary(1, 0.7, loops=3, labeled={"rho": 100.0, "max": 500}),
      summary(0, 0.3, loops=3, labeled={"rho": 1000.0, "max": 500}),
    ]
  )
  names = dict.fromkeys(row["experiment"] for row in rows)
  assert list(names) == ["labeled.rho=100.0", "labeled.rho=1000.0"]
  assert [len(row["seeds"]) for row in rows] == [2, 2, 1, 1]


def test_a_field_that_only_one_experiment_has():
  rows = comparison.aggregate([summary(0, 0.5, note="x"), summary(0, 0.5)])
  names = dict.fromkeys(row["experiment"] for row in rows)
  assert list(names) == ["note=x", "the others"]


def test_the_same_seed_twice_is_refused():
  with pytest.raises(ValueError, match="sslt: seed 4 is there 2 times"):
    comparison.aggregate([summary(4, 0.5), summary(0, 0.5), summary(4, 0.5)])


def test_nothing_gives_nothing():
  assert comparison.aggregate([]) == []
  assert comparison.to_markdown([]) == ""


def test_markdown():
  rows = comparison.aggregate(
    [summary(0, 0.4, pseudo=0.8), summary(1, 0.6, pseudo=0.8)]
  )
  assert comparison.to_markdown(rows).splitlines() == [
    "## sslt",
    "",
    "Test accuracy in %, mean ± sample standard deviation over the seeds "
    "(0, 1).",
    "",
    "| model       | seeds |     overall |   balanced |       many |"
    "     medium |        few |",
    "| ----------- | ----: | ----------: | ---------: | ---------: |"
    " ---------: | ---------: |",
    "| Decoupling  |     2 | 40.0 ± 14.1 | 20.0 ± 7.1 | 90.0 ± 0.0 |"
    " 50.0 ± 0.0 | 10.0 ± 3.5 |",
    "| SSLT loop 1 |     2 | 50.0 ± 14.1 | 25.0 ± 7.1 | 90.0 ± 0.0 |"
    " 50.0 ± 0.0 | 12.5 ± 3.5 |",
    "",
    "Accuracy of the pseudo labels in %, by loop.",
    "",
    "| loop | seeds |    overall | many | medium | few |",
    "| ---- | ----: | ---------: | ---: | -----: | --: |",
    "| 1    |     2 | 80.0 ± 0.0 |    – |      – |   – |",
  ]


def test_markdown_of_one_seed_and_two_experiments():
  text = comparison.to_markdown(
    comparison.aggregate([summary(7, 0.4, loops=1), summary(7, 0.4, loops=2)])
  )
  assert text.count("Test accuracy in %, one seed (7).") == 2
  assert "## loops=1\n" in text and "## loops=2\n" in text
  assert "±" not in text and "pseudo" not in text
