"""What a program needs, and what there is."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.devices import memory, sharding

MB = 2**20


NEEDS = memory.Needs(data=10 * MB, state=5 * MB, temporaries=100 * MB)
BATCH = memory.Batch("Stage toy", "toy.batch_size", 64)


def test_the_peak_is_the_sum_and_must_fit():
  assert NEEDS.peak == 115 * MB
  memory.check(NEEDS, BATCH, None)
  memory.check(NEEDS, BATCH, 115 * MB)
  with pytest.raises(memory.OutOfMemoryError) as caught:
    memory.check(NEEDS, BATCH, 115 * MB - 1)
  for part in (
    "Stage toy does not fit on the device. It needs about 115.0 MiB (10.0 MiB"
    " of data, 5.0 MiB of state, 100.0 MiB of temporaries), and the device has"
    " 115.0 MiB. Lower --config.toy.batch_size (it is 64 now)",
    "--config.model.dtype=bfloat16",
    "--config.data.storage=host",
    "--config.run.memory_limit_gib",
  ):
    assert part in str(caught.value), part


def test_xlas_out_of_memory_is_told_in_our_words():
  text = "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nand more"
  with pytest.raises(memory.OutOfMemoryError) as caught:
    with memory.explained(BATCH):
      raise jax.errors.JaxRuntimeError(text)
  assert str(caught.value).startswith(
    "Stage toy does not fit on the device (RESOURCE_EXHAUSTED: Out of memory"
    " allocating 9 bytes.). Lower --config.toy.batch_size (it is 64 now)"
  )
  assert text in str(caught.value.__cause__)


def test_other_errors_are_passed_on():
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL: other"):
    with memory.explained(BATCH):
      raise jax.errors.JaxRuntimeError("INTERNAL: other")


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
  monkeypatch.setattr(memory, "host_free", lambda: 6000)
  assert memory.limit(cpu) == 1000 + 4000 // 4  # four devices share it
  monkeypatch.setattr(memory, "host_free", lambda: None)
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


def test_results_that_take_no_place_of_an_argument_count():
  def more(x):
    return x + 1.0, x * 2.0

  x = jnp.ones(1000)
  apart = memory.temporaries(jax.jit(more).lower(x))
  donated = memory.temporaries(jax.jit(more, donate_argnums=0).lower(x))
  assert apart - donated == 4000


def test_sizes_as_text():
  assert memory.text(None) == "unknown"
  assert memory.text(MB * 3 // 2) == "1.5 MiB"
  assert memory.text(2**30 * 5 // 4) == "1.25 GiB"


MEMINFO = "MemTotal: 9000 kB\nMemAvailable:    5000 kB\nSwapFree: 1 kB\n"
KB = 1024


def write(root, **files):
  """Writes files; `__` is a slash in their names."""
  for name, text in files.items():
    path = root / name.replace("__", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(text))


def version2(root, path, most, used, cache=0):
  folder = root / "sys/fs/cgroup" / path.lstrip("/")
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "memory.max").write_text(f"{most}\n")
  (folder / "memory.current").write_text(f"{used}\n")
  (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")


def test_without_groups_it_is_what_the_kernel_says(tmp_path):
  write(tmp_path, proc__meminfo=MEMINFO)
  assert memory.host_free(tmp_path) == 5000 * KB


def test_a_group_or_one_above_it_may_have_less(tmp_path):
  write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/job/step\n")
  version2(tmp_path, "/job/step", "max", 10)
  assert memory.host_free(tmp_path) == 5000 * KB
  version2(tmp_path, "/job", 1000 * KB, 300 * KB, 50 * KB)
  assert memory.host_free(tmp_path) == 750 * KB
  version2(tmp_path, "/", 400 * KB, 100 * KB)
  assert memory.host_free(tmp_path) == 300 * KB
  version2(tmp_path, "/job/step", 100 * KB, 300 * KB)
  assert memory.host_free(tmp_path) == 0


def test_in_a_container_only_the_top_is_there(tmp_path):
  write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/of/host\n")
  version2(tmp_path, "", 600 * KB, 100 * KB)
  assert memory.host_free(tmp_path) == 500 * KB


def test_groups_of_version_1(tmp_path):
  write(
    tmp_path,
    proc__meminfo=MEMINFO,
    proc__self__cgroup="5:cpu:/x\n4:memory,hugetlb:/job\n",
  )
  folder = tmp_path / "sys/fs/cgroup/memory/job"
  folder.mkdir(parents=True)
  (folder / "memory.limit_in_bytes").write_text(str(2**63 - 4096))
  (folder / "memory.usage_in_bytes").write_text(str(10 * KB))
  assert memory.host_free(tmp_path) == 5000 * KB
  (folder / "memory.limit_in_bytes").write_text(str(100 * KB))
  (folder / "memory.stat").write_text(f"total_inactive_file {5 * KB}\n")
  assert memory.host_free(tmp_path) == 95 * KB


def test_another_system_says_nothing(tmp_path):
  assert memory.host_free(tmp_path) is None


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="no Linux")
def test_here():
  free = memory.host_free()
  assert free is not None and 0 < free < 2**50
