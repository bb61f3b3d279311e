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

# Tests compile much and compute little: XLA optimizes little, and what was
# compiled once is shared by all processes of the session, those that tests start
# among them. Set JAX_DISABLE_MOST_OPTIMIZATIONS=0 to test what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _cache = tempfile.mkdtemp(prefix="ltjax-test-compilations-")
  atexit.register(shutil.rmtree, _cache, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

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


@pytest.fixture
def optimized():
  """Compiles as users do: two programs of one sum are then equal in its bits."""
  few = jax.config.values["jax_disable_most_optimizations"]
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", few)


def pytest_collection_modifyitems(items):
  """Puts the conformance tests of a case together: they share a compiled run."""

  def case(place):
    spec = getattr(items[place], "callspec", None)
    return str(spec.params.get("case", "")) if spec else ""

  places = [
    place
    for place, item in enumerate(items)
    if item.path.name == "conformance_test.py"
  ]
  for place, item in zip(places, [items[p] for p in sorted(places, key=case)]):
    items[place] = item
