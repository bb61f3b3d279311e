"""Settings of SwAV: shares of the prototypes, the queue's start, bad values."""

import numpy as np
import pytest

from ltjax import config as configs
from ltjax.self_supervised import swav

Settings = swav.Settings


def test_defaults_are_those_of_the_paper():
  """Three iterations at 0.05, temperature 0.1, a queue from epoch 15 of 100."""
  found = Settings()
  assert (found.epsilon, found.iterations, found.temperature) == (0.05, 3, 0.1)
  assert found.marginal == "uniform"
  assert found.queue_start == 0.15


def test_defaults_of_the_config_are_within_range():
  block = configs.default().pretrain
  names = ("prototypes", "epsilon", "marginal", "marginal_exponent", "freeze")
  names += ("code_queue", "queue_start", "temperature")
  settings = {name: block[name] for name in names}
  Settings(iterations=block.sinkhorn_iterations, **settings)


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
    ({"prototypes": 1}, "pretrain.prototypes is 1; it must be 2 or more"),
    ({"prototypes": 0}, "pretrain.prototypes is 0"),
    ({"temperature": 0.0}, "pretrain.temperature is 0.0; it must be above 0"),
    ({"temperature": -1.0}, "pretrain.temperature is -1.0"),
    ({"temperature": float("nan")}, "pretrain.temperature is nan"),
    ({"epsilon": 0.0}, "pretrain.epsilon is 0.0; it must be above 0"),
    ({"epsilon": float("inf")}, "pretrain.epsilon is inf"),
    ({"iterations": 0}, "pretrain.sinkhorn_iterations is 0; .* 1 or more"),
    ({"marginal": "zipf"}, "'zipf'; choose one of uniform, power"),
    ({"marginal_exponent": -0.1}, "marginal_exponent is -0.1; it must be 0"),
    ({"marginal_exponent": float("nan")}, "marginal_exponent is nan"),
    ({"freeze": 1.0}, r"pretrain.freeze is 1.0; .* in \[0, 1\)"),
    ({"freeze": -0.1}, "pretrain.freeze is -0.1"),
    ({"queue_start": 1.0}, r"pretrain.queue_start is 1.0; .* in \[0, 1\)"),
    ({"queue_start": float("nan")}, "pretrain.queue_start is nan"),
  ],
)
def test_out_of_range(settings, message):
  with pytest.raises(ValueError, match=message):
    Settings(**settings)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"code_queue": 12}, "code_queue is 12; it must be a multiple .* 8, or 0"),
    ({"code_queue": -8}, "code_queue is -8"),
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
