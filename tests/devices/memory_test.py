"""What a program needs, and what there is."""

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from ltjax.devices import host_memory, memory, sharding

MB = programs.MB


def test_the_peak_is_the_sum():
  assert programs.estimate().resting == 16 * MB
  assert programs.estimate().peak == 116 * MB
  assert programs.estimate(None).peak == 16 * MB


def test_bytes_of_a_tree_are_those_of_a_device():
  mesh = sharding.make_mesh(4)
  put = jax.device_put
  tree = {
    "whole": put(jnp.zeros((8, 3)), sharding.replicated(mesh)),
    "split": put(jnp.zeros((8, 3)), sharding.batched(mesh)),
    "shape": jax.ShapeDtypeStruct((5,), jnp.int16),
    "key": jax.random.key(0),
    "host": np.zeros(1000),
    "number": 3,
  }
  assert memory.bytes_of(tree) == 96 + 24 + 10 + 8


def test_arrays_in_use_are_counted_once():
  mesh = sharding.make_mesh(2)
  first, second = mesh.devices.flat
  before = memory.in_use(first), memory.in_use(second)
  array = jax.device_put(np.ones((1000, 7), np.float32), first)
  alias = jax.device_put(array, first)
  split = jax.device_put(np.ones(2000, np.float32), sharding.batched(mesh))
  assert memory.in_use(first) - before[0] == 28000 + 4000
  assert memory.in_use(second) - before[1] == 4000
  del array, alias, split
  assert (memory.in_use(first), memory.in_use(second)) == before


class Device:
  platform = "gpu"

  def __init__(self, stats):
    self._stats = stats

  def memory_stats(self):
    return self._stats


def test_the_limit_is_the_devices_unless_it_is_given(monkeypatch):
  device = Device({"bytes_limit": 77, "bytes_in_use": 5})
  assert memory.limit(device) == 77
  assert memory.in_use(device) == 5
  assert memory.limit(device, 0.5) == 2**29
  assert memory.limit(Device(None)) is None
  cpu = jax.devices()[0]
  monkeypatch.setattr(memory, "in_use", lambda device: 1000)
  monkeypatch.setattr(host_memory, "free", lambda: 6000)
  assert memory.limit(cpu) == 1000 + 4000 // 4  # four devices share it
  monkeypatch.setattr(host_memory, "free", lambda: None)
  assert memory.limit(cpu) is None
  assert memory.limit(cpu, 1.0) == 2**30


def test_temporaries_are_xlas():
  def chain(x):
    return jnp.sum(jnp.sin(x[:, None] * x[None, :]) @ jnp.cos(x)[:, None])

  small, large = (
    memory.temporaries(jax.jit(chain).lower(jnp.ones(n))) for n in (100, 1000)
  )
  assert 4 * 100**2 <= small < large
  assert 4 * 1000**2 <= large <= 12 * 1000**2
  rough = jax.jit(chain).lower(jnp.ones(1000))
  assert memory.temporaries(rough, to_run=False) == large
  assert (
    memory.temporaries(programs.Lowered(1000)) == 1010
  )  # results not aliased
  assert memory.temporaries(programs.Lowered(None)) is None


def test_other_errors_of_the_compiler_are_passed_on():
  class Broken:
    def compile(self, options):
      raise jax.errors.JaxRuntimeError("INTERNAL: broken")

  with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
    memory.temporaries(Broken())


def test_sizes_as_text():
  assert memory.text(None) == "unknown"
  assert memory.text(MB * 3 // 2) == "1.5 MiB"
  assert memory.text(2**30 * 5 // 4) == "1.25 GiB"
