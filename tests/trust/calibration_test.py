"""Calibration against a slow search, known answers and made worlds."""

import json

import numpy as np
import pytest

from ltjax.evaluation import metrics
from ltjax.trust import calibration


def softmax(scores):
  shifted = np.exp(scores - scores.max(1, keepdims=True))
  return shifted / shifted.sum(1, keepdims=True)


def world(temperature=1.0, bias=(0, 0, 0), count=4000, seed=0):
  """Images whose truth is drawn from `softmax(log p / T + b)`."""
  rng = np.random.default_rng(seed)
  given = softmax(rng.normal(size=(count, 3)) * 2)
  true = softmax(np.log(given) / temperature + np.asarray(bias))
  labels = (rng.random((count, 1)) > true.cumsum(1)).sum(1).clip(0, 2)
  return given, labels


def slow_loss(given, labels, inverse, bias, penalty):
  total = penalty / 2 * ((inverse - 1) ** 2 + sum(b * b for b in bias))
  for row, y in zip(given, labels):
    scores = [inverse * np.log(p) + b for p, b in zip(row, bias)]
    total += np.log(sum(np.exp(s) for s in scores)) - scores[y]
  return total


def test_temperature_golden():
  # Four of five right with odds e^2: sigmoid(2 u) = 0.8 at u = log(4) / 2.
  p = 1 / (1 + np.exp(-2.0))
  given = np.tile([[p, 1 - p]], (5000, 1))
  labels = np.repeat([0, 1], [4000, 1000])
  found = calibration.fit(given, labels)
  assert found.temperature == pytest.approx(2 / np.log(4), abs=1e-3)
  assert found.bias == (0, 0) and found.shares == (0.8, 0.2)
  np.testing.assert_allclose(found.apply(given[:1]), [[0.8, 0.2]], atol=1e-4)


@pytest.mark.parametrize("kind", calibration.KINDS)
def test_no_neighbour_is_better(kind):
  given, labels = world(1.6, (0.5, -0.2, -0.3), count=60)
  prior = np.array([0.7, 0.2, 0.1])
  found = calibration.fit(given, labels, kind=kind, prior=prior, penalty=2.0)
  logs = np.log(prior) - np.log(prior).mean()

  def loss(inverse, bias):
    # The penalty of `prior` is on its one strength, not on the biases.
    extra = 0.0
    if kind == "prior":
      a = bias @ logs / (logs @ logs)
      extra = a * a - bias @ bias
    return slow_loss(given, labels, inverse, bias, 2.0) + extra

  inverse, bias = 1 / found.temperature, np.array(found.bias)
  best = loss(inverse, bias)
  steps = {"temperature": [], "bias": np.eye(3), "prior": [logs]}[kind]
  for step in (-1e-3, 1e-3):
    assert loss(inverse + step, bias) > best
    for direction in steps:
      assert loss(inverse, bias + step * direction) > best


def test_what_the_world_was_made_with_is_found():
  bias = np.array([0.8, -0.3, -0.5])
  found = calibration.fit(*world(2.0, bias, 20_000), kind="bias")
  assert found.temperature == pytest.approx(2.0, rel=0.05)
  np.testing.assert_allclose(found.bias, bias, atol=0.06)


def test_logit_adjustment_of_the_prior_is_found():
  prior = np.array([0.8, 0.15, 0.05])
  bias = -np.log(prior)
  found = calibration.fit(*world(1.0, bias, 20_000), kind="prior", prior=prior)
  np.testing.assert_allclose(found.bias, bias - bias.mean(), atol=0.1)
  assert found.temperature == pytest.approx(1.0, rel=0.05)


def test_a_calibrated_model_stays_as_it_is():
  given, labels = world(count=20_000)
  found = calibration.fit(given, labels, kind="bias")
  assert found.temperature == pytest.approx(1.0, abs=0.04)
  np.testing.assert_allclose(found.bias, np.zeros(3), atol=0.05)
  same = calibration.Calibration("bias", 1.0, (0.0,) * 3, (0.3, 0.3, 0.4))
  np.testing.assert_allclose(same.apply(given), given, rtol=1e-12)


def test_error_falls_and_predictions_keep_under_a_temperature():
  given, labels = world(3.0)
  found = calibration.fit(given, labels).apply(given)
  before, after = (
    metrics.expected_calibration_error(p, labels) for p in (given, found)
  )
  assert before > 0.15 and after < 0.03
  np.testing.assert_array_equal(given.argmax(1), found.argmax(1))
  assert calibration.negative_log_likelihood(
    found, labels
  ) < calibration.negative_log_likelihood(given, labels)


def test_absent_classes_certain_and_perfect_models_stay_finite():
  given = np.eye(3)[[0, 0, 1, 1]]  # fp32 rounds to 0 and 1
  for kind in ("temperature", "bias"):
    found = calibration.fit(given, np.array([0, 0, 1, 1]), kind=kind)
    assert 0.05 <= found.temperature <= 1 and np.isfinite(found.bias).all()
    assert np.isfinite(found.apply(given)).all()
  wrong = calibration.fit(given, np.array([1, 1, 0, 0]))
  assert wrong.temperature == pytest.approx(20)


def test_folds_do_not_see_themselves():
  given, labels = world(2.0, count=40)
  found = calibration.cross_fitted(given, labels, folds=4, kind="bias")
  order = np.argsort(labels, kind="stable")
  for each in range(4):
    own, others = order[each::4], np.delete(order, np.s_[each::4])
    fitted = calibration.fit(given[others], labels[others], kind="bias")
    np.testing.assert_allclose(found[own], fitted.apply(given[own]), rtol=1e-4)


def test_reliability_golden_and_its_error():
  given = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
  labels = np.array([0, 1, 1, 1])
  found = calibration.reliability(given, labels, bins=4)
  np.testing.assert_allclose(found.confidence, [0.625, 0.85])
  np.testing.assert_allclose(found.accuracy, [1.0, 0.5])
  assert found.count.tolist() == [2, 2]
  given, labels = world(2.0)
  found = calibration.reliability(given, labels)
  gap = np.abs(found.confidence - found.accuracy) @ found.count / len(labels)
  assert gap == pytest.approx(metrics.expected_calibration_error(given, labels))


def test_saved_and_loaded_by_head(tmp_path):
  one = calibration.Calibration("bias", 1.5, (0.1, -0.1), (0.5, 0.5))
  two = calibration.Calibration("temperature", 2.0, (0.0, 0.0), (0.5, 0.5))
  calibration.save(tmp_path, "balanced", one)
  path = calibration.save(tmp_path, "random", two)
  assert calibration.load(tmp_path, "balanced") == one
  assert calibration.load(tmp_path, "random") == two
  content = json.loads(path.read_text())
  content["random"]["temperature"] = -1
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="holds no calibration .temperature is"):
    calibration.load(tmp_path, "random")
  path.write_text("{")
  with pytest.raises(ValueError, match="cannot be read"):
    calibration.load(tmp_path, "balanced")
  path.unlink()
  with pytest.raises(ValueError, match="--head=random --calibrate=bias"):
    calibration.load(tmp_path, "random")


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"kind": "platt"}, "calibration is 'platt'; choose one of temperature"),
    ({"kind": "prior"}, "needs a share above 0 for each of 3 classes"),
    ({"kind": "prior", "prior": [1, 0, 1]}, "the least value 0.0"),
    ({"penalty": 0}, r"penalty is 0; it must be above 0"),
    ({"labels": np.array([0, 3])}, r"labels\[1\] is 3"),
    ({"probabilities": np.zeros((0, 3))}, "at least one image"),
    ({"probabilities": np.ones((2, 3))}, "apply softmax"),
  ],
)
def test_what_is_refused(changes, message):
  arguments = {"probabilities": np.eye(3)[:2], "labels": np.array([0, 1])}
  arguments |= changes
  with pytest.raises(ValueError, match=message):
    calibration.fit(**arguments)


def test_other_classes_and_too_many_folds_are_refused():
  found = calibration.fit(np.eye(3)[:2], np.array([0, 1]))
  with pytest.raises(ValueError, match="of 2 classes, the calibration of 3"):
    found.apply(np.eye(2))
  with pytest.raises(ValueError, match=r"folds is 5; it must be in \[2, 2\]"):
    calibration.cross_fitted(np.eye(3)[:2], np.array([0, 1]))
