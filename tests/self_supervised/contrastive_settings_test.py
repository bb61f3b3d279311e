"""Settings of contrastive pre-training: limits, temperatures, which loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import contrastive as losses
from ltjax.models import projections
from ltjax.self_supervised import contrastive

Settings = contrastive.Settings


def units(seed):
  x = np.random.default_rng(seed).normal(size=(6, 4))
  return projections.unit(jnp.asarray(x, jnp.float32))


def test_temperature_swings_by_epochs():
  """TS: high at the start, low after half a period, high after one."""
  settings = Settings(
    temperature_schedule="cosine",
    temperature_low=0.1,
    temperature_high=1.0,
    temperature_period=400,
  )
  of = jax.jit(settings.temperature_of)
  for epoch, expected in ((0, 1.0), (100, 0.55), (200, 0.1), (400, 1.0)):
    np.testing.assert_allclose(of(jnp.int32(epoch)), expected, rtol=1e-5)
  # The published code: cos(pi e / 200), for any epoch.
  slow = 0.1 + 0.5 * 0.9 * (1 + np.cos(np.pi * 37 / 200))
  np.testing.assert_allclose(of(jnp.int32(37)), slow, rtol=1e-5)


def test_constant_temperature_stays():
  of = Settings(temperature=0.3).temperature_of
  assert {float(of(jnp.int32(epoch))) for epoch in (0, 7, 900)} == {
    float(np.float32(0.3))
  }


@pytest.mark.parametrize(
  "settings, loss",
  [
    ({}, losses.nt_xent),
    (
      {"focal_gamma": 1.5},
      lambda *views, temperature: losses.focal_nt_xent(
        *views, temperature=temperature, gamma=1.5
      ),
    ),
    (
      {"supervised": True},
      lambda *views, temperature: losses.sup_con(
        *views, jnp.array([0, 0, 1, -1, 1, -1]), temperature=temperature
      ),
    ),
  ],
)
def test_chooses_the_loss(settings, loss):
  found = Settings(**settings).losses(
    units(0),
    units(1),
    jnp.array([0, 0, 1, -1, 1, -1]),
    temperature=jnp.float32(0.7),
  )
  expected = loss(units(0), units(1), temperature=0.7)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  plain = losses.nt_xent(units(0), units(1), temperature=0.7)
  assert np.allclose(found, plain) == (not settings)


def test_names():
  assert Settings().name == "simclr"
  assert Settings(supervised=True).name == "supcon"
  assert Settings(prune=0.0).name == "sdclr"


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"dim": 0}, "pretrain.dim is 0; it must be 1 or more"),
    ({"hidden": -1}, "pretrain.hidden is -1; it must be 1 or more, or 0"),
    ({"temperature": 0.0}, "pretrain.temperature is 0.0; it must be above 0"),
    ({"temperature": -0.5}, "pretrain.temperature is -0.5; it must be above"),
    ({"temperature": float("nan")}, "pretrain.temperature is nan"),
    ({"temperature": float("inf")}, "pretrain.temperature is inf; .* finite"),
    (
      {"temperature_schedule": "sine"},
      "temperature_schedule is 'sine'; choose one of constant, cosine",
    ),
    ({"temperature_low": 0.0}, "pretrain.temperature_low is 0.0; it must be"),
    (
      {"temperature_low": 0.6, "temperature_high": 0.5},
      "temperature_high is 0.5; .* not below pretrain.temperature_low, .* 0.6",
    ),
    ({"temperature_high": float("nan")}, "pretrain.temperature_high is nan"),
    ({"temperature_period": 0}, "pretrain.temperature_period is 0; it must be"),
    ({"temperature_period": -4.0}, "temperature_period is -4.0; it must be"),
    ({"focal_gamma": -1.0}, "pretrain.focal_gamma is -1.0; it must be 0 or"),
    (
      {"focal_gamma": 2.0, "supervised": True},
      "focal_gamma is 2.0, but the supervised contrastive loss has no focal",
    ),
    ({"prune": 1.0}, r"pretrain.prune is 1.0; it must be in \[0, 1\)"),
    ({"prune": -0.1}, r"pretrain.prune is -0.1; it must be in \[0, 1\)"),
    ({"prune": float("nan")}, "pretrain.prune is nan"),
    ({"boost_decay": 1.0}, r"pretrain.boost_decay is 1.0; it must be in \[0"),
    ({"boost_decay": -0.1}, "pretrain.boost_decay is -0.1; it must be in"),
  ],
)
def test_bad_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    Settings(**settings)


def test_limits_are_allowed():
  """Nothing pruned, no memory of the past, a schedule without a swing."""
  Settings(prune=0.0, boost_decay=0.0, hidden=1, dim=1)
  Settings(temperature_low=0.5, temperature_high=0.5)
