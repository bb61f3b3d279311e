import json
import subprocess
import types

import pytest

from experiments import benchmark, benchmark_page, benchmark_plots

MACHINE = {
  "device": "cpu",
  "devices": 1,
  "processor": "A Processor",
  "cores": 2,
  "load": 0.25,
  "python": "3.12",
  "versions": {"jax": "1.2"},
  "commit": "abc",
  "date": "2026-01-02 03:04",
}


def loop(speed, **more):
  return {
    "name": "a loop",
    "images": 16,
    "images_per_second": {"median": speed, "min": speed / 2, "max": speed * 2},
    "compile_seconds": 6.0,
    "memory_bytes": 2**20,
  } | more


def speed_result(**changes):
  names = ("epoch", "consistency", "pseudo_label", "refit_features", "refit")
  loops = {name: loop(1000.0) for name in names}
  loops |= {"bare": loop(2000.0, mfu=0.5, flops_per_second=1e12)}
  how = {"precision": "float32", "layout": "contiguous", "compiled": "default"}
  peer = {
    "how": how,
    "images_per_second": {"median": 250.0, "min": 200.0, "max": 300.0},
    "ratio": {"median": 4.0, "min": 3.5, "max": 4.5},
  }
  return {
    "model": "resnet8",
    "dtype": "float32",
    "batch_size": 128,
    "machine": MACHINE,
    "loops": loops,
    "peers": {"torch_best": peer},
  } | changes


RESULTS = {
  "speed": speed_result(),
  "breakdown": {
    "model": "resnet8",
    "dtype": "float32",
    "batch_size": 128,
    "machine": MACHINE,
    "step": 0.5,
    "pieces": {"augmentation": 0.125, "optimizer": 0.25},
  },
  "scaling": {
    "machine": MACHINE,
    "rows": [
      {
        "name": "split",
        "variable": "images",
        "sizes": [10, 1000],
        "seconds": [0.001, 0.1],
        "exponent": 1.0,
        "limit": 1.0,
        "memory_exponent": 0.5,
      }
    ],
  },
}


@pytest.fixture
def bench(tmp_path, monkeypatch):
  """Stands for the processes; keeps the commands that were run."""
  commands = []

  def run(command, **unused):
    return types.SimpleNamespace(stdout="cpu cpu\n")

  def popen(command, **unused):
    commands.append(command[1:])
    (kind,) = [k for k in RESULTS if f"--{k}" in command or k == "speed"][-1:]
    failed = "--model=resnet32" in command
    result = RESULTS[kind]
    stopped = {"stopped": "9 s are over"} if "--seconds=9" in command else {}
    # What is known so far, then the result; what fails says nothing.
    told = [] if failed else [result | {"loops": {}}, result | stopped]
    return types.SimpleNamespace(
      stdout=map(json.dumps, told), wait=lambda: int(failed)
    )

  monkeypatch.setattr(subprocess, "run", run)
  monkeypatch.setattr(subprocess, "Popen", popen)
  monkeypatch.setattr(benchmark, "FOLDER", tmp_path)
  return commands


def test_shapes_are_those_of_the_machine():
  cpu = {m.name: m for m in benchmark.measurements("cpu")}
  assert "speed/resnet18/bfloat16/128" in cpu
  assert not any("wrn" in name for name in cpu)
  gpu = {m.name: m for m in benchmark.measurements("gpu")}
  for batch, steps in ((128, 96), (1024, 12)):
    flags = gpu[f"speed/wrn28_2/float32/{batch}"].flags
    assert f"--batch_size={batch}" in flags and f"--steps={steps}" in flags
  assert "breakdown/resnet18/float32" in gpu


def test_measures_what_is_missing(bench, tmp_path, capsys):
  assert benchmark.main(["--only=speed/resnet8/float32"]) == 0
  assert [c[:3] for c in bench] == [["-m", "benchmarks.command", "--json"]]
  path = tmp_path / "results_cpu.jsonl"
  (record,) = benchmark.read(path).values()
  assert record["machine"] == MACHINE and record["result"] == RESULTS["speed"]
  assert record["command"].startswith(
    "python -m benchmarks.command --json --model="
  )
  assert benchmark.main(["--only=speed/resnet8"]) == 0
  assert len(bench) == 2 and "measured before" in capsys.readouterr().out
  assert benchmark.main(["--only=speed/resnet8", "--again"]) == 0
  assert len(bench) == 4
  assert list(benchmark.read(path)) == [
    "speed/resnet8/float32/128",
    "speed/resnet8/bfloat16/128",
  ]


def test_the_record_does_not_tell_where_the_other_interpreter_lies(
  bench, tmp_path
):
  place = "/home/me/torch/bin/python"
  only = "--only=speed/resnet8/float32"
  benchmark.main([only, "--peer=torch", f"--peer_python={place}"])
  (record,) = benchmark.read(tmp_path / "results_cpu.jsonl").values()
  assert record["command"].endswith(" --peer=torch --peer_python=python")
  assert bench[0][-1] == f"--peer_python={place}"


def test_a_failure_is_told_and_the_rest_kept(bench, tmp_path, capsys):
  assert benchmark.main([]) == 1
  names = list(benchmark.read(tmp_path / "results_cpu.jsonl"))
  assert names and not any("resnet32" in n for n in names)
  assert "failed: speed/resnet32/float32/128" in capsys.readouterr().err
  made = {path.name for path in tmp_path.iterdir()}
  assert made == {
    *("results_cpu.jsonl", "results_cpu.md"),
    "speed_cpu.png",
  }


def test_what_was_stopped_is_kept_and_measured_again(bench, tmp_path):
  only = "--only=speed/resnet8/bfloat16,speed/resnet8/float32"
  assert benchmark.main([only, "--seconds=9"]) == benchmark.PARTIAL
  records = benchmark.read(tmp_path / "results_cpu.jsonl")
  assert {record["partial"] for record in records.values()} == {True}
  # In the order that was asked for.
  assert [c[4] for c in bench] == ["--dtype=bfloat16", "--dtype=float32"]
  assert "--seconds" not in str([r["command"] for r in records.values()])
  assert benchmark.main([only]) == 0 and len(bench) == 4
  records = benchmark.read(tmp_path / "results_cpu.jsonl")
  assert not any("partial" in record for record in records.values())


def test_what_was_measured_elsewhere_is_taken_in(bench, tmp_path):
  only, out = "--only=speed/resnet8/float32", tmp_path / "out"
  assert benchmark.main([only, f"--out={out}"]) == 0
  assert not (tmp_path / "results_cpu.jsonl").exists()
  merge = f"--merge={out / 'results_cpu.jsonl'}"
  assert benchmark.main(["--collect", merge]) == 0 and len(bench) == 1
  found = benchmark.read(tmp_path / "results_cpu.jsonl")
  assert list(found) == ["speed/resnet8/float32/128"]


def test_print_and_collect_measure_nothing(bench, tmp_path, capsys):
  argv = ["--peer=torch", "--peer_python=py", "--print"]
  assert benchmark.main(argv) == 0
  lines = capsys.readouterr().out.splitlines()
  speeds = [line for line in lines if "--peer=torch --peer_python=py" in line]
  assert len(speeds) == 6 and len(lines) == 12
  assert benchmark.main(["--collect"]) == 0
  assert bench == [] and list(tmp_path.iterdir()) == []


def test_an_unknown_name(bench, capsys):
  assert benchmark.main(["--only=x"]) == 1
  assert "error: nothing begins with 'x'" in capsys.readouterr().err


def test_page():
  records = [
    {
      "name": f"{kind}/a" if kind != "scaling" else kind,
      "command": f"python {kind}",
      "machine": MACHINE | {"load": load},
      "result": result,
    }
    for load, (kind, result) in enumerate(RESULTS.items())
  ]
  text = benchmark_page.page(records)
  assert (
    "1 x cpu, A Processor, 2 cores. Python 3.12, jax 1.2; commit abc" in text
  )
  assert "Load at the end of each measurement: 0 to 2." in text
  lines = {
    line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
    for line in text.splitlines()
    if line.startswith("|")
  }
  assert lines["resnet8, float32, 128: PyTorch, all on the device"] == [
    *("250.0", "4.00", "3.50 to 4.50"),
    "float32, contiguous, compile default",
  ]
  assert lines["resnet8, float32, 128: a loop"] == [
    *("2,000.0", "1,000.0 to 4,000.0", "1", "50.0", "6.0", "1")
  ]
  assert lines["resnet8, float32, 128: 500.0 ms"] == ["25.0", "50.0"]
  assert lines["split"][0] == "10 to 1,000 images"
  assert "trains on 17.4 million images" in text
  assert "    python scaling" in text


def test_the_papers_schedule():
  images = benchmark_page.schedule(benchmark_page.paper())
  labeled = 12406  # 5000 to 50, exponentially.
  assert images == {
    "epoch": 200 * labeled,
    "consistency": 5 * 40 * 6 * labeled,
    "pseudo_label": 5 * 5 * labeled,
    "refit_features": 60 * labeled,
    "refit": 60 * labeled,
  }
  # Each loop compiles once.
  total = sum(images.values()) / 1000 + 5 * 6
  found = benchmark_page.minutes(RESULTS["speed"], images)
  assert found == pytest.approx(total / 60)


def test_shapes_have_names():
  assert benchmark_plots.shape(RESULTS["speed"]) == "resnet8, float32, 128"
