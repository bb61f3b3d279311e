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
  assert cells(table([row], two), "SSLT")[:3] == [
    "SSLT",
    "2, no claim",
    "60.0 ± 14.1",
  ]
  assert cells(table([row], two[:1]), "SSLT")[:3] == [
    "SSLT",
    "1, no claim",
    "50.0",
  ]


def test_error_is_one_minus_accuracy_with_the_same_deviation():
  two = [record(seed=0, accuracy=0.5), record(seed=1, accuracy=0.7)]
  row = tables.Row("sslt", "SSLT", {"overall": 14.96})
  text = table([row], two, measure="error", columns=("overall", "many"))
  assert "Test error in %" in text
  assert cells(text, "SSLT")[1:] == [
    "2, no claim",
    "40.0 ± 14.1",
    "10.0 ± 0.0",
    "14.96",
  ]


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
  assert cells(text, "0") == [
    "0",
    "1, no claim",
    "75.0",
    "–",
    "–",
    "12.5",
    "87.7",
  ]


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


def probed(seed=0, std=0.1, **changes):
  """A record of a run judged under two protocols, on a run's own test set."""
  evaluations = []
  for protocol, mean in (("knn", 0.5), ("sdclr_full", 0.75)):
    name = f"FASSL, {protocol}"
    more = {
      "protocol": protocol,
      "group_mean": mean,
      "group_std": std,
      "recall/few": mean / 2,
    }
    evaluations += [
      evaluation(name, 0.99, "validation") | more,
      evaluation(name, mean - 0.25) | more,
    ]
  shares = {"many": 0.9, "medium": 0.1, "few": 0.0}
  base = {"many": 0.8, "medium": 0.15, "few": 0.05}
  prototypes = [{"shares": b, "base_rate": base} for b in (base, shares)]
  return record(
    "fassl",
    seed,
    evaluations=evaluations,
    pseudo_labels=[],
    prototypes=prototypes,
    result={"last": evaluations[-1]},
    **changes,
  )


def test_tables_1_and_2_are_read_off_the_same_runs():
  columns = ("group mean", "class mean", "mean few", "many", "std")
  rows = [
    tables.Row("fassl", "full", {"group mean": 80.69, "std": 4.23}),
    tables.Row("fassl", "nearest", protocol="knn"),
    tables.Row("fassl", "both", protocol="knn", model="FASSL, knn"),
  ]
  text = table(rows, [probed()], columns=columns)
  last = ["75.0", "25.0", "37.5", "90.0", "10.0"]
  assert cells(text, "full")[2:] == [*last, "80.69", "4.23"]
  nearest = ["50.0", "12.5", "25.0", "90.0", "10.0"]
  assert cells(text, "nearest")[2:-2] == cells(text, "both")[2:-2] == nearest


def test_std_is_the_mean_of_each_seeds_and_not_of_the_means():
  """Two seeds whose groups differ in opposite ways have equal means."""
  records = [probed(0, std=0.1), probed(1, std=0.3)]
  row = tables.Row("fassl", "FASSL")
  text = table([row], records, columns=("std",))
  assert cells(text, "FASSL")[2] == "20.0 ± 14.1"
  # Accuracies and errors spread alike.
  text = table([row], records, columns=("group mean", "std"), measure="error")
  assert cells(text, "FASSL")[2:] == ["25.0 ± 0.0", "20.0 ± 14.1"]


def test_tables_4_and_5_show_prototypes_beside_the_base_rate():
  columns = ("many", "medium", "few")
  rows = [
    tables.Row("fassl", "K 128", {"many": 90.63}, prototypes="shares"),
    tables.Row("fassl", "images", prototypes="base_rate"),
  ]
  text = table(rows, [probed()], columns=columns)
  assert "\nShare of the classes of each group in %, mean ± sample" in text
  assert cells(text, "K 128")[2:] == ["90.0", "10.0", "0.0", "90.63"]
  assert cells(text, "images")[2:5] == ["80.0", "15.0", "5.0"]


def test_records_of_earlier_versions_have_dashes():
  row = tables.Row("sslt", "SSLT")
  columns = ("overall", "group mean", "std")
  assert cells(table([row], [record()], columns=columns), "SSLT")[2:] == (
    ["50.0", "–", "–"]
  )


@pytest.mark.parametrize(
  "choices, message",
  [
    (
      {"protocol": "byol"},
      "no evaluation under 'byol'; it has FASSL, knn, FAS",
    ),
    (
      {"protocol": "knn", "model": "FASSL, sdclr_full"},
      "no evaluation of 'FASSL, sdclr_full' under 'knn'",
    ),
  ],
)
def test_a_protocol_that_the_runs_do_not_have(choices, message):
  with pytest.raises(ValueError, match=message):
    table([tables.Row("fassl", "FASSL", **choices)], [probed()])


def test_prototypes_that_the_runs_do_not_have():
  row = tables.Row("sslt", "SSLT", prototypes="shares")
  with pytest.raises(ValueError, match="seed 0, has no prototypes; it has"):
    table([row], [record()])


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
      lambda: tables.Row("k", "T", protocol="knn", prototypes="shares"),
      "both a protocol and prototypes; choose one",
    ),
    (
      lambda: tables.Row("k", "T", prototypes="share"),
      "prototypes' 'share'; choose one of shares, base_rate, random, matched",
    ),
    (
      lambda: tables.Section(
        "S", [tables.Row("k", "T", prototypes="shares")], measure="error"
      ),
      "'S' has shares of prototypes, which have no error",
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


def test_the_caption_says_that_probes_may_choose_their_epoch():
  rows = [tables.Row("a", "A", protocol="sdclr_full")]
  text = tables.to_markdown("T", [tables.Section("S", rows)], [])
  assert "the best on validation images" in text
  assert "nothing selected" not in text
  plain = tables.to_markdown(
    "T", [tables.Section("S", [tables.Row("a", "A")])], []
  )
  assert "nothing selected" in plain
