"""What a program needs, what there is, and which batch would fit."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import host_memory, memory, sharding

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


def test_the_peak_is_the_sum():
  assert estimate().resting == 16 * MB
  assert estimate().peak == 116 * MB
  assert estimate(None).peak == 16 * MB


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
  assert memory.temporaries(Lowered(1000)) == 1010  # results not aliased
  assert memory.temporaries(Lowered(None)) is None


def test_other_errors_of_the_compiler_are_passed_on():
  class Broken:
    def compile(self, options):
      raise jax.errors.JaxRuntimeError("INTERNAL: broken")

  with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
    memory.temporaries(Broken())


def test_what_fits_is_let_pass():
  memory.check(estimate(), batch(), None)
  memory.check(estimate(), batch(), 116 * MB)
  with pytest.raises(memory.OutOfMemoryError):
    memory.check(estimate(), batch(), 116 * MB - 1)
  with pytest.raises(memory.OutOfMemoryError):
    memory.check(estimate(None), batch(), None)


def needs(size):
  """A megabyte an image, and some that does not depend on the batch."""
  return size * MB - 10


@pytest.mark.parametrize("room", [99, 51, 50, 49.5, 30, 8, 2.5, 1.5])
@pytest.mark.parametrize("multiple", [1, 4])
def test_the_batch_that_fits_does_fit_and_is_near_the_limit(room, multiple):
  asked = []
  most = estimate().resting + int(room * MB)
  size, compiled = memory.largest(
    estimate(needs(100) + 10),
    batch(needs, multiple=multiple, asked=asked),
    most,
  )
  assert len(asked) <= 4
  assert size % multiple == 0
  if size == 0:
    assert room < 2 * multiple
    return
  assert compiled and asked[-1] == size and needs(size) + 10 <= room * MB
  assert size >= 0.9 * room - max(8, multiple)


def test_steps_in_the_memory_of_batches_are_no_trap():
  """As where the hardware's tiles are filled: the line is a guess only."""

  def tiled(size):
    return -(-size // 32) * 32 * MB

  most = estimate().resting + 60 * MB
  size, compiled = memory.largest(
    estimate(tiled(256)), batch(tiled, size=256), most
  )
  assert tiled(size) <= 60 * MB and size == 32
  assert not compiled  # It is said to fit with less certainty.


def test_a_program_that_xla_refused_to_compile_is_halved():
  def refused(size):
    return None if size > 30 else needs(size)

  size, compiled = memory.largest(
    estimate(None), batch(refused, size=128), estimate().resting + 25 * MB
  )
  assert compiled and 8 <= size <= 25


def test_without_another_program_temporaries_grow_with_the_batch():
  most = estimate().resting + 50 * MB
  assert memory.largest(estimate(), batch(size=64), most) == (32, False)
  assert memory.largest(estimate(None), batch(size=64), most) == (32, False)
  # The device has not what it said: half, unless a half is nothing.
  assert memory.largest(estimate(), batch(needs, 64), None) == (32, False)
  assert memory.largest(estimate(), batch(needs, 1), None) == (0, False)


def test_if_data_alone_are_too_large_no_batch_fits():
  assert memory.largest(estimate(), batch(needs), 16 * MB) == (0, False)
  assert memory.largest(estimate(), batch(needs, 1), 17 * MB) == (0, False)


def test_the_message_tells_parts_limit_and_ways_out():
  most = estimate().resting + 40 * MB
  text = memory.message(estimate(needs(100) + 10), batch(needs), most)
  size, _ = memory.largest(estimate(needs(100) + 10), batch(needs), most)
  for part in (
    "Stage toy does not fit on the device. It needs about 116.0 MiB (10.0 MiB"
    " of data, 5.0 MiB of state, 1.0 MiB held for other stages, 100.0 MiB of"
    " temporaries), and the device has 56.0 MiB.",
    f"--config.toy.batch_size={size} fits (it is 100 now).",
    "--config.model.dtype=bfloat16, and on each of more devices",
    "--config.run.memory_limit_gib",
    "What is saved stays; other settings need another --workdir.",
  ):
    assert part in text, part
  assert "held" not in memory.message(estimate(held=0), batch(needs), most)
  unsure = memory.message(estimate(), batch(), most)
  assert "batch_size=40 should fit (it is 100 now)" in unsure


def test_other_messages():
  nothing = memory.message(estimate(), batch(needs), 9 * MB)
  assert "and the device has 9.0 MiB. No --config.toy.batch_size fits (it" in (
    nothing
  )
  assert "--config.data.storage=host" in nothing
  assert "which the device did not have" in memory.message(
    estimate(), batch(needs), None
  )
  refused = memory.message(estimate(None), batch(needs), 900 * MB)
  assert "XLA cannot place its temporaries beside 10.0 MiB of data" in refused


def test_sizes_as_text():
  assert memory.text(None) == "unknown"
  assert memory.text(MB * 3 // 2) == "1.5 MiB"
  assert memory.text(2**30 * 5 // 4) == "1.25 GiB"
