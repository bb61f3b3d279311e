"""Each refusal by its name; what passes comes back in one dtype."""

import numpy as np
import pytest

from ltjax.evaluation import checks


def test_distributions_pass_in_double_precision():
  rows = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
  found = checks.distributions(rows)
  assert found.dtype == np.float64
  np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    (np.zeros((2, 0)), "shape .2, 0.: they must be .T, C. with at least one"),
    (
      [[0.5, np.nan]],
      "1 of 1 rows .* first is row 0: the network has diverged",
    ),
    ([[0.5, 0.52]], "row 0 of the probabilities sums to 1.02"),
    ([[1.5, -0.5]], "smallest value is -0.5: apply softmax"),
  ],
)
def test_what_is_no_distribution(rows, message):
  with pytest.raises(ValueError, match=message):
    checks.distributions(np.asarray(rows))


def test_labels_pass_as_int64():
  found = checks.labels(np.array([-1, 2], np.int8), "truth", 2, 3, low=-1)
  assert found.dtype == np.int64 and found.tolist() == [-1, 2]


@pytest.mark.parametrize(
  ("values", "low", "message"),
  [
    ([0, 3], 0, r"truth\[1\] is 3: with 3 classes they must be from 0 to 2"),
    ([-1, 0], 0, r"truth\[0\] is -1"),
    ([-2, 0], -1, r"truth\[0\] is -2: .* from -1 to 2"),
    ([0.0, 1.0], 0, r"truth are float64 of shape \(2,\)"),
    ([0, 1, 2], 0, r"integers of shape \(2,\)"),
  ],
)
def test_labels_that_are_none(values, low, message):
  with pytest.raises(ValueError, match=message):
    checks.labels(np.array(values), "truth", 2, 3, low=low)


def test_groups():
  checks.groups({"many": (0, 1), "few": ()}, 2)
  with pytest.raises(ValueError, match="group 'few' has class -1: there are 2"):
    checks.groups({"few": (-1,)}, 2)
