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
      {"kind": "supcon"},
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


def test_a_temperature_that_swings_up_to_less_is_refused():
  with pytest.raises(
    ValueError,
    match="temperature_high is 0.5; .* below pretrain.temperature_low, .* 0.6",
  ):
    Settings(temperature_low=0.6, temperature_high=0.5)
  Settings(temperature_low=0.5, temperature_high=0.5)
