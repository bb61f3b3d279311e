"""Settings of SwAV: shares of the prototypes, the queue's start, bad values."""

import numpy as np
import pytest

from ltjax.self_supervised import swav

Settings = swav.Settings


def test_uniform_shares_are_the_default_of_sinkhorn():
  assert swav.shares("uniform", 7, 0.25) is None


def test_power_law():
  """1, 2^-1/2, 3^-1/2, 4^-1/2 over their sum."""
  found = swav.shares("power", 4, 0.5)
  np.testing.assert_allclose(
    found, [0.359118, 0.253935, 0.207337, 0.179559], rtol=1e-4
  )
  assert found.dtype == np.float32


@pytest.mark.parametrize("num", [2, 128, 3000])
@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0, 30.0])
def test_power_laws_fall_and_sum_to_1(num, exponent):
  found = np.asarray(swav.shares("power", num, exponent), np.float64)
  np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
  assert np.all(found >= 0) and np.all(np.diff(found) <= 0)
  if exponent == 0:
    np.testing.assert_allclose(found, 1 / num, rtol=1e-6)


@pytest.mark.parametrize(
  "settings, expected",
  [
    ({"code_queue": 24, "queue_start": 0.0}, 3),  # full after 3 steps
    ({"code_queue": 24, "queue_start": 0.15}, 15),  # the fourth of 20 epochs
    ({"code_queue": 160, "queue_start": 0.15}, 20),
    ({"code_queue": 8, "queue_start": 0.95}, 95),  # the last epoch
  ],
)
def test_queue_begins_started_and_full(settings, expected):
  found = Settings(**settings).queue_from(batch_size=8, epochs=20, steps=5)
  assert found == expected


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"code_queue": 12}, "code_queue is 12; it must be a multiple .* 8, or 0"),
    ({"code_queue": 800}, "full after 100 steps, .* the 100 steps"),
    (
      {"code_queue": 8, "queue_start": 0.99},
      "queue_start is 0.99; the 100 steps of the stage end before",
    ),
  ],
)
def test_queues_that_are_never_used(settings, message):
  with pytest.raises(ValueError, match=message):
    Settings(**settings).queue_from(batch_size=8, epochs=20, steps=5)
