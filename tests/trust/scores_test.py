import numpy as np
import pytest

from ltjax.trust import scores


def test_golden():
  logits = np.array([[0.0, 0.0], [3.0, 1.0]])
  found = scores.energy(logits)
  np.testing.assert_allclose(found, [0.693147, 3.126928], atol=1e-6)
  np.testing.assert_array_equal(scores.max_logit(logits), [0, 3])


def test_energy_is_its_formula_and_between_bounds():
  logits = np.random.default_rng(0).normal(size=(20, 5)) * 4
  slow = [np.log(sum(np.exp(z) for z in row)) for row in logits]
  found = scores.energy(logits)
  np.testing.assert_allclose(found, slow)
  above = found - scores.max_logit(logits)
  assert np.all((above >= 0) & (above <= np.log(5)))


def test_large_logits_do_not_overflow_and_a_shift_shifts():
  np.testing.assert_allclose(scores.energy([[1000.0, 0.0]]), [1000])
  np.testing.assert_allclose(
    scores.energy([[-999.0, -1000.0]]), scores.energy([[1.0, 0.0]]) - 1000
  )


@pytest.mark.parametrize("bad", [[1.0], [[np.nan, 0]], np.zeros((2, 0))])
def test_what_is_refused(bad):
  for score in (scores.energy, scores.max_logit):
    with pytest.raises(ValueError, match="must be .T, C. and finite"):
      score(bad)
