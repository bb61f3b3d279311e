"""Places: equal shares of cores, GPUs in turn, and what there is."""

import os
import subprocess

import pytest

from ltjax.launch import machine_shares


@pytest.fixture
def affinity(monkeypatch):
  """Makes this process one of some cores."""

  def be_on(*numbers):
    monkeypatch.setattr(
      os, "sched_getaffinity", lambda pid: set(numbers), raising=False
    )

  return be_on


@pytest.fixture
def machine(monkeypatch):
  """Makes the child that is asked for devices answer so."""

  def be(platform, count):
    monkeypatch.setattr(machine_shares, "devices", lambda: (platform, count))

  for name in (
    "CUDA_VISIBLE_DEVICES",
    "XLA_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
  ):
    monkeypatch.delenv(name, raising=False)
  return be


def test_shares_of_cores_are_equal_and_do_not_overlap(affinity):
  affinity(7, 2, 5)
  assert (
    machine_shares.cores(1) == [machine_shares.WHOLE]
    and not machine_shares.WHOLE.cores
  )
  assert [p.cores for p in machine_shares.cores(2)] == [(2,), (5,)]
  assert [p.cores for p in machine_shares.cores(3)] == [(2,), (5,), (7,)]
  affinity(*range(16))
  shares = machine_shares.cores(5)
  assert [p.cores for p in shares] == [
    (0, 1, 2),
    (3, 4, 5),
    (6, 7, 8),
    (9, 10, 11),
    (12, 13, 14),
  ]
  assert shares[0].name == "cores 0, 1, 2"
  assert machine_shares.cores(16)[9].name == "core 9"
  assert all(not p.environment for p in shares)


def test_more_shares_than_cores_are_an_error(affinity):
  affinity(0, 1, 2)
  with pytest.raises(ValueError) as caught:
    machine_shares.cores(4)
  assert str(caught.value) == (
    "--jobs is 4, but there are 3 cores, and each run has one for itself at"
    " least; choose --jobs=3 or less."
  )


def test_a_system_that_cannot_pin(monkeypatch):
  monkeypatch.delattr(os, "sched_getaffinity", raising=False)
  assert machine_shares.cores(400) == [machine_shares.WHOLE] * 400


@pytest.mark.parametrize("count", [0, -1])
def test_no_share_is_an_error(count):
  with pytest.raises(ValueError, match=f"--jobs is {count}; .* 1 or more"):
    machine_shares.cores(count)


def test_a_gpu_has_one_run(machine):
  machine("gpu", 4)
  found = machine_shares.for_runs(3)
  assert [p.name for p in found] == ["GPU 0", "GPU 1", "GPU 2"]
  assert [p.environment for p in found] == [
    {"CUDA_VISIBLE_DEVICES": str(i)} for i in range(3)
  ]
  assert not any(p.cores for p in found)
  assert len(machine_shares.for_runs(9)) == 4  # The others wait.


def test_runs_that_share_a_gpu_share_its_memory(machine, monkeypatch):
  machine("gpu", 2)
  found = machine_shares.for_runs(9, 3)
  assert [p.environment["CUDA_VISIBLE_DEVICES"] for p in found] == list("010")
  assert {p.environment["XLA_CLIENT_MEM_FRACTION"] for p in found} == {"0.450"}
  # Who sets a fraction is obeyed; JAX refuses both names at once.
  monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")
  for place in machine_shares.for_runs(9, 3):
    assert "XLA_CLIENT_MEM_FRACTION" not in place.environment


@pytest.mark.parametrize(
  "visible, names",
  [("3,1", ["3", "1"]), (" GPU-ab, GPU-cd,", ["GPU-ab", "GPU-cd"])],
)
def test_only_the_visible_gpus_are_used(machine, monkeypatch, visible, names):
  machine("gpu", 2)
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
  found = [
    p.environment["CUDA_VISIBLE_DEVICES"] for p in machine_shares.for_runs(5)
  ]
  assert found == names


def test_runs_on_a_cpu_have_the_cores(machine, affinity):
  machine("cpu", 4)  # devices, which say nothing of the cores
  affinity(*range(6))
  assert [p.cores for p in machine_shares.for_runs(2)] == [(0, 1, 2), (3, 4, 5)]
  assert len(machine_shares.for_runs(20)) == 6
  assert [p.cores for p in machine_shares.for_runs(20, 2)][1] == (3, 4, 5)
  assert len(machine_shares.for_runs(2, 5)) == 2
  with pytest.raises(ValueError, match="--seeds_at_once is 7, but .* 6 cores"):
    machine_shares.for_runs(20, 7)


def test_on_a_tpu_a_run_has_all_chips(machine):
  machine("tpu", 8)
  assert (
    machine_shares.for_runs(5)
    == machine_shares.for_runs(5, 1)
    == [machine_shares.WHOLE]
  )
  with pytest.raises(ValueError) as caught:
    machine_shares.for_runs(5, 2)
  assert str(caught.value) == (
    "--seeds_at_once is 2, but on a TPU one run has all devices; leave"
    " --seeds_at_once out. (All of them share each batch.)"
  )


def test_none_at_a_time_is_an_error(machine):
  machine("gpu", 1)
  with pytest.raises(ValueError, match="--seeds_at_once is -1; it must be 1"):
    machine_shares.for_runs(5, -1)


@pytest.fixture
def child(monkeypatch):
  """Makes the child print so; returns what it was started with."""
  monkeypatch.setenv("JAX_PLATFORMS", "")
  started = []

  def say(stdout, stderr="", code=0):
    def run(command, env, **settings):
      started.append((command, env))
      return subprocess.CompletedProcess(command, code, stdout, stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return started

  return say


def test_a_child_is_asked_for_the_devices(child):
  started = child('a warning\n["gpu", 8]\n')
  assert machine_shares.devices() == ("gpu", 8)
  ((command, environment),) = started
  assert "jax.local_device_count()" in command[-1]
  # It looks, and takes nothing from runs that are there.
  assert environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


@pytest.mark.parametrize("stdout, code", [("", 1), ('["gpu", 1]', 1), ("", 0)])
def test_a_machine_where_jax_cannot_start(child, stdout, code):
  child(stdout, "Traceback\nRuntimeError: the TPU is in use\n", code)
  with pytest.raises(ValueError) as caught:
    machine_shares.devices()
  assert str(caught.value) == (
    "JAX cannot start on this machine: RuntimeError: the TPU is in use"
  )


def test_no_child_is_asked_where_a_cpu_was(monkeypatch):
  monkeypatch.setattr(subprocess, "run", None)
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert machine_shares.devices() == ("cpu", 1)


def test_a_real_child(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu,cpu")  # so that one is asked
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
  assert machine_shares.devices() == ("cpu", 3)
