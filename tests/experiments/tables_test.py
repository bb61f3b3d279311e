"""Tables: means, deviations, the paper's numbers, and what is missing."""

import pytest

from experiments import tables

GROUPS = ("overall", "many", "medium", "few")


def evaluation(model, accuracy, split="test"):
  return {
    "model": model,
    "split": split,
    "accuracy": accuracy,
    "balanced_accuracy": accuracy / 2,
    "accuracy/many": 0.9,
    "accuracy/medium": 0.5,
    "accuracy/few": None,
  }


def record(name="sslt", seed=0, accuracy=0.5, **changes):
  last = evaluation("SSLT loop 1", accuracy)
  return {
    "name": name,
    "seed": seed,
    "seconds": 1800.0,
    "devices": ["cpu"],
    "commit": "abc",
    "evaluations": [
      evaluation("Decoupling", 0.25),
      evaluation("SSLT loop 1", 0.99, "validation"),
      last,
    ],
    "pseudo_labels": [
      {"loop": 1, "pseudo/accuracy": 0.75, "pseudo/accuracy/few": 0.125}
    ],
    "result": {
      "last": last,
      "mean_of_last_k": {"k": 2, "accuracy": 0.4},
      "validation_selected": None,
      "best_on_test": evaluation("Decoupling", 0.8),
    },
  } | changes


def cells(text, title):
  """The cells of the table's row of a title."""
  row = next(
    line for line in text.splitlines() if line.startswith(f"| {title} ")
  )
  return [cell.strip() for cell in row.strip("|").split("|")]


def table(rows, records, **settings):
  section = tables.Section("Head", rows, **({"differs": "Much."} | settings))
  return tables.to_markdown("Title", [section], records)


def test_golden_page():
  rows = [
    tables.Row("sslt", "SSLT", {"overall": 71.3, "few": 60.25}),
    tables.Row("ldam", "LDAM-DRW", {"overall": 67.0}),
  ]
  records = [record(seed=s, accuracy=a) for s, a in enumerate([0.4, 0.5, 0.6])]
  section = tables.Section("CIFAR", rows, differs="Fewer epochs.")
  text = tables.to_markdown("Table 1", [section], records, intro="Small.")
  assert text.splitlines() == [
    "# Table 1",
    "",
    "Small.",
    "",
    "## CIFAR",
    "",
    "Test accuracy in %, mean ± sample standard deviation over seeds; last"
    " evaluation, nothing selected. What differs from the paper: Fewer epochs.",
    "",
    "|          | seeds |     overall |       many |     medium | few |"
    " paper, overall | paper, few |",
    "| -------- | ----: | ----------: | ---------: | ---------: | --: |"
    " -------------: | ---------: |",
    "| SSLT     |     3 | 50.0 ± 10.0 | 90.0 ± 0.0 | 50.0 ± 0.0 |   – |"
    "           71.3 |      60.25 |",
    "| LDAM-DRW |     – |           – |          – |          – |   – |"
    "           67.0 |          – |",
    "",
    "3 runs, 1.5 hours in all, on cpu; commits abc. The commands are in the"
    " lines of the `.jsonl` file beside this one.",
  ]


def test_two_seeds_by_hand_and_one_without_deviation():
  two = [record(seed=0, accuracy=0.5), record(seed=1, accuracy=0.7)]
  # Deviations of 0.1 each: sqrt((0.01 + 0.01) / (2 - 1)).
  row = tables.Row("sslt", "SSLT")
  assert cells(table([row], two), "SSLT")[:3] == ["SSLT", "2", "60.0 ± 14.1"]
  assert cells(table([row], two[:1]), "SSLT")[:3] == ["SSLT", "1", "50.0"]


def test_error_is_one_minus_accuracy_with_the_same_deviation():
  two = [record(seed=0, accuracy=0.5), record(seed=1, accuracy=0.7)]
  row = tables.Row("sslt", "SSLT", {"overall": 14.96})
  text = table([row], two, measure="error", columns=("overall", "many"))
  assert "Test error in %" in text
  assert cells(text, "SSLT")[1:] == ["2", "40.0 ± 14.1", "10.0 ± 0.0", "14.96"]


@pytest.mark.parametrize(
  "rule, shown",
  [
    ("last", "50.0"),
    ("mean_of_last_k", "40.0"),
    ("validation_selected", "–"),
    ("best_on_test", "80.0"),
  ],
)
def test_each_rule_and_its_name_in_the_caption(rule, shown):
  text = table([tables.Row("sslt", "SSLT")], [record()], rule=rule)
  assert cells(text, "SSLT")[2] == shown
  assert tables.RULES[rule] in text


def test_a_row_of_another_model_of_the_run():
  row = tables.Row("sslt", "Decoupling", model="Decoupling")
  assert cells(table([row], [record()]), "Decoupling")[2] == "25.0"
  row = tables.Row("sslt", "SSLT", model="SSLT loop 1")
  assert cells(table([row], [record()]), "SSLT")[2] == "50.0"  # of the test


def test_a_row_of_pseudo_labels():
  row = tables.Row("sslt", "0", {"overall": 87.7}, loop=1)
  text = table([row], [record()])
  assert "\nAccuracy of the pseudo labels in %, mean" in text
  assert cells(text, "0") == ["0", "1", "75.0", "–", "–", "12.5", "87.7"]


def test_a_number_that_one_seed_lacks_has_no_mean():
  records = [record(seed=0), record(seed=1)]
  records[1]["result"]["last"]["accuracy/many"] = None
  assert cells(table([tables.Row("sslt", "SSLT")], records), "SSLT")[3] == "–"


def test_notes_have_a_column_only_where_there_are_some():
  rows = [tables.Row("sslt", "SSLT"), tables.Row("a", "A", note="No flip.")]
  text = table(rows, [record()])
  assert cells(text, "A")[-1] == "No flip."
  assert cells(text, "SSLT")[-1] == ""
  assert "differs |" not in table(rows[:1], [record()])


def test_without_any_run_all_is_dashes():
  text = table([tables.Row("sslt", "SSLT", {"many": 89.5})], [])
  assert cells(text, "SSLT")[1:] == ["–"] * 5 + ["89.5"]
  assert "runs" not in text


def test_values_are_of_the_rows_runs_only():
  records = [record(seed=0), record("other", 0, 0.1), record(seed=1)]
  row = tables.Row("sslt", "SSLT")
  assert tables.values(row, "overall", records) == [0.5, 0.5]


@pytest.mark.parametrize(
  "choices, message",
  [
    ({"model": "SSLT loop 9"}, "no evaluation of 'SSLT loop 9'; .* Decoupling"),
    ({"loop": 2}, "seed 0, has no pseudo labels of loop 2; .* 1 loops"),
  ],
)
def test_a_row_that_its_runs_do_not_have(choices, message):
  with pytest.raises(ValueError, match=message):
    table([tables.Row("sslt", "SSLT", **choices)], [record()])


@pytest.mark.parametrize(
  "make, message",
  [
    (
      lambda: tables.Row("k", "T", {"all": 1.0}),
      "numbers for 'all'; .*overall",
    ),
    (
      lambda: tables.Row("k", "T", model="M", loop=1),
      "both a model and a loop",
    ),
    (
      lambda: tables.Section("S", [], measure="loss"),
      "measure 'loss' of 'S' is unknown; choose one of accuracy, error",
    ),
    (lambda: tables.Section("S", [], rule="best"), "rule 'best'.*best_on_test"),
    (lambda: tables.Section("S", [], columns=("al",)), "column 'al'.*overall"),
    (
      lambda: tables.Section("S", [tables.Row("k", "T", {"few": 1.0})]),
      "'S' shows the paper's numbers: say in `differs`",
    ),
  ],
)
def test_mistakes_are_told(make, message):
  with pytest.raises(ValueError, match=message):
    make()
