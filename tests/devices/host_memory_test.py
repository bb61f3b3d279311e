"""The host's memory, as files of the kernel tell it."""

import os

import numpy as np
import pytest

from ltjax.devices import host_memory

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
  assert host_memory.free(tmp_path) == 5000 * KB


def test_a_group_or_one_above_it_may_have_less(tmp_path):
  write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/job/step\n")
  version2(tmp_path, "/job/step", "max", 10)
  assert host_memory.free(tmp_path) == 5000 * KB
  version2(tmp_path, "/job", 1000 * KB, 300 * KB, 50 * KB)
  assert host_memory.free(tmp_path) == 750 * KB
  version2(tmp_path, "/", 400 * KB, 100 * KB)
  assert host_memory.free(tmp_path) == 300 * KB
  version2(tmp_path, "/job/step", 100 * KB, 300 * KB)
  assert host_memory.free(tmp_path) == 0


def test_in_a_container_only_the_top_is_there(tmp_path):
  write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/of/host\n")
  version2(tmp_path, "", 600 * KB, 100 * KB)
  assert host_memory.free(tmp_path) == 500 * KB


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
  assert host_memory.free(tmp_path) == 5000 * KB
  (folder / "memory.limit_in_bytes").write_text(str(100 * KB))
  (folder / "memory.stat").write_text(f"total_inactive_file {5 * KB}\n")
  assert host_memory.free(tmp_path) == 95 * KB


def test_another_system_says_nothing(tmp_path):
  assert host_memory.free(tmp_path) is None
  assert host_memory.resident(1, tmp_path) is None
  assert host_memory.peak(root=tmp_path) is None


def test_what_a_process_holds(tmp_path):
  status = "VmPeak: 900 kB\nVmHWM:  300 kB\nVmRSS:  200 kB\n"
  write(tmp_path, proc__7__status=status, proc__self__status=status)
  assert host_memory.resident(7, tmp_path) == 200 * KB
  assert host_memory.peak(7, tmp_path) == 300 * KB
  assert host_memory.peak(root=tmp_path) == 300 * KB


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no Linux")
def test_here():
  free, before = host_memory.free(), host_memory.resident()
  assert free is not None and before is not None
  assert 2**20 < before < 2**40 and 0 < free < 2**50
  array = np.ones(2**26, np.uint8)
  during = host_memory.resident(os.getpid())
  assert during is not None and during - before > 2**25
  peak = host_memory.peak()
  assert peak is not None and peak >= during
  del array
