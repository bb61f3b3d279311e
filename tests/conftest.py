"""Strictness for every test: what JAX can check, it checks."""

import atexit
import os
import shutil
import sys
import tempfile

# Helpers that tests share lie beside this file (`import toys`).
sys.path.insert(0, os.path.dirname(__file__))

# Several devices on one CPU, before JAX starts.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests share a cache of their own (below), never the user's.
os.environ["LTJAX_COMPILATION_CACHE"] = "off"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")

# Tests make the same toy programs again and again: compile each only once.
_cache = tempfile.mkdtemp(prefix="ltjax-test-compilations-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def key_reuse():
  """Turns the second use of a random key into an error."""
  with jax.debug_key_reuse(True):
    yield
