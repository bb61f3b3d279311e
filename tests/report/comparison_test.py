import pytest

from ltjax.report import comparison


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
  last = evaluation("SSLT loop 1", accuracy)
  labels = [] if pseudo is None else [{"loop": 1, "pseudo/accuracy": pseudo}]
  return {
    "finished": True,
    "config": {"method": "sslt", "seed": seed, **config},
    "evaluations": [
      evaluation("Decoupling", accuracy - 0.1),
      last,
      evaluation("SSLT loop 1", 0.99, split="validation"),
    ],
    "pseudo_labels": labels,
    "result": {
      "last": last,
      "mean_of_last_k": {"k": 2, "accuracy": accuracy - 0.2},
      "validation_selected": None,
      "best_on_test": evaluation("Decoupling", accuracy + 0.1),
    },
  }


def evaluations(summaries):
  return [r for r in comparison.aggregate(summaries) if r["kind"] == "eval"]


def test_golden_mean_and_sample_deviation():
  rows = evaluations([summary(2, 0.4), summary(0, 0.5), summary(1, 0.6)])
  assert [row["model"] for row in rows] == ["Decoupling", "SSLT loop 1"]
  row = rows[1]
  assert row["experiment"] == "SSLT"
  assert row["kind"] == "eval"
  assert row["seeds"] == [0, 1, 2]
  assert row["accuracy"] == pytest.approx({"mean": 0.5, "std": 0.1})
  assert row["balanced_accuracy"] == pytest.approx({"mean": 0.25, "std": 0.05})
  assert row["accuracy/many"] == pytest.approx({"mean": 0.9, "std": 0.0})
  assert row["accuracy/few"] == pytest.approx({"mean": 0.125, "std": 0.025})
  assert rows[0]["accuracy"] == pytest.approx({"mean": 0.4, "std": 0.1})


def test_two_seeds_divide_by_one():
  row = evaluations([summary(0, 0.5), summary(1, 0.7)])[1]
  # Deviations of 0.1 each: sqrt((0.01 + 0.01) / (2 - 1)).
  assert row["accuracy"]["std"] == pytest.approx(0.02**0.5)


def test_one_seed_has_no_deviation():
  row = evaluations([summary(3, 0.5)])[1]
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
  assert kinds == {"result", "eval"}


def test_a_number_that_one_run_lacks_has_no_mean():
  one, two = summary(0, 0.5), summary(1, 0.5)
  two["evaluations"][1]["accuracy/few"] = None
  rows = evaluations([one, two])
  assert rows[1]["accuracy/few"] == {"mean": None, "std": None}
  assert rows[0]["accuracy/few"]["mean"] == pytest.approx(0.1)


def test_experiments_are_named_by_what_differs():
  rows = evaluations(
    [
      summary(0, 0.5, loops=3, data={"labeled": {"rho": 100.0, "max": 500}}),
      summary(1, 0.7, loops=3, data={"labeled": {"rho": 100.0, "max": 500}}),
      summary(0, 0.3, loops=3, data={"labeled": {"rho": 1000.0, "max": 500}}),
    ]
  )
  names = dict.fromkeys(row["experiment"] for row in rows)
  assert list(names) == ["SSLT, rho=100", "SSLT, rho=1000"]
  assert [len(row["seeds"]) for row in rows] == [2, 2, 1, 1]
  assert rows[0]["settings"] == {"data.labeled.rho": 100.0}


@pytest.mark.parametrize(
  "rule, mean",
  [
    ("last", 0.5),
    ("mean_of_last_k", 0.3),
    ("validation_selected", None),
    ("best_on_test", 0.6),
  ],
)
def test_the_result_follows_a_rule(rule, mean):
  row = comparison.aggregate([summary(0, 0.4), summary(1, 0.6)], rule=rule)[0]
  assert (row["kind"], row["rule"], row["seeds"]) == ("result", rule, [0, 1])
  assert row["accuracy"]["mean"] == (mean and pytest.approx(mean))


def test_the_same_seed_twice_is_refused():
  with pytest.raises(ValueError, match="SSLT: seed 4 is there 2 times"):
    comparison.aggregate([summary(4, 0.5), summary(0, 0.5), summary(4, 0.5)])


def test_nothing_gives_nothing():
  assert comparison.aggregate([]) == []
  assert comparison.to_markdown([]) == ""


def test_markdown():
  rows = comparison.aggregate(
    [summary(0, 0.4, pseudo=0.8), summary(1, 0.6, pseudo=0.8)]
  )
  assert comparison.to_markdown(rows).splitlines() == [
    "## SSLT",
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
    "Accuracy of the pseudo labels in %.",
    "",
    "| loop | seeds |    overall | many | medium | few |",
    "| ---- | ----: | ---------: | ---: | -----: | --: |",
    "| 1    |     2 | 80.0 ± 0.0 |    – |      – |   – |",
  ]


def test_markdown_of_several_experiments():
  rows = comparison.aggregate(
    [
      summary(7, 0.4, loops=1, views=3),
      summary(7, 0.5, loops=2),
      summary(8, 0.7, loops=2),
    ]
  )
  text = comparison.to_markdown(rows)
  assert text.splitlines()[:8] == [
    "## Results",
    "",
    "Test accuracy in %, mean ± sample standard deviation over seeds; the last"
    " evaluation of each run, nothing selected.",
    "",
    "|               | seeds |     overall |   balanced |       many |"
    "     medium |        few |",
    "| ------------- | ----: | ----------: | ---------: | ---------: |"
    " ---------: | ---------: |",
    "| SSLT, loops=1 |     1 |        40.0 |       20.0 |       90.0 |"
    "       50.0 |       10.0 |",
    "| SSLT, loops=2 |     2 | 60.0 ± 14.1 | 30.0 ± 7.1 | 90.0 ± 0.0 |"
    " 50.0 ± 0.0 | 15.0 ± 3.5 |",
  ]
  assert "## SSLT, loops=1\n\nSettings: `loops=1, views=3`.\n" in text
  assert "Test accuracy in %, one seed (7).\n" in text
  assert "## SSLT, loops=2\n\nSettings: `loops=2`.\n" in text


def test_markdown_of_errors():
  rows = comparison.aggregate(
    [summary(0, 0.4, pseudo=0.8), summary(1, 0.6, pseudo=0.8)]
  )
  text = comparison.to_markdown(rows, measure="error")
  assert "Test error in %" in text and "Error of the pseudo labels" in text
  assert "| SSLT loop 1 |     2 | 50.0 ± 14.1 | 75.0 ± 7.1 | 10.0 ± 0.0 |" in (
    text
  )
  assert "| 1    |     2 | 20.0 ± 0.0 |    – |" in text
  assert "ccuracy" not in text


def test_the_mean_and_spread_of_groups_where_a_run_knows_them():
  """The spread is the mean of each seed's, and that of errors as well."""
  runs = [summary(seed, 0.5) for seed in (0, 1)]
  text = comparison.to_markdown(comparison.aggregate(runs))
  assert "group" not in text
  for run, std in zip(runs, (0.1, 0.3)):
    run["evaluations"][1] |= {"group_mean": 0.75, "group_std": std}
  rows = comparison.aggregate(runs)
  last = [r for r in rows if r.get("model") == "SSLT loop 1"][0]
  assert last["group_mean"]["mean"] == 0.75
  assert last["group_std"]["mean"] == pytest.approx(0.2)
  text = comparison.to_markdown(rows, measure="error")
  header, _, decoupling, loop = (
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in text.splitlines()
    if line.startswith("|")
  )
  assert header[-2:] == ["group mean", "group std"]
  assert decoupling[-2:] == ["–", "–"]
  assert loop[-2:] == ["25.0 ± 0.0", "20.0 ± 14.1"]
