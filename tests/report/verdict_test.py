"""What a run says of itself, in a sentence and in warnings."""

import pytest

from ltjax.report import sections, verdict

GROUPS = {"many": [0, 1], "medium": [], "few": [2]}


def summary(last=None, *, counts=(10, 10, 10), earlier=(), pseudo=()):
  row = {
    "model": "SSLT loop 2",
    "head": "balanced",
    "split": "test",
    "accuracy": 0.5,
    "balanced_accuracy": 0.4,
    "accuracy/many": 0.625,
    "accuracy/medium": None,
    "accuracy/few": 0.25,
    "recall/many": 0.6,
    "recall/few": 0.1,
  } | (last or {})
  return {
    "groups": GROUPS,
    "classes": ["cat", "dog", "owl"],
    "test_counts": list(counts),
    "evaluations": [*(row | other for other in earlier), row],
    "pseudo_labels": list(pseudo),
    "result": {"last": row},
  }


def test_a_balanced_test_set():
  assert verdict.headline(summary()) == (
    "SSLT loop 2: test accuracy 50.0 % (many 62.5, few 25.0), balanced accuracy"
    " 40.0 %."
  )


def test_a_skewed_test_set_has_the_mean_over_classes_first():
  text = verdict.headline(summary(counts=(90, 40, 5)))
  assert text == (
    "SSLT loop 2: test balanced accuracy 40.0 % (many 60.0, few 10.0), accuracy"
    " 50.0 %. A class has 5 to 90 test images, so the mean over classes comes"
    " first."
  )
  assert verdict.headline(summary(counts=(19, 10, 10))).startswith(
    "SSLT loop 2: test accuracy 50.0 %"
  )


def test_classes_without_test_images_are_named():
  text = verdict.headline(summary(counts=(10, 0, 10)))
  assert text.endswith(
    "1 of 3 classes have no test images, and nothing is known of them: dog."
  )


def test_a_final_model_below_its_baseline():
  better = {"model": "Decoupling", "accuracy": 0.9}
  (text,) = verdict.warnings(summary(earlier=[better]))
  assert text.startswith(
    "SSLT loop 2 ends at 50.0 %, below 90.0 % of Decoupling in this same run"
  )
  assert f"> Warning: {text}" in sections.headline(summary(earlier=[better]))


@pytest.mark.parametrize(
  "other",
  [
    {"model": "Decoupling", "accuracy": 0.45},
    # Within the error of 30 images: sqrt((.25 + .24) / 30) = 0.128.
    {"model": "Decoupling", "accuracy": 0.6},
    {"model": "Decoupling", "accuracy": 0.9, "split": "validation"},
    {"model": "CE (g')", "accuracy": 0.9, "head": "instance"},
    {"model": "SSLT loop 2", "accuracy": 0.9},
    {"model": "knn", "accuracy": 0.9, "protocol": "knn"},
  ],
)
def test_no_warning(other):
  assert verdict.warnings(summary(earlier=[other])) == []


def test_what_counts_on_a_skewed_set_is_the_balanced_accuracy():
  other = {"model": "CE", "accuracy": 0.9, "balanced_accuracy": 0.2}
  assert verdict.warnings(summary(earlier=[other], counts=(99, 9, 9))) == []
  other["balanced_accuracy"] = 0.8
  (text,) = verdict.warnings(summary(earlier=[other], counts=(99, 9, 9)))
  assert "40.0 %, below 80.0 % of CE" in text


def test_pseudo_labels_worse_than_chance():
  rows = [
    {"loop": 1, "pseudo/recall/few": 0.0},
    {"loop": 2, "pseudo/recall/few": 0.32, "pseudo/recall/many": 0.34},
  ]
  (text,) = verdict.warnings(summary(pseudo=rows))
  assert text.startswith(
    "Pseudo labels of the few-shot classes are right for 32.0 % of their"
    " images, less than the 33.3 % of a random label"
  )
  rows[1]["pseudo/recall/few"] = 0.34
  assert verdict.warnings(summary(pseudo=rows)) == []
