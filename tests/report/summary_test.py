"""Tests of the summary: each selection rule under its own honest name."""

import json

import pytest
import toys

from ltjax.report import summary


def row(model, accuracy, *, head="balanced", split="test", **more):
  return {
    "stage": "loop1/refit",
    "model": model,
    "head": head,
    "split": split,
    "accuracy": accuracy,
    "balanced_accuracy": accuracy,
    "per_class": [accuracy, None],
  } | more


# g' is the best of all on the test set, and no candidate for any rule.
TEST = [
  row("CE (g')", 0.99, head="random"),
  row("Decoupling", 0.75),
  row("SSLT loop 1 (g')", 0.98, head="random"),
  row("SSLT loop 1", 0.25),
  row("SSLT loop 2", 0.875),
  row("SSLT loop 3", 0.5),
]


def test_last_is_the_last_balanced_head():
  assert summary.select(TEST, last_k=1)["last"] == TEST[-1]


def test_best_on_test_is_among_balanced_heads():
  assert summary.select(TEST, last_k=1)["best_on_test"] == TEST[4]


def test_the_first_of_equals_is_the_best():
  rows = [row("a", 0.5), row("b", 0.5)]
  assert summary.select(rows, last_k=1)["best_on_test"]["model"] == "a"


@pytest.mark.parametrize(
  "last_k, used, want",
  [
    (1, 1, 0.5),
    (2, 2, (0.875 + 0.5) / 2),
    (3, 3, (0.25 + 0.875 + 0.5) / 3),
    (9, 3, (0.25 + 0.875 + 0.5) / 3),  # the initialization is left out
  ],
)
def test_mean_of_last_k(last_k, used, want):
  got = summary.select(TEST, last_k=last_k)["mean_of_last_k"]
  assert got == {"k": used, "accuracy": want, "balanced_accuracy": want}


def test_mean_of_the_initialization_where_there_is_nothing_else():
  got = summary.select(TEST[:2], last_k=3)["mean_of_last_k"]
  assert got["k"] == 1 and got["accuracy"] == 0.75


def test_mean_of_what_is_unknown_in_one_row_is_unknown():
  """A group without test images has no accuracy."""
  rows = [
    row("init", 0.1),
    row("loop 1", 0.5, **{"accuracy/few": 0.25, "accuracy/many": 0.5}),
    row("loop 2", 0.5, **{"accuracy/few": None, "accuracy/many": 1.0}),
  ]
  got = summary.select(rows, last_k=2)["mean_of_last_k"]
  assert got["accuracy/few"] is None and got["accuracy/many"] == 0.75


def test_a_group_unknown_in_the_first_row_is_not_lost():
  rows = [
    row("init", 0.1),
    row("loop 1", 0.5, **{"accuracy/few": None}),
    row("loop 2", 0.5, **{"accuracy/few": 0.5}),
  ]
  got = summary.select(rows, last_k=2)["mean_of_last_k"]
  assert "accuracy/few" in got and got["accuracy/few"] is None


def validation(accuracies):
  """Validation rows; their balanced accuracy is what counts."""
  rows = []
  for model, balanced in accuracies.items():
    head = "random" if model.endswith(")") else "balanced"
    rows.append(
      row(
        model,
        1 - balanced,
        head=head,
        split="validation",
        balanced_accuracy=balanced,
      )
    )
  return rows


def test_without_validation_images_nothing_is_selected():
  assert summary.select(TEST, last_k=1)["validation_selected"] is None


def test_validation_selects_and_the_test_row_is_reported():
  rows = TEST + validation(
    {
      "CE (g')": 1.0,
      "Decoupling": 0.3,
      "SSLT loop 1": 0.6,
      "SSLT loop 2": 0.2,
      "SSLT loop 3": 0.5,
    }
  )
  got = summary.select(rows, last_k=1)
  assert got["validation_selected"] == TEST[3]  # worst on test, and honest
  assert got["last"] == TEST[5] and got["best_on_test"] == TEST[4]


@pytest.mark.parametrize("last_k", [0, -1])
def test_last_k_below_one_is_refused(last_k):
  with pytest.raises(
    ValueError, match=f"eval.last_k is {last_k}; it must be 1 or more"
  ):
    summary.select(TEST, last_k=last_k)


def test_selecting_copies():
  got = summary.select(TEST, last_k=1)
  got["last"]["accuracy"] = -1
  assert TEST[-1]["accuracy"] == 0.5


def test_make():
  rows = [
    {"kind": "train", "stage": "embedding", "position": [0, 4], "loss": 2.0},
    {"kind": "eval", "position": [1, 0], **TEST[0]},
    {"kind": "eval", "position": [2, 0], **TEST[1]},
    {
      "kind": "pseudo",
      "stage": "loop1/pseudo_label",
      "position": [3, 0],
      "loop": 1,
      "pseudo/accuracy": 0.5,
    },
    {"kind": "eval", "position": [5, 0], **TEST[3]},
    {
      "kind": "prototypes",
      "stage": "prototypes",
      "position": [5, 0],
      "shares": {"many": 1.0},
      "nearest": [3, 1],
    },
  ]
  task = toys.task()
  config = {"method": "sslt", "seed": 3}
  got = summary.make(iter(rows), config=config, task=task, last_k=3)
  assert got == {
    "finished": True,
    "method": "sslt",
    "config": {"method": "sslt", "seed": 3},
    "classes": ["a", "b", "c", "d"],
    "groups": {"many": [0, 1], "medium": [2], "few": [3]},
    "labeled_counts": list(toys.LABELED),
    "unlabeled_counts": list(toys.UNLABELED),
    "test_counts": [5, 5, 5, 5],
    "split_hash": task.split.hash,
    "evaluations": [TEST[0], TEST[1], TEST[3]],
    "pseudo_labels": [
      {"stage": "loop1/pseudo_label", "loop": 1, "pseudo/accuracy": 0.5}
    ],
    "prototypes": [
      {"stage": "prototypes", "shares": {"many": 1.0}, "nearest": [3, 1]}
    ],
    "result": summary.select([TEST[0], TEST[1], TEST[3]], last_k=3),
  }
  assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_the_mean_is_over_evaluations_of_one_model():
  """Of a base, a final model and its correction, only the last counts."""
  rows = [row("CE", 0.1), row("PL + CE", 0.5), row("PL + CE + LA", 0.7)]
  got = summary.select(rows, last_k=3)["mean_of_last_k"]
  assert got["k"] == 1 and got["accuracy"] == 0.7


def test_only_the_last_protocol_of_probing_counts():
  """A protocol that is easier is neither the best nor selected."""
  rows = [
    row("SDCLR, knn@10", 0.9, protocol="knn"),
    row("SDCLR, knn@10", 0.95, split="validation", protocol="knn"),
    row("SDCLR, sdclr_full", 0.7, protocol="sdclr_full"),
    row("SDCLR, sdclr_full", 0.8, split="validation", protocol="sdclr_full"),
  ]
  found = summary.select(rows, last_k=3)
  for rule in ("last", "validation_selected", "best_on_test"):
    assert found[rule]["protocol"] == "sdclr_full"
  assert found["mean_of_last_k"] == {
    "k": 1,
    "accuracy": 0.7,
    "balanced_accuracy": 0.7,
  }
