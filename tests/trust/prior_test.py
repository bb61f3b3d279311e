"""Estimates of shares against known worlds, slow loops and each other."""

import numpy as np
import pytest

from ltjax.stages import balanced_labels
from ltjax.trust import prior

EVEN = np.full(3, 1 / 3)
SOURCE = np.array([0.5, 0.3, 0.2])
TARGET = np.array([0.1, 0.3, 0.6])
MEANS = np.array([[0.0, 0.0], [1.8, 0.0], [0.0, 1.8]])


def world(shares, count, seed, source=SOURCE):
  """Draws images of Gaussian classes; their exact probabilities by `source`."""
  rng = np.random.default_rng(seed)
  labels = rng.choice(3, count, p=shares)
  x = MEANS[labels] + rng.normal(size=(count, 2))
  square = ((x[:, None] - MEANS) ** 2).sum(-1)
  joint = source * np.exp(-square / 2)
  return joint / joint.sum(1, keepdims=True), labels


def slow_em(given, source, steps):
  shares = list(source)
  for _ in range(steps):
    total = [0.0] * len(shares)
    for row in given:
      joint = [p * t / s for p, t, s in zip(row, shares, source)]
      for c, value in enumerate(joint):
        total[c] += value / sum(joint)
    shares = [t / len(given) for t in total]
  return shares


def test_correct_golden():
  found = prior.correct([[0.5, 0.5]], source=[0.5, 0.5], target=[0.9, 0.1])
  np.testing.assert_allclose(found, [[0.9, 0.1]])
  found = prior.correct([[0.9, 0.1]], source=[0.75, 0.25], target=[0.25, 0.75])
  np.testing.assert_allclose(found, [[0.5, 0.5]])  # 0.9 / 3 against 0.1 * 3


def test_correct_is_the_rule_of_bayes_and_undone_by_its_reverse():
  given, _ = world(TARGET, 50, 0)
  exact, _ = world(TARGET, 50, 0, source=TARGET)
  found = prior.correct(given, source=SOURCE, target=TARGET)
  np.testing.assert_allclose(found, exact, rtol=1e-10)
  back = prior.correct(found, source=TARGET, target=SOURCE)
  np.testing.assert_allclose(back, given, rtol=1e-10)


def test_a_class_that_there_is_not_is_never_predicted():
  given = np.array([[0.8, 0.2, 0.0], [1.0, 0.0, 0.0]])
  found = prior.correct(given, source=EVEN, target=[0, 0.5, 0.5])
  np.testing.assert_allclose(found, [[0, 1, 0], [0, 0.5, 0.5]])


def test_em_is_its_formula():
  given, _ = world(TARGET, 30, 1)
  found = prior.em(given, source=SOURCE, iterations=7)
  np.testing.assert_allclose(found, slow_em(given, SOURCE, 7), rtol=1e-10)
  even = prior.em(given, source=EVEN, iterations=100, tolerance=0)
  stage = balanced_labels.estimate_prior(given, iterations=100)
  np.testing.assert_allclose(even, stage, atol=1e-5)


@pytest.mark.parametrize("name", ["em", "bbse"])
def test_both_find_the_shares_and_know_their_errors(name):
  many = []
  for seed in range(30):
    pool, _ = world(TARGET, 500, seed)
    known, labels = world(EVEN, 300, 100 + seed)
    arguments = {"source": SOURCE}
    if name == "bbse":
      arguments = {"validation": known, "labels": labels}
    found = prior.with_errors(
      getattr(prior, name), pool, **arguments, replicates=20
    )
    assert found.shares.sum() == pytest.approx(1)
    many.append(found)
  shares, errors = map(np.array, zip(*many))
  spread = shares.std(0)
  assert np.abs((shares.mean(0) - TARGET) / spread).max() < 3 / 30**0.5
  np.testing.assert_allclose(errors.mean(0), spread, rtol=0.3)


def test_a_perfect_classifier_is_counted():
  labels = np.repeat([0, 1, 2], [5, 3, 2])
  given = np.eye(3)[labels]
  counted = [0.5, 0.3, 0.2]
  np.testing.assert_allclose(prior.em(given, source=EVEN), counted, atol=1e-8)
  found = prior.bbse(given, validation=np.eye(3), labels=np.arange(3))
  np.testing.assert_allclose(found, counted)


def test_bbse_golden():
  # Class 0 is called 0 in 0.8, class 1 in 0.4: q = 0.5 at a quarter of 0.
  known = np.array([[0.8, 0.2], [0.4, 0.6]])
  pool = np.array([[0.5, 0.5]])
  found = prior.bbse(pool, validation=known, labels=np.array([0, 1]))
  np.testing.assert_allclose(found, [0.25, 0.75])
  pool = np.array([[0.3, 0.7]])  # below what class 1 alone gives
  found = prior.bbse(pool, validation=known, labels=np.array([0, 1]))
  np.testing.assert_allclose(found, [0, 1])


@pytest.mark.parametrize("permutation", [[1, 2, 0], [2, 1, 0]])
def test_the_order_of_classes_does_not_matter(permutation):
  pool, _ = world(TARGET, 100, 4)
  found = prior.em(pool, source=SOURCE)
  other = prior.em(pool[:, permutation], source=SOURCE[permutation])
  np.testing.assert_allclose(found[permutation], other, atol=1e-7)


def test_shift_is_found_where_there_is_one():
  same = [
    prior.shifted(world(SOURCE, 200, s)[0], source=SOURCE, shares=SOURCE)
    for s in range(60)
  ]
  assert {x.degrees for x in same} == {2}
  # Under no shift p-values are uniform.
  assert 0.35 < np.mean([x.p_value for x in same]) < 0.65
  pool, _ = world(TARGET, 200, 0)
  assert prior.shifted(pool, source=SOURCE, shares=SOURCE).p_value < 1e-6
  found = prior.shifted(pool, source=SOURCE, shares=TARGET)
  assert found.p_value > 0.01


def test_shift_golden():
  # Nine of one class and one of another, both certain, against halves.
  given = np.eye(2)[[0] * 9 + [1]]
  found = prior.shifted(given, source=[0.5, 0.5], shares=[0.5, 0.5])
  wanted = 2 * (9 * np.log(0.9 / 0.5) + np.log(0.1 / 0.5))
  assert found.statistic == pytest.approx(wanted)
  assert found.p_value == pytest.approx(0.006655, abs=1e-5)


def test_expected_accuracy_is_the_true_one_where_calibrated():
  pool, labels = world(TARGET, 20_000, 5, source=TARGET)
  groups = {"many": (2,), "few": (0, 1)}
  found = prior.expected_accuracy(pool, groups=groups)
  chosen = pool.argmax(1)
  right = chosen == labels
  assert found["precision"] == pytest.approx(right.mean(), abs=0.01)
  for name, ids in groups.items():
    called, true = np.isin(chosen, ids), np.isin(labels, ids)
    precision, recall = right[called].mean(), right[true].mean()
    assert found[f"precision/{name}"] == pytest.approx(precision, abs=0.02)
    assert found[f"recall/{name}"] == pytest.approx(recall, abs=0.02)


def test_expected_accuracy_golden():
  given = np.array([[0.75, 0.25, 0], [0.5, 0.25, 0.25]])
  found = prior.expected_accuracy(given, groups={"a": (0,), "b": (2,)})
  assert found == {
    "precision": 0.625,
    "precision/a": 0.625,
    "recall/a": 1.0,
    "precision/b": None,
    "recall/b": 0.0,
  }


def test_shares_from_a_file(tmp_path):
  path = tmp_path / "shares.txt"
  path.write_text("# spring\nred fox 0.25\n\nhare, 0.745\nowls\t0.0\n")
  with pytest.raises(ValueError, match="line 5: 'owls.t0.0' is no class"):
    prior.read(path, ["hare", "owl", "red fox"])
  path.write_text("# spring\nred fox 0.25\n\nhare,0.745\nowl\t0.0\n")
  found = prior.read(path, ["hare", "owl", "red fox"])
  np.testing.assert_allclose(found, np.array([0.745, 0, 0.25]) / 0.995)


@pytest.mark.parametrize(
  "text, message",
  [
    ("a 0.5\nc 0.5", "line 2: 'c 0.5' is no class and a share"),
    ("a 0.5\na 0.5", "line 2: class 'a' has a share already"),
    ("a 0.5\nb x", "line 2: the share 'x' is no number"),
    ("a -0.5\nb 1.5", r"line 1: the share is -0.5; it must be in \[0, 1\]"),
    ("a nan\nb 1", "line 1: the share is nan"),
    ("a 1", "no share for 1 classes, the first 'b'"),
    ("a 0.5\nb 0.3", "the shares sum to 0.8; they must sum to 1"),
  ],
)
def test_bad_files(text, message, tmp_path):
  path = tmp_path / "shares.txt"
  path.write_text(text)
  with pytest.raises(ValueError, match=message):
    prior.read(path, ["a", "b"])
  with pytest.raises(FileNotFoundError, match="no such file of shares"):
    prior.read(tmp_path / "none", ["a", "b"])


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda p: prior.em(p, source=[0.5, 0.5, 0]), "class 2 has a share of 0"),
    (lambda p: prior.em(p, source=[0.5, 0.6]), "must be 3 numbers"),
    (lambda p: prior.em(p[:0], source=EVEN), "at least one image"),
    (lambda p: prior.em(2 * p, source=EVEN), "apply softmax"),
    (
      lambda p: prior.correct(p, source=EVEN, target=[1, 1, 1]),
      "sum to 3; they must be 3 numbers",
    ),
    (
      lambda p: prior.bbse(p, validation=p, labels=np.array([0, 1, 1])),
      "class 2 has no validation image",
    ),
    (
      lambda p: prior.bbse(
        p, validation=p[[0, 0, 2]], labels=np.array([0, 1, 2])
      ),
      "cannot be told apart",
    ),
    (
      lambda p: prior.bbse(p, validation=np.eye(2), labels=np.array([0, 1])),
      "have 2 classes, the pool 3",
    ),
    (
      lambda p: prior.with_errors(prior.em, p, source=EVEN, replicates=2),
      "replicates is 2; it must be 20 or more",
    ),
  ],
)
def test_what_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call(np.eye(3))
