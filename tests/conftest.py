"""Strictness for every test: what JAX can check, it checks."""

import atexit
import importlib.metadata
import os
import shutil
import sys
import tempfile

# Helpers that tests share lie beside this file (`import toys`); benchmarks and
# experiments are beside the package, and are not installed.
sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))
sys.path.insert(0, os.path.dirname(__file__))

# Several devices on one CPU, before JAX starts.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests share a cache of their own (below), never the user's.
os.environ["LTJAX_COMPILATION_CACHE"] = "off"

# Tests compile much and compute little: XLA optimizes little, and what was
# compiled once is shared by all processes of the session, those that tests
# start among them. Set JAX_DISABLE_MOST_OPTIMIZATIONS=0 to test what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# One piece of code a program, as all are small; and by LLVM alone, which takes
# a third of the time of MLIR's passes, as long as XLA has a flag for it.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_parallel_codegen_split_count=1")
if importlib.metadata.version("jaxlib").startswith(("0.9.", "0.10.")):
  os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
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
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_legacy_prng_key", "error")


@pytest.fixture
def key_reuse():
  """Turns the second use of a random key into an error."""
  with jax.debug_key_reuse(True):
    yield


@pytest.fixture
def optimized():
  """Compiles as users do: two programs of one sum are then equal in bits."""
  few = jax.config.values["jax_disable_most_optimizations"]
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", few)


# Folders and modules that compile networks or start processes. All other tests,
# and one conformance case, are `-m quick`.
SLOW = {
  *("augment", "benchmarks", "evaluation", "experiments", "methods", "models"),
  *("plots/tsne_test.py", "self_supervised", "semi_supervised", "stages"),
  *("api_test.py", "python_api_test.py"),
  *("configs_test.py", "conformance_test.py", "devices/compilation_test.py"),
  *("devices/distributed_test.py", "docs_test.py", "dry_run_test.py"),
  *(
    "evaluate_test.py",
    "export",
    "kill_test.py",
    "launch/seeds_test.py",
    "main_test.py",
  ),
  *("predict_test.py", "published_rows_test.py", "report/page_test.py"),
  *("runs/finished_test.py", "runs/rehearsal_test.py", "runs/trained_test.py"),
  *("train_test.py", "training/fit_test.py", "training/prefetch_test.py"),
  *("suggest/main_test.py", "trust/cross_validation_test.py"),
  "trust/decided_run_test.py",
}
QUICK_CASE = "consistency"


def _case(item):
  """The conformance case of a test, or an empty string."""
  spec = getattr(item, "callspec", None)
  return str(spec.params.get("case", "")) if spec else ""


def pytest_collection_modifyitems(items):
  """Marks quick tests, and puts the conformance tests of a case together.

  These share a compiled run.
  """
  for item in items:
    path = item.path.relative_to(os.path.dirname(__file__))
    if not SLOW & {path.parts[0], path.as_posix()} or _case(item) == QUICK_CASE:
      item.add_marker(pytest.mark.quick)
  places = [
    place
    for place, item in enumerate(items)
    if item.path.name == "conformance_test.py"
  ]
  cases = sorted((items[place] for place in places), key=_case)
  for place, item in zip(places, cases):
    items[place] = item


# Linux gives a process 65,530 memory mappings, and a program takes several; two
# processes of so many bytes are well within the memory of a laptop.
MOST_MAPPINGS, MOST_BYTES = 25_000, 2_500_000_000


def _full():
  """Whether this process may hold many compiled programs."""
  try:
    with open("/proc/self/statm", "rb") as file:
      resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/maps", "rb") as file:
      return resident > MOST_BYTES or sum(1 for _ in file) > MOST_MAPPINGS
  except OSError:  # another system
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
  """Forgets programs between modules, or conformance cases, before they are
  too many. Not after each: what they share would be compiled again."""
  yield
  following = nextitem and (nextitem.path, _case(nextitem))
  if following != (item.path, _case(item)) and _full():
    jax.clear_caches()
