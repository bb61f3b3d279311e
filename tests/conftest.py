"""Strictness for every test: what JAX can check, it checks."""

import os

# Several devices on one CPU, before JAX starts.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")


@pytest.fixture
def key_reuse():
  """Turns the second use of a random key into an error."""
  with jax.debug_key_reuse(True):
    yield
