"""Metrics against values worked out by hand and slow references."""

import json
import math

import numpy as np
import pytest

from ltjax.evaluation import metrics

GROUPS = {"many": (0,), "medium": (1,), "few": (2,)}


def sure(predicted, num_classes):
  return np.eye(num_classes)[np.asarray(predicted)]


def test_golden():
  predicted = [0, 0, 0, 1, 1, 0, 2, 0]
  labels = [0, 0, 0, 0, 1, 1, 2, 2]
  got = metrics.classification(
    sure(predicted, 3), np.array(labels), groups=GROUPS
  )
  assert got == {
    "accuracy": 0.625,
    "balanced_accuracy": pytest.approx((0.75 + 0.5 + 0.5) / 3, abs=1e-15),
    "geometric_mean": pytest.approx((0.75 * 0.5 * 0.5) ** (1 / 3), abs=1e-15),
    "ece": 0.375,  # certain of all, right in 5 of 8
    "accuracy/many": 0.75,
    "accuracy/medium": 0.5,
    "accuracy/few": 0.5,
    "recall/many": 0.75,
    "recall/medium": 0.5,
    "recall/few": 0.5,
    "group_mean": pytest.approx(1.75 / 3, abs=1e-15),
    # Deviations of 1/6, -1/12 and -1/12: sqrt((4 + 1 + 1) / 144 / 3).
    "group_std": pytest.approx(72**-0.5, abs=1e-15),
    "per_class": [0.75, 0.5, 0.5],
    "confusion": [[3, 1, 0], [1, 1, 0], [1, 0, 1]],
  }


def random_case(seed):
  rng = np.random.default_rng(seed)
  images, classes = int(rng.integers(1, 60)), int(rng.integers(1, 8))
  logits = rng.normal(size=(images, classes)) * 3
  probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  labels = rng.integers(0, classes, images)  # some classes stay absent
  cut = classes // 2
  groups = {"many": range(cut), "few": range(cut, classes)}
  return probabilities.astype(np.float32), labels, groups


def slow_ece(probabilities, labels, bins):
  total = 0.0
  for b in range(bins):
    confidences, hits = [], []
    for row, y in zip(probabilities, labels):
      top = max(float(p) for p in row)
      if b / bins < top <= (b + 1) / bins:
        confidences.append(top)
        hits.append(float(list(row).index(max(row)) == y))
    if hits:
      gap = sum(hits) / len(hits) - sum(confidences) / len(hits)
      total += len(hits) / len(labels) * abs(gap)
  return total


@pytest.mark.parametrize("seed", range(30))
def test_against_a_slow_reference(seed):
  probabilities, labels, groups = random_case(seed)
  num_classes = probabilities.shape[1]
  got = metrics.classification(probabilities, labels, groups=groups)
  predicted = [list(row).index(max(row)) for row in probabilities]
  matrix = [[0] * num_classes for _ in range(num_classes)]
  for y, p in zip(labels, predicted):
    matrix[y][p] += 1
  assert got["confusion"] == matrix
  hits = [p == y for p, y in zip(predicted, labels)]
  assert got["accuracy"] == pytest.approx(sum(hits) / len(hits), abs=1e-12)
  recalls = []
  for c in range(num_classes):
    mine = [h for h, y in zip(hits, labels) if y == c]
    recalls.append(sum(mine) / len(mine) if mine else None)
  assert got["per_class"] == pytest.approx(recalls, abs=1e-12)
  present = [r for r in recalls if r is not None]
  assert got["balanced_accuracy"] == pytest.approx(
    sum(present) / len(present), abs=1e-12
  )
  assert got["geometric_mean"] == pytest.approx(
    math.prod(present) ** (1 / len(present)), abs=1e-12
  )
  for name, ids in groups.items():
    mine = [h for h, y in zip(hits, labels) if y in ids]
    expected = sum(mine) / len(mine) if mine else None
    assert got[f"accuracy/{name}"] == pytest.approx(expected, abs=1e-12)
    mine = [recalls[c] for c in ids if recalls[c] is not None]
    expected = sum(mine) / len(mine) if mine else None
    assert got[f"recall/{name}"] == pytest.approx(expected, abs=1e-12)
  assert got["ece"] == pytest.approx(
    slow_ece(probabilities, labels, 15), abs=1e-9
  )
  json.dumps(got, allow_nan=False)


def test_calibration_error_by_hand():
  # Confidence 0.6 (bin 9) right once in two, 0.9 (bin 14) right: 0.1 and 0.1.
  rows = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]])
  labels = np.array([0, 1, 1])
  got = metrics.expected_calibration_error(rows, labels)
  assert got == pytest.approx((2 * 0.1 + 0.1) / 3, abs=1e-12)


def test_bins_are_closed_on_the_right():
  # 0.5 and 0.6 lie in (0.25, 0.5] and (0.5, 0.75]: the gaps add up.
  rows = np.array([[0.5, 0.5], [0.6, 0.4]])
  labels = np.array([0, 1])
  got = metrics.expected_calibration_error(rows, labels, bins=4)
  assert got == pytest.approx((0.5 + 0.6) / 2, abs=1e-12)
  # In one bin they cancel, but for 0.1.
  got = metrics.expected_calibration_error(rows, labels, bins=1)
  assert got == pytest.approx(abs(1 - 1.1) / 2, abs=1e-12)


def test_perfectly_calibrated():
  rows = np.tile([0.75, 0.25], (4, 1))
  labels = np.array([0, 0, 0, 1])
  assert metrics.expected_calibration_error(rows, labels) == pytest.approx(0)


def test_one_image():
  got = metrics.classification(
    np.array([[0.2, 0.8, 0.0]]), np.array([1]), groups=GROUPS
  )
  assert (got["accuracy"], got["geometric_mean"]) == (1.0, 1.0)
  assert got["per_class"] == [None, 1.0, None]
  assert got["accuracy/many"] is None and got["accuracy/medium"] == 1.0
  assert got["ece"] == pytest.approx(0.2)


def test_one_class_never_recognised():
  got = metrics.classification(
    sure([0, 0, 2], 3), np.array([0, 1, 2]), groups={}
  )
  assert got["geometric_mean"] == 0.0
  assert got["balanced_accuracy"] == pytest.approx(2 / 3)


def test_ties_go_to_the_lowest_class():
  rows = np.full((3, 3), 1 / 3)
  got = metrics.classification(rows, np.array([0, 1, 2]), groups=GROUPS)
  assert got["confusion"] == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_group_accuracy_counts_images_not_classes():
  labels = np.array([0, 0, 0, 1])
  got = metrics.classification(
    sure([0, 0, 0, 0], 2), labels, groups={"all": (0, 1), "none": ()}
  )
  assert got["accuracy/all"] == 0.75 and got["balanced_accuracy"] == 0.5
  assert got["accuracy/none"] is None


def test_groups_count_alike_and_in_them_classes_count_alike():
  """As in papers on balanced test sets, also where the test set is not."""
  labels = np.repeat([0, 1, 2, 3], [90, 10, 4, 6])
  right = np.repeat([1, 0, 1, 0], [90, 10, 4, 6])
  predicted = np.where(right, labels, (labels + 1) % 4)
  groups = {"many": (0, 1), "medium": (2,), "few": (3,)}
  got = metrics.classification(sure(predicted, 4), labels, groups=groups)
  assert got["accuracy/many"] == 0.9 and got["recall/many"] == 0.5
  assert got["group_mean"] == pytest.approx((0.5 + 1.0 + 0.0) / 3)
  assert got["balanced_accuracy"] == 0.5  # of two classes in four
  assert got["group_std"] == pytest.approx((0.5 / 3) ** 0.5)


def test_the_papers_own_rows():
  """FASSL, table 1: "All" is a mean of groups, "Std" divides by three."""
  for few, medium, many, mean, std in (
    (0.7880, 0.7673, 0.8655, 0.8069, 0.0423),  # FASSL, CIFAR-10-LT
    (0.5355, 0.5452, 0.5774, 0.5527, 0.0179),  # FASSL, CIFAR-100-LT
  ):
    row = {"recall/many": many, "recall/medium": medium, "recall/few": few}
    got = metrics.over_groups(row)
    assert got["group_mean"] == pytest.approx(mean, abs=6e-5)
    assert got["group_std"] == pytest.approx(std, abs=6e-5)


def test_groups_without_images_are_left_out():
  row = {"recall/many": 0.75, "recall/medium": None, "recall/few": 0.25}
  got = metrics.over_groups(row | {"accuracy/medium": 0.9, "accuracy": 1.0})
  assert got == {"group_mean": 0.5, "group_std": 0.25}
  one = metrics.over_groups({"recall/many": 0.75, "recall/few": None})
  assert one == {"group_mean": 0.75, "group_std": 0.0}
  assert metrics.over_groups({}) == {"group_mean": None, "group_std": None}


@pytest.mark.parametrize(
  "rows,labels,message",
  [
    (np.zeros((0, 2)), [], "shape .0, 2.: they must be .T, C. with at least"),
    (np.zeros(3), [0], "they must be"),
    (
      [[0.5, 0.5], [np.nan, 1]],
      [0, 0],
      "1 of 2 rows .* first is row 1: .*dive",
    ),
    ([[np.inf, 0.0]], [0], "not finite"),
    ([[3.0, -2.0]], [0], "smallest value is -2: apply softmax"),
    ([[0.5, 0.5], [0.5, 0.4]], [0, 0], "row 1 of the prob.* sums to 0.9"),
    ([[0.5, 0.5]], [2], r"labels\[0\] is 2: with 2 classes .* from 0 to 1"),
    ([[0.5, 0.5]], [-1], r"labels\[0\] is -1"),
    ([[0.5, 0.5]], [0.0], r"labels are float64 of shape \(1,\)"),
    ([[0.5, 0.5]], [0, 1], r"integers of shape \(1,\)"),
  ],
)
def test_refusals(rows, labels, message):
  with pytest.raises(ValueError, match=message):
    metrics.classification(np.asarray(rows), np.asarray(labels), groups={})


def test_wrong_groups():
  with pytest.raises(ValueError, match="group 'few' has class 2: there are 2"):
    metrics.classification(
      np.array([[0.5, 0.5]]), np.array([0]), groups={"few": (2,)}
    )


def test_pseudo_labels_golden():
  truth = np.array([0, 0, 0, 0, 1, 1, 2, 2, -1])
  predicted = np.array([0, 0, 0, 1, 1, 0, 0, 0, 2])
  got = metrics.pseudo_labels(predicted, truth, num_classes=3, groups=GROUPS)
  assert got == {
    "pseudo/accuracy": 0.5,
    "pseudo/accuracy/many": 0.75,
    "pseudo/recall/many": 0.75,
    "pseudo/precision/many": 0.5,
    "pseudo/accuracy/medium": 0.5,
    "pseudo/recall/medium": 0.5,
    "pseudo/precision/medium": 0.5,
    "pseudo/accuracy/few": 0.0,
    "pseudo/recall/few": 0.0,
    "pseudo/precision/few": None,  # never predicted where the truth is known
    "pseudo/count": [6, 2, 0],
    "pseudo/recall_per_class": [0.75, 0.5, 0.0],
    "pseudo/precision_per_class": [0.5, 0.5, None],
  }
  json.dumps(got, allow_nan=False)


@pytest.mark.parametrize("seed", range(10))
def test_pseudo_labels_against_a_slow_reference(seed):
  rng = np.random.default_rng(seed)
  truth = rng.integers(-1, 5, 80)
  predicted = rng.integers(0, 5, 80)
  groups = {"many": (3, 1), "few": (0, 2, 4)}
  got = metrics.pseudo_labels(predicted, truth, num_classes=5, groups=groups)
  pairs = [(p, t) for p, t in zip(predicted, truth) if t >= 0]

  def share(keep):
    kept = [p == t for p, t in pairs if keep(p, t)]
    return sum(kept) / len(kept) if kept else None

  assert got["pseudo/accuracy"] == pytest.approx(share(lambda p, t: True))
  for name, ids in groups.items():
    assert got[f"pseudo/accuracy/{name}"] == pytest.approx(
      share(lambda p, t, ids=ids: t in ids)
    )
    recalls = [share(lambda p, t, c=c: t == c) for c in ids]
    precisions = [share(lambda p, t, c=c: p == c) for c in ids]
    for kind, values in (("recall", recalls), ("precision", precisions)):
      present = [v for v in values if v is not None]
      assert got[f"pseudo/{kind}/{name}"] == pytest.approx(
        sum(present) / len(present)
      )
  assert got["pseudo/count"] == [
    sum(p == c for p, _ in pairs) for c in range(5)
  ]


def test_pseudo_labels_without_truth():
  truth = np.full(4, -1)
  got = metrics.pseudo_labels(
    np.array([0, 1, 1, 0]), truth, num_classes=2, groups={}
  )
  assert got == {}


@pytest.mark.parametrize(
  "predicted,truth,message",
  [
    ([0, 2], [0, 1], r"predicted\[1\] is 2"),
    ([0, -1], [0, 1], r"predicted\[1\] is -1"),
    ([0, 1], [0, -2], r"truth\[1\] is -2: .* from -1 to 1"),
    ([0], [0, 1], r"predicted are int64 of shape \(1,\)"),
    ([0.0, 1.0], [0, 1], "predicted are float64"),
  ],
)
def test_pseudo_labels_refuse(predicted, truth, message):
  with pytest.raises(ValueError, match=message):
    metrics.pseudo_labels(
      np.array(predicted), np.array(truth), num_classes=2, groups={}
    )
