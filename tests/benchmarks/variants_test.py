import json
import sys
import textwrap

import pytest

from benchmarks import budget as budgets
from benchmarks import variants
from ltjax.launch import machine_shares

SETTINGS = {"model": "any", "steps": 2}
# Stands for the interpreter: tells its flags, knows one of them not, hangs on
# one.
PYTHON = """
  #!{python}
  import json, os, sys, time
  flags = os.environ["XLA_FLAGS"]
  if "latency_hiding" in flags:
    print("F1130 parse_flags_from_env.cc:234] Unknown flag in XLA_FLAGS:"
          " --xla_a",
          file=sys.stderr)
    os.abort()
  if "triton" in flags:
    print("F1130 triton.cc:703] Check failed: a == b (256 vs. 32)",
          file=sys.stderr)
    os.abort()
  speed = 300.0 if "--unroll=2" in sys.argv else 200.0
  loop = [a for a in sys.argv if a.startswith("--only=")][0][7:]
  row = dict(images_per_second=dict(median=speed), compile_seconds=1.0, mfu=0.5)
  row["made_of"] = dict(kernels=5, kinds=dict(fusion=5), transposes=1, graphs=0,
                        convolutions=dict())
  print(json.dumps(dict(machine=dict(device="cpu"), loops={{}})), flush=True)
  assert "--model=any" in sys.argv and "--json" in sys.argv
  found = dict(machine=dict(device="cpu"), loops={{loop: row}})
  print(json.dumps(found), flush=True)
  if "nchw" in flags:
    time.sleep(100)
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
  path = tmp_path / "python"
  path.write_text(
    textwrap.dedent(PYTHON).lstrip().format(python=sys.executable)
  )
  path.chmod(0o755)
  monkeypatch.setattr(variants.sys, "executable", str(path))
  monkeypatch.setattr(machine_shares, "devices", lambda: ("gpu", 1))


def test_each_has_its_row(python):
  said = []
  only = ("latency_hiding", "no_triton", "unroll_2", "ahead")
  result = variants.measure(
    only=only, say=lambda line, so_far: said.append(line), **SETTINGS
  )
  assert json.loads(json.dumps(result)) == result
  rows = result["rows"]
  assert list(rows) == ["base", *only]
  assert rows["unroll_2"]["ratio"] == 1.5 and rows["ahead"]["ratio"] == 1.0
  assert rows["latency_hiding"]["error"] == "flag unknown: xla_a"
  assert rows["no_triton"]["error"].endswith("a == b (256 vs. 32)")
  assert said[3] == "unroll_2: 300.0 images/s, 1.500 of the base's"
  text = variants.text(result)
  assert "latency_hiding: flag unknown: xla_a" in text
  assert "A step of the base: 5 kernels (5 fusion), 1 transposes" in text


def test_what_was_told_before_the_end_counts(python):
  result = variants.measure(
    only=("conv_nchw", "unroll_2"), budget=budgets.Budget(6), **SETTINGS
  )
  assert result["rows"]["conv_nchw"]["ratio"] == 1.0
  assert "unroll_2" not in result["rows"]
  assert result["stopped"] == "6 s are over"


def test_flags_of_a_gpu_are_for_gpus(python, monkeypatch):
  monkeypatch.setattr(machine_shares, "devices", lambda: ("cpu", 1))
  rows = variants.measure(only=("no_graphs", "unroll_2"), **SETTINGS)["rows"]
  assert rows["no_graphs"]["error"] == "for GPUs; this is a cpu"
  assert rows["unroll_2"]["ratio"] == 1.5


def test_mistakes(python, monkeypatch):
  with pytest.raises(ValueError, match="--variants is 'x'; choose all or from"):
    variants.measure(only=("x",), **SETTINGS)
  monkeypatch.setenv("XLA_FLAGS", "--latency_hiding")
  with pytest.raises(ValueError, match="base cannot be measured: flag unknown"):
    variants.measure(only=("unroll_2",), **SETTINGS)


def test_flags_are_those_of_one_compiler():
  for variant in variants.VARIANTS.values():
    assert all(flag.startswith("--xla_gpu_") for flag in variant.xla)
