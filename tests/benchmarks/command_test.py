import contextlib
import json
import os
import signal

import jax
import pytest

from benchmarks import breakdown, launches, measure, table, variants
from benchmarks import budget as budgets
from benchmarks import command as bench
from benchmarks.pytorch import client as torch_client
from benchmarks.seeds import compare as seeds


@pytest.mark.parametrize(
  "argv, error",
  [
    (["--batch_size=0"], "--batch_size is 0; it must be 1 or more."),
    (["--steps=0"], "--steps is 0"),
    (["--repeats=0"], "--repeats is 0"),
    (["--only=bare,x"], "--only is 'bare,x'"),
    (["--model=resnet9"], "model.name is 'resnet9'; choose one of"),
    (["--breakdown", "--repeats=0"], "--repeats is 0"),
    (["--unroll=0"], "--unroll is 0; it must be 1 or more."),
    (["--variants=x,y"], "--variants is 'x,y'; choose all or from base, "),
    (["--seeds=0"], "--seeds is 0; it must be 1 or more."),
    (["--peer=torch", "--peer_python=/no/python"], "--peer_python is"),
  ],
)
def test_mistakes_are_told_in_a_line(argv, error, capsys):
  assert bench.main(argv) == 1
  out, err = capsys.readouterr()
  assert out == "" and err.startswith(f"error: {error}")
  assert len(err.splitlines()) == 1


def test_measures(capsys, monkeypatch):
  asked = {}

  def fake(*, say, budget, **settings):
    asked.update(settings)
    assert budget.left <= 100
    say("a line", {"answer": 41})
    # Compilation is timed: it must not be read from a cache.
    assert not jax.config.jax_enable_compilation_cache
    return {"answer": 42}

  before = jax.config.jax_enable_compilation_cache
  monkeypatch.setattr(measure, "measure", fake)
  monkeypatch.setattr(table, "of_measure", lambda result: f"drawn: {result}")
  argv = ["--json", "--dtype=bfloat16", "--repeats=3", "--devices=2"]
  argv += ["--seconds=100", "--unroll=2", "--batch_norm=one_pass"]
  assert bench.main([*argv, "--only=epoch,bare"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert list(map(json.loads, lines)) == [{"answer": 41}, {"answer": 42}]
  assert asked == {
    "model": "resnet8",
    "batch_size": 128,
    "image": 32,
    "dtype": "bfloat16",
    "steps": 8,
    "repeats": 3,
    "devices": 2,
    "unroll": 2,
    "batch_norm": "one_pass",
    "only": ("epoch", "bare"),
    "peers": {},
  }
  assert bench.main(["--seconds=100"]) == 0
  assert asked["only"] == measure.USUAL
  assert capsys.readouterr().out == "a line\ndrawn: {'answer': 42}\n"
  assert jax.config.jax_enable_compilation_cache == before


def test_seeds(capsys, monkeypatch):
  asked = {}
  monkeypatch.setattr(seeds, "measure", lambda **given: asked.update(given))
  monkeypatch.setattr(seeds, "text", lambda result: "drawn")
  assert bench.main(["--seeds=4", "--image=8"]) == 0
  assert capsys.readouterr().out == "drawn\n"
  assert asked["seeds"] == 4 and asked["image"] == 8
  assert asked.keys() == {
    *("seeds", "model", "batch_size", "image", "dtype", "steps", "repeats")
  }


def test_peer(capsys, monkeypatch):
  asked, open_peers = {}, []

  @contextlib.contextmanager
  def start(**settings):
    asked.update(settings)
    open_peers.append("torch")
    yield {"torch_field": "a loop"}
    open_peers.pop()

  def fake(**settings):
    assert open_peers and settings["peers"] == {"torch_field": "a loop"}
    return {}

  monkeypatch.setattr(table, "of_measure", lambda result: "")
  monkeypatch.setattr(torch_client, "start", start)
  monkeypatch.setattr(measure, "measure", fake)
  argv = ["--peer=torch", "--peer_python=py", "--model=resnet18", "--json"]
  assert bench.main(argv) == 0
  assert not open_peers
  assert asked == {
    "python": "py",
    "model": "resnet18",
    "batch_size": 128,
    "image": 32,
    "dtype": "float32",
    "steps": 8,
    "compile_seconds": 60.0,
  }


def test_a_signal_ends_what_does_not_keep_its_figures(capsys, monkeypatch):
  def fake(**settings):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()

  monkeypatch.setattr(breakdown, "measure", fake)
  assert bench.main(["--breakdown"]) == 128 + signal.SIGTERM
  assert capsys.readouterr().err == "error: stopped by SIGTERM\n"


@pytest.mark.parametrize(
  "flag, module, only",
  [
    ("--launches", launches, None),
    ("--variants=all", variants, tuple(variants.VARIANTS)),
    ("--variants=no_graphs,ahead", variants, ("no_graphs", "ahead")),
  ],
)
def test_what_tells_as_it_goes(flag, module, only, capsys, monkeypatch):
  def fake(*, say, budget, **settings):
    assert isinstance(budget, budgets.Budget)
    say("a row", {})
    return settings

  monkeypatch.setattr(module, "measure", fake)
  monkeypatch.setattr(module, "text", lambda result: f"{result.get('only')}")
  assert bench.main([flag]) == 0
  assert capsys.readouterr().out == f"a row\n{only}\n"


@pytest.mark.parametrize(
  "flag, module, asked",
  [
    (
      "--breakdown",
      breakdown,
      {
        "model": "resnet8",
        "batch_size": 128,
        "image": 32,
        "dtype": "float32",
        "repeats": 5,
      },
    ),
  ],
)
def test_other_measurements(flag, module, asked, capsys, monkeypatch):
  monkeypatch.setattr(module, "measure", lambda **settings: [settings])
  monkeypatch.setattr(module, "text", lambda rows: f"text of {len(rows)}")
  assert bench.main([flag]) == 0
  assert capsys.readouterr().out == "text of 1\n"
  assert bench.main([flag, "--json"]) == 0
  (found,) = json.loads(capsys.readouterr().out)
  found |= {"only": tuple(found["only"])} if "only" in found else {}
  assert found == asked


def test_one_thing_at_a_time(capsys):
  with pytest.raises(SystemExit):
    bench.main(["--launches", "--breakdown"])
  assert "not allowed with" in capsys.readouterr().err
