"""What wants a GPU: done in order, ended in time, gone on with."""

import json
from pathlib import Path
import time

import pytest

from experiments import gpu_check, gpu_smoke

# A module in the place of `experiments`': what its flags say, it does.
PROGRAM = """
import os, subprocess, sys, time
flags = dict(flag[2:].split("=") for flag in sys.argv[1:])
print("begun", flush=True)
if "child" in flags:
  child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(60)"],
    start_new_session=True,
  )
  print(f"pid {child.pid}", flush=True)
if "abort" in flags:
  os.abort()
time.sleep(float(flags["sleep"]))
sys.exit(int(flags["exit"]))
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
  folder = tmp_path / "root" / "experiments"
  folder.mkdir(parents=True)
  (folder / "program.py").write_text(PROGRAM)
  monkeypatch.setattr(gpu_check, "ROOT", folder.parent)
  monkeypatch.setattr(gpu_check, "GRACE", 0.5)
  monkeypatch.setattr(gpu_check, "SMALL", 1.0)
  monkeypatch.setenv("PYTHONPATH", str(folder.parent))
  return folder.parent


def task(name, seconds=60.0, **flags):
  flags = {"sleep": 0, "exit": 0} | flags
  command = ("program", *(f"--{k}={v}" for k, v in flags.items()))
  return gpu_check.Task(name, command, seconds)


def outcomes(out):
  lines = (out / "gpu_check.jsonl").read_text().splitlines()
  return {row["name"]: row["outcome"] for row in map(json.loads, lines)}


def test_each_part_is_bounded_and_the_rest_goes_on(root, tmp_path, capsys):
  todo = [
    task("good"),
    task("fails", exit=3),
    task("partial", exit=2),
    task("aborts", abort=1),
    task("hangs", 2.5, sleep=60, child=1),
    task("last", sleep=0.01),
  ]
  assert gpu_check.execute(todo, tmp_path, time.monotonic() + 60)
  assert outcomes(tmp_path) == {
    "good": "done",
    "fails": "failed with 3",
    "partial": "stopped, to go on",
    "aborts": "failed with -6",
    "hangs": "stopped, to go on",
    "last": "done",
  }
  said = capsys.readouterr().out
  assert "begun" in said and "s  hangs: stopped, to go on" in said
  (pid,) = [line[4:] for line in said.splitlines() if line[:4] == "pid "]
  # It ran in a session of its own, and is gone, or waits to be buried.
  for _ in range(50):
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists() or stat.read_text().split()[2] == "Z":
      return
    time.sleep(0.1)
  pytest.fail(f"process {pid} still runs")


def test_what_was_done_is_not_done_again(root, tmp_path, capsys):
  todo = [task("fails", exit=3), task("good"), task("new", sleep=0.01)]
  gpu_check.execute(todo[:2], tmp_path, time.monotonic() + 60)
  capsys.readouterr()
  gpu_check.execute(todo, tmp_path, time.monotonic() + 60)
  told = capsys.readouterr().out.splitlines()
  begun = [line.split(",")[0] for line in told if "s at most" in line]
  assert begun == ["new", "fails"]  # What was never tried comes first.
  assert any("good: done before" in line for line in told)


def test_nothing_is_begun_at_the_end(root, tmp_path, capsys):
  assert not gpu_check.execute([task("a")], tmp_path, time.monotonic() + 0.5)
  assert "a: no time left" in capsys.readouterr().out


def test_its_parts(tmp_path):
  options = gpu_check._parser().parse_args(
    [f"--out={tmp_path}", "--data_dir=pack", "--peer_python=py"]
  )
  found = list(gpu_check.tasks(options))
  names = [task.name for task in found]
  assert names[:3] == [
    *("smoke", "speed/resnet18/bfloat16/128", "launches/resnet18/bfloat16")
  ]
  assert "sslt_table1/sslt-rho100" in names
  sweep = found[names.index("sslt_table1/sslt-rho100")].command
  assert {"--dtype=bfloat16", "--data_dir=pack", "--jobs=3"} <= set(sweep)
  assert "--peer_python=py" in found[1].command


def test_the_cases_of_the_smoke_test():
  full = gpu_smoke.cases("full")
  assert full[0] == "sslt/resnet18/bfloat16"
  assert {"byol/resnet8/bfloat16", "sslt/resnet18/float32"} <= set(full)
  assert len(full) == len(set(full))
  config = gpu_smoke.tiny("moco/resnet18/bfloat16", "npz:images.npz")
  assert config.pretrain.epochs == 1 and config.pretrain.queue == 32
  assert config.data.source == "npz:images.npz"
  assert config.model.name == "resnet18" and config.model.dtype == "bfloat16"


def test_a_case_that_aborts_costs_only_itself(tmp_path, monkeypatch, capsys):
  child = tmp_path / "child"
  child.write_text(
    "#!/bin/sh\nwhile read case; do case $case in\n"
    "  b*) echo 'F1 a.cc:7] Check failed: 1 == 2' >&2; echo end >&2; kill -6"
    " $$;;\n"
    '  c*) echo \'{"error": "ValueError: no", "machine": {}}\';;\n'
    '  *) echo \'{"stages": [], "machine": {}}\';;\n'
    "esac; done\n"
  )
  child.chmod(0o755)
  monkeypatch.setattr(gpu_smoke.sys, "executable", str(child))
  monkeypatch.setattr(gpu_smoke, "cases", lambda scale: list("abcd"))
  path = tmp_path / "smoke.jsonl"
  assert gpu_smoke.main([f"--out={path}"]) == 1
  said = capsys.readouterr().out.splitlines()
  assert said == [
    "a: ran",
    "b: the process ended with -6: F1 a.cc:7] Check failed: 1 == 2",
    "c: ValueError: no",
    "d: ran",
    "2 of 4 cases ran, 2 failed, 0 were not begun",
  ]
  assert gpu_smoke.main([f"--out={path}"]) == 1
  again = capsys.readouterr().out.splitlines()
  assert [line[0] for line in again[:2]] == ["b", "c"]  # Only what had failed.
