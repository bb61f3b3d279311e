"""Which programs are compiled."""

import collections
import contextlib

import jax
from jax import monitoring


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


def exhausted(text="RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."):
  return jax.errors.JaxRuntimeError(text)


# What takes long, as `compilations` calls it.
LARGE = ("jit(one_step)", "jit(many_steps)", "jit(features)")


def large(found):
  return {name: found[name] for name in LARGE if found[name]}
