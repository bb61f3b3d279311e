import time

import numpy as np
import pytest

from benchmarks.pytorch import client as torch_client
from benchmarks.pytorch import loops as torch_peer
from benchmarks.pytorch import networks as torch_networks

SETTINGS = {"model": "tiny", "batch_size": 4, "image": 8, "steps": 2}


@pytest.fixture
def networks(monkeypatch):
  """Puts a small network in the place of all; keeps those that were made."""
  torch = pytest.importorskip("torch")
  made = []

  def build(name, *, num_classes, image_shape):
    nn = torch.nn
    made.append(
      nn.Sequential(
        nn.Conv2d(image_shape[2], 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, num_classes),
      )
    )
    return made[-1]

  monkeypatch.setattr(torch_networks, "build", build)
  # To compile takes a minute; what is compiled runs the same.
  monkeypatch.setattr(torch, "compile", lambda function, mode: function)
  return made


def weights(network):
  return [p.detach().numpy().copy() for p in network.parameters()]


def changed(before, network):
  pairs = zip(before, weights(network), strict=True)
  return all((old != new).any() for old, new in pairs)


def test_field():
  pytest.importorskip("torch")
  settings = SETTINGS | {"model": "resnet8", "dtype": "bfloat16"}
  # In its own process, as always: it forks, which JAX's threads forbid.
  with torch_client.start(names=("field",), **settings) as loops:
    (loop,) = loops.values()
    loop.make()
    assert loop.turn() > 0 and loop.turn() > 0
  assert loop.how["precision"] == "float32"
  assert loop.how["layout"] == "contiguous" and loop.how["compiled"] == ""
  assert loop.how["workers"] >= 1


@pytest.mark.parametrize("dtype, candidates", [("float32", 4), ("bfloat16", 6)])
def test_best(dtype, candidates, networks):
  turn, how = torch_peer.make("best", dtype=dtype, **SETTINGS)
  assert len(how["tried"]) == candidates == len(networks)
  speeds = [row["images_per_second"] for row in how["tried"]]
  fastest = how["tried"][int(np.argmax(speeds))]
  for name in ("layout", "precision", "compiled"):
    assert how[name] == fastest[name]
  if dtype == "float32":
    assert {row["precision"] for row in how["tried"]} == {"float32"}
  network = networks[int(np.argmax(speeds))]
  before = weights(network)
  assert turn() > 0 and changed(before, network)


def test_best_tells_what_did_not_work(networks, monkeypatch):
  torch = torch_networks.library()

  def fail(function, mode):
    raise RuntimeError("no compiler\nat all")

  monkeypatch.setattr(torch, "compile", fail)
  _, how = torch_peer.make("best", dtype="float32", **SETTINGS)
  assert how["compiled"] == ""
  errors = [row["error"] for row in how["tried"] if row["compiled"]]
  assert errors == ["RuntimeError: no compiler"] * 2


def test_a_compilation_that_takes_too_long_is_given_up(networks, monkeypatch):
  torch = torch_networks.library()
  compiled = []

  def slow(function, mode):
    compiled.append(mode)
    time.sleep(60)

  monkeypatch.setattr(torch, "compile", slow)
  said = []
  _, how = torch_peer.make(
    "best", dtype="float32", compile_seconds=0.2, say=said.append, **SETTINGS
  )
  assert how["compiled"] == "" and compiled == ["default"]
  assert said == how["tried"]
  assert said[-1]["error"] == "compilation took more than 0.2 s"


def test_patience():
  with torch_peer.within(60):
    pass
  with pytest.raises(torch_peer.TooLong):
    with torch_peer.within(0.05):
      time.sleep(60)
