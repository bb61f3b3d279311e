"""Programs of known memory, for tests of what fits; and which are compiled."""

import collections
import contextlib

import jax
from jax import monitoring

from ltjax.devices import memory

MB = 2**20
NamedStats = collections.namedtuple(
  "NamedStats",
  "temp_size_in_bytes output_size_in_bytes alias_size_in_bytes"
  " generated_code_size_in_bytes",
)


def exhausted(text="RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."):
  return jax.errors.JaxRuntimeError(text)


class Lowered:
  """A program that needs `needs(size)` bytes; an error where it is None."""

  def __init__(self, needs):
    self._needs = needs

  def compile(self, options=None):
    del options
    if self._needs is None:
      raise exhausted()
    return self

  def memory_analysis(self):
    return NamedStats(self._needs, 30, 20, 0)


def batch(needs=None, size=100, multiple=1, asked=None):
  def lower(size):
    if asked is not None:
      asked.append(size)
    return Lowered(needs(size))

  return memory.Batch(
    "Stage toy", "toy.batch_size", size, multiple, needs and lower
  )


def estimate(temporaries=100 * MB, **parts):
  return memory.Estimate(
    **({"data": 10 * MB, "state": 5 * MB, "held": MB} | parts),
    temporaries=temporaries,
  )


@contextlib.contextmanager
def compilations():
  """Collects the names of what is compiled: steps, passes over images, others.

  A program that JAX finds in the cache on the disk is one of them.
  """
  found = collections.Counter()

  def listen(event, duration, **told):
    if event.endswith("backend_compile_duration"):
      found[told["fun_name"]] += 1

  monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    monitoring.unregister_event_duration_listener(listen)


# What takes long, as `compilations` calls it.
LARGE = ("jit(one_step)", "jit(many_steps)", "jit(features)")


def large(found):
  return {name: found[name] for name in LARGE if found[name]}
